//! Half an hour of traffic: memory, losses, CPU.

use std::{
    fmt::Write as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use tests::{
    lab::Lab,
    load::{self, GreetingServer},
    tracer::Tracer,
};

use crate::{
    command_line::CommandLine,
    plot::{self, Axis, Line},
    process::{cpu, megabytes, resident},
};

const FULL_S: usize = 1_800;
const PER_SECOND: u32 = 300;

pub(crate) fn measure(options: &CommandLine) -> Result<String> {
    let lab = Lab::up()?;
    let server = GreetingServer::start(&lab)?;
    let tracer = Tracer::start(&lab)?;
    let seconds = options.scaled(FULL_S).max(10);
    let time = Duration::from_secs(seconds as u64);
    let start = Instant::now();
    let mut memory = Vec::new();
    let load = thread::scope(|scope| {
        let load = scope.spawn(|| load::generate(&lab, PER_SECOND, time));
        while start.elapsed() < time {
            memory.push((start.elapsed().as_secs_f64(), resident(tracer.pid())? as f64 / 1e6));
            thread::sleep(Duration::from_secs(1).min(time / 20));
        }
        load.join().map_err(|_| anyhow!("the load panicked"))?
    })?;
    lab.wait_for_ends(Duration::from_secs(60))?;
    drop(server);
    let (spent, last) = (cpu(tracer.pid())?, resident(tracer.pid())?);
    let run = tracer.stop()?;
    let recorded = run.recording.connections.len() as u64;
    let missing = run.recording.trust("connections_lost")?.unwrap_or(0);
    let mut text = format!(
        "{seconds} s at {:.0} sessions per second: {} sessions, {recorded} recorded, {missing} said to be lost; \
         {} ms CPU of smtptrace; resident at the end {}.\n",
        load.rate(),
        load.connections,
        spent.as_millis(),
        megabytes(last),
    );
    let at = |share: f64| {
        let wanted = share * seconds as f64;
        memory.iter().find(|(at, _)| *at >= wanted).or(memory.last()).map_or(0.0, |it| it.1)
    };
    writeln!(text, "\n| after | resident, MB |\n|---|---|")?;
    for share in [0.01, 0.1, 0.25, 0.5, 0.75, 1.0] {
        writeln!(text, "| {:.0} s | {:.1} |", share * seconds as f64, at(share))?;
    }
    if let Some(directory) = options.document.as_deref().and_then(Path::parent) {
        let title = "Resident memory, MB, by seconds";
        let lines = [Line::new("smtptrace", memory)];
        plot::write(&directory.join("plots/soak.svg"), title, Axis::Linear, &lines)?;
        writeln!(text, "\n![{title}](plots/soak.svg)")?;
    }
    Ok(text)
}
