//! What the kernel says a process may do, and commands that run with fewer privileges.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

use crate::kernel;

/// One thread, by what stands in `/proc/PID/task/TID/status`.
#[derive(Debug)]
pub struct Thread(BTreeMap<String, String>);

impl Thread {
    fn number(&self, field: &str, radix: u32) -> Result<u64> {
        let text = self.0.get(field).with_context(|| format!("no {field}: {self:?}"))?;
        u64::from_str_radix(text, radix).with_context(|| format!("{field}: {text:?}"))
    }

    fn words(&self, field: &str) -> Result<impl Iterator<Item = &str>> {
        Ok(self.0.get(field).with_context(|| format!("no {field}: {self:?}"))?.split_whitespace())
    }

    /// A set of capabilities (`CapEff`, `CapPrm`, `CapInh`, `CapBnd`, `CapAmb`), a bit each.
    pub fn capabilities(&self, set: &str) -> Result<u64> {
        self.number(set, 16)
    }
}

/// The processes that process `pid` has started, and those that these have.
pub fn descendants(pid: u32) -> Result<Vec<u32>> {
    let mut found = children(pid)?;
    let mut next = 0;
    while let Some(child) = found.get(next) {
        found.extend(children(*child)?);
        next += 1;
    }
    Ok(found)
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").context("list the processes")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if parent.is_some_and(|parent| parent.trim() == pid.to_string()) {
            children.push(child);
        }
    }
    Ok(children)
}

/// The threads of process `pid`.
pub fn threads(pid: u32) -> Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).context("list the threads")? {
        let path = entry?.path().join("status");
        let Ok(text) = fs::read_to_string(&path) else { continue }; // it has just ended
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        threads.push(Thread(fields.collect()));
    }
    Ok(threads)
}

/// Fails unless each thread of `pid` is an unprivileged user's, in no further group, has no capability in any set
/// but those of the mask `kept` among the effective and permitted ones, can gain none, and is under a filter.
/// Returns the number of threads.
pub fn ensure_given_up(pid: u32, kept: u64) -> Result<usize> {
    for thread in threads(pid)? {
        for ids in ["Uid", "Gid"] {
            let all: BTreeSet<&str> = thread.words(ids)?.collect();
            ensure!(all.len() == 1 && !all.contains("0"), "{ids} is {all:?}: {thread:?}");
        }
        ensure!(thread.words("Groups")?.next().is_none(), "in further groups: {thread:?}");
    }
    ensure_kept(pid, kept)
}

/// The same of a process that may be root's.
pub fn ensure_kept(pid: u32, kept: u64) -> Result<usize> {
    let threads = threads(pid)?;
    for thread in &threads {
        for (set, expected) in
            [("CapEff", kept), ("CapPrm", kept), ("CapInh", 0), ("CapBnd", 0), ("CapAmb", 0)]
        {
            let found = thread.capabilities(set)?;
            ensure!(found == expected, "{set} is {found:x}, not {expected:x}: {thread:?}");
        }
        ensure!(thread.number("NoNewPrivs", 10)? == 1, "may gain privileges: {thread:?}");
        ensure!(thread.number("Seccomp", 10)? == 2, "no filter of system calls: {thread:?}");
    }
    ensure!(!threads.is_empty(), "no threads");
    Ok(threads.len())
}

/// What this kernel makes every reader of BPF maps keep: before Linux 5.19, where
/// `kernel.unprivileged_bpf_disabled` is not 0, `CAP_BPF`.
pub fn kept_for_maps() -> Result<u64> {
    const BPF: u64 = 1 << 39;
    // Without the setting every user may call bpf(2).
    let disabled = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    let disabled = disabled.is_ok_and(|value| value.trim() != "0");
    Ok(if kernel::version()? < (5, 19) && disabled { BPF } else { 0 })
}

/// Whether this kernel counts BPF maps as locked memory of their user: before Linux 5.11.
pub fn counts_maps_as_locked() -> Result<bool> {
    Ok(kernel::version()? < (5, 11))
}

/// The command line before a program that is to run as nobody with these capabilities only, as
/// setpriv(1) writes them: `+bpf,+perfmon`. What it may lock of memory is for prlimit(1) to say.
pub fn as_nobody_with(capabilities: &str, memory: Option<&str>) -> Vec<String> {
    let only = ["-all", capabilities].join(if capabilities.is_empty() { "" } else { "," });
    let limit = memory.map(|limit| ["prlimit".to_owned(), format!("--memlock={limit}")]);
    let mut words: Vec<String> = limit.into_iter().flatten().collect();
    words.extend(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(Into::into));
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        words.push(format!("{set}={only}"));
    }
    words.push("--".into());
    words
}

/// Lets every user make files in `directory`.
pub fn open_to_all(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777))
        .with_context(|| format!("open {} to all", directory.display()))
}
