//! Storms, slow readers, full maps: what is lost, and whether it is said.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use nix::sys::signal::Signal;
use tests::{
    lab::Lab,
    load::{self, GreetingServer},
    tracer::Tracer,
};

use crate::{
    command_line::CommandLine,
    crowd::{self, Crowd},
};

const PATIENCE: Duration = Duration::from_secs(120);

/// Connections that are open at the same time, and room for them.
const OPEN: usize = 100_000;
const ROOM: &str = "131072";

const METHOD: &str = "\
Method: sessions (connect, greeting, QUIT) as fast as asked or as the machine can, counted by the client.
`recorded + said lost` must be that count. After the hardship a second of ordinary traffic must be recorded
whole, without a restart.";

/// What makes it hard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hardship {
    Storm,
    OnePage,
    Stopped,
    FullMap,
    BusyCores,
}

impl Hardship {
    const ALL: [Self; 5] =
        [Self::Storm, Self::OnePage, Self::Stopped, Self::FullMap, Self::BusyCores];

    const fn name(self) -> &'static str {
        match self {
            Self::Storm => "storm",
            Self::OnePage => "storm, ring buffer of one page",
            Self::Stopped => "storm, smtptrace stopped (SIGSTOP) for 10 s",
            Self::FullMap => "storm, room for 2 connections",
            Self::BusyCores => "storm, each core busy with two other programs",
        }
    }

    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::OnePage => &["--ring-size", "4096"],
            Self::FullMap => &["--max-connections", "2"],
            Self::Storm | Self::Stopped | Self::BusyCores => &[],
        }
    }
}

pub(crate) fn measure(options: &CommandLine) -> Result<String> {
    let mut text = format!("{METHOD}\n\n");
    writeln!(text, "| hardship | sessions | per second | recorded | said lost | sum | after it |")?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for hardship in Hardship::ALL {
        eprintln!("{}", hardship.name());
        text.push_str(&storm(options, hardship)?);
    }
    eprintln!("crowd");
    text.push_str(&crowd(options)?);
    Ok(text)
}

/// Many connections that are open at the same time, and end together.
fn crowd(options: &CommandLine) -> Result<String> {
    let lab = Lab::up()?;
    let count = crowd::that_fit(options.scaled(OPEN))?;
    let tracer =
        Tracer::start_with(&lab, &["--max-destinations", "100", "--max-connections", ROOM])?;
    let crowd = Crowd::open(&lab, count)?;
    let start = Instant::now();
    drop(crowd);
    lab.wait_for_ends(PATIENCE)?;
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let name = format!("{count} open at a time, then all closed");
    afterwards(&lab, tracer, &name, count as u64, rate)
}

fn storm(options: &CommandLine, hardship: Hardship) -> Result<String> {
    let lab = Lab::up()?;
    let server = GreetingServer::start(&lab)?;
    let mut arguments = vec!["--max-destinations", "100"];
    arguments.extend(hardship.arguments());
    let tracer = Tracer::start_with(&lab, &arguments)?;
    let time = Duration::from_secs(options.scaled(20).max(12) as u64);
    let over = AtomicBool::new(false);
    let load = thread::scope(|scope| {
        if hardship == Hardship::BusyCores {
            let cores = thread::available_parallelism().map_or(2, usize::from);
            for _ in 0..2 * cores {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
        }
        let load = scope.spawn(|| load::generate(&lab, 5_000, time));
        if hardship == Hardship::Stopped {
            thread::sleep(Duration::from_secs(1));
            tracer.signal(Signal::SIGSTOP)?;
            thread::sleep(Duration::from_secs(10));
            tracer.signal(Signal::SIGCONT)?;
        }
        let load = load.join().map_err(|_| anyhow!("the load panicked"))?;
        over.store(true, Ordering::Relaxed);
        load
    })?;
    drop(server);
    afterwards(&lab, tracer, hardship.name(), load.connections, load.rate())
}

/// Ordinary traffic after `sessions` of hardship at `rate` per second; then the row on both.
fn afterwards(lab: &Lab, tracer: Tracer, name: &str, sessions: u64, rate: f64) -> Result<String> {
    lab.wait_for_ends(PATIENCE)?;
    let before = recorded(&tracer)?;
    let server = GreetingServer::start(lab)?;
    let after = load::generate(lab, 100, Duration::from_secs(1))?;
    lab.wait_for_ends(PATIENCE)?;
    drop(server);
    let run = tracer.stop()?;
    let all = run.recording.connections.len() as u64;
    let lost = run.recording.trust("connections_lost")?.unwrap_or(0);
    let total = sessions + after.connections;
    let verdict = if all + lost == total { "right" } else { "WRONG" };
    Ok(format!(
        "| {name} | {sessions} | {rate:.0} | {} | {lost} | {verdict} ({} of {total}) | {} of {} |\n",
        all - after.connections.min(all),
        all + lost,
        all.saturating_sub(before).min(after.connections),
        after.connections,
    ))
}

/// Records in the file so far, once no more come.
fn recorded(tracer: &Tracer) -> Result<u64> {
    let mut last = None;
    loop {
        let now = tracer.recording_so_far()?.connections.len() as u64;
        if last == Some(now) {
            return Ok(now);
        }
        last = Some(now);
        thread::sleep(Duration::from_secs(3));
    }
}
