//! Measures what smtptrace costs, beside its peers and beside the least that is possible, and writes
//! the tables of `docs/performance.md`. `cargo xtask bench` builds and runs it.
//!
//! Each part is a file of `parts/`. A part makes its traffic in namespaces of its own, lets a
//! [`tool::Tool`] trace it, and returns text for the document.

mod command_line;
mod crowd;
mod document;
mod floor;
mod parts;
mod plot;
mod process;
mod programs;
mod recording;
mod statistics;
mod tool;
mod traffic;

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use command_line::CommandLine;

fn main() -> ExitCode {
    match run(&CommandLine::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &CommandLine) -> Result<()> {
    if let Some(address) = options.hold {
        return crowd::hold(address, options.connections);
    }
    ensure!(nix::unistd::geteuid().is_root(), "it loads BPF programs: run it as root");
    mount_tracefs()?;
    for part in options.parts() {
        eprintln!("\n=== {part}");
        let text = part.measure(options).with_context(|| format!("measure {part}"))?;
        println!("{text}");
        if let Some(file) = &options.document {
            document::replace(file, part.name(), &text)?;
        }
    }
    Ok(())
}

/// Some peers need tracefs. Where it is not mounted, it is for this process and its children only.
fn mount_tracefs() -> Result<()> {
    const TRACEFS: &str = "/sys/kernel/tracing";
    let nothing = None::<&str>;
    if Path::new(TRACEFS).join("events").exists() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).context("leave the mounts of the machine alone")?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)
        .context("leave the mounts of the machine alone")?;
    if let Err(error) = mount(nothing, TRACEFS, Some("tracefs"), MsFlags::empty(), nothing) {
        eprintln!("bench: cannot mount tracefs ({error}); the peers that need it will say so");
    }
    Ok(())
}
