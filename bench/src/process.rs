//! What a process uses, by /proc.

use std::{
    fs,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// Resident memory in bytes, now.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    kilobytes(pid, "VmRSS:").map(|it| it * 1024)
}

fn kilobytes(pid: u32, field: &str) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).with_context(|| format!("no {field} in {file}"))
}

/// Memory of the BPF maps that it has open, in bytes, as the kernel accounts it.
pub(crate) fn maps(pid: u32) -> Result<u64> {
    let directory = format!("/proc/{pid}/fdinfo");
    let files = fs::read_dir(&directory).with_context(|| format!("read {directory}"))?;
    // A map that two descriptors name counts once.
    let mut sizes = std::collections::BTreeMap::new();
    for file in files.flatten() {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        };
        if let (Some(id), Some(size)) = (field("map_id:"), field("memlock:")) {
            sizes.insert(id, size);
        }
    }
    Ok(sizes.values().sum())
}

/// CPU time of all its threads so far.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let file = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    // The name, in parentheses, may hold spaces. After it: state is the first, utime the 12th.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let ticks: u64 = fields.take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10)) // USER_HZ is 100 on every architecture of today
}

/// CPU time that all of the machine has spent so far: in processes, in the kernel and in interrupts; neither idle
/// nor stolen.
pub(crate) fn machine_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).filter_map(|it| it.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal: proc_stat(5)
    let spent: u64 = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum();
    Ok(Duration::from_millis(spent * 10))
}

/// How often its threads have gone to sleep and been woken.
pub(crate) fn wake_ups(pid: u32) -> Result<u64> {
    let directory = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&directory).with_context(|| format!("read {directory}"))?;
    let mut sum = 0;
    for task in tasks.flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// What a process used until its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// Wall clock.
    pub(crate) time: Duration,
    /// CPU time.
    pub(crate) cpu: Duration,
    /// Most resident memory, in bytes.
    pub(crate) memory: u64,
}

/// Waits for the end of `process`, which must be a good one. CPU time and memory are read every 20 ms, so
/// the last of them may be missed.
pub(crate) fn watch(mut process: Child) -> Result<Used> {
    let start = Instant::now();
    let mut used = Used { time: Duration::ZERO, cpu: Duration::ZERO, memory: 0 };
    loop {
        let ended = process.try_wait().context("wait for it")?;
        used.time = start.elapsed();
        if let Some(status) = ended {
            ensure!(status.success(), "it ended with {status}");
            return Ok(used);
        }
        if let (Ok(cpu), Ok(memory)) = (cpu(process.id()), kilobytes(process.id(), "VmHWM:")) {
            used.cpu = used.cpu.max(cpu);
            used.memory = used.memory.max(memory * 1024);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes as megabytes (10^6), to one digit.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
