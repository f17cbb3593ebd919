//! Starting, idling, and reading recordings.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use tests::lab::Lab;

use crate::{
    command_line::CommandLine,
    process::{cpu, megabytes, wake_ups},
    recording,
    statistics::Rounds,
    tool::Tool,
};

pub(crate) fn measure(options: &CommandLine) -> Result<String> {
    let lab = Lab::up()?;
    let mut text = String::new();
    writeln!(text, "| what | figure |\n|---|---|")?;
    starting(&mut text, options, &lab)?;
    idling(&mut text, options, &lab)?;
    reading(&mut text, options, &lab)?;
    Ok(text)
}

/// From the start of the process until the header is in the recording, which comes after attaching.
fn starting(text: &mut String, options: &CommandLine, lab: &Lab) -> Result<()> {
    let mut times = Vec::new();
    let mut cpus = Vec::new();
    for _ in 0..options.rounds * 2 {
        let start = Instant::now();
        let running = Tool::Smtptrace.start(lab, lab.port())?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        cpus.push(cpu(running.pid())?.as_secs_f64() * 1e3);
    }
    writeln!(text, "| start to attached, ms | {:.0} |", Rounds::new(times))?;
    writeln!(text, "| CPU time of that, ms | {:.0} |", Rounds::new(cpus))?;
    Ok(())
}

fn idling(text: &mut String, options: &CommandLine, lab: &Lab) -> Result<()> {
    let seconds = options.scaled(30);
    let running = Tool::Smtptrace.start(lab, lab.port())?;
    // It polls often until it has seen a while of silence.
    thread::sleep(Duration::from_secs(5));
    let (wakes, before) = (wake_ups(running.pid())?, cpu(running.pid())?);
    thread::sleep(Duration::from_secs(seconds as u64));
    let wakes = wake_ups(running.pid())? - wakes;
    let used = cpu(running.pid())?.saturating_sub(before);
    writeln!(
        text,
        "| wake-ups per second without traffic | {:.2} |",
        wakes as f64 / seconds as f64
    )?;
    writeln!(text, "| CPU time in {seconds} s without traffic, ms | {} |", used.as_millis())?;
    Ok(())
}

fn reading(text: &mut String, options: &CommandLine, lab: &Lab) -> Result<()> {
    for (connections, destinations) in [(1_000_000, 20), (1_000_000, 1_000)] {
        let connections = options.scaled(connections);
        let file = lab.file("long.jsonl");
        recording::make(&file, connections, destinations)?;
        let size = std::fs::metadata(&file)?.len();
        let used = (0..3).map(|_| recording::report(&file)).collect::<Result<Vec<_>>>()?;
        let rate = |time: Duration| connections as f64 / time.as_secs_f64() / 1e3;
        let rates = Rounds::new(used.iter().map(|used| rate(used.time)).collect());
        let per_cpu = Rounds::new(used.iter().map(|used| rate(used.cpu)).collect());
        let memory = used.iter().map(|it| it.memory).max().unwrap_or(0);
        writeln!(
            text,
            "| `report`, {connections} connections ({}), {} destinations: thousand records per second; per \
             second of CPU; most memory | {rates:.0}; {per_cpu:.0}; {} |",
            megabytes(size),
            2 * destinations,
            megabytes(memory)
        )?;
        std::fs::remove_file(&file)?;
    }
    Ok(())
}
