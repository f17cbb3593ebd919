//! smtptrace: what outbound SMTP connections cost, how they live and how they end.
//!
//! A library so that the fuzz targets reach what reads text of strangers (`fuzz`); `main.rs` is the program.
//!
//! The flow: `probe` sets the kernel side up, `kernel` hands over what it recorded, `tracer_analysis`
//! turns that into connections and a report, `outlets` and `sink` write it.

mod check;
mod cli;
mod clock;
mod compare;
mod demo;
mod diagnostics;
mod doctor;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod generate;
mod input;
mod journal;
mod kernel;
mod listen;
mod live;
mod memory;
mod metrics;
mod names;
mod origins;
mod otlp;
mod outlets;
mod output;
mod privilege;
mod probe;
mod recording;
mod replay;
mod report;
mod resolver;
mod self_check;
mod sink;
mod status;
mod trace;
mod what_if;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};
use status::Status;

/// Runs the command that the arguments of this process name. Returns its exit status.
pub fn run() -> ExitCode {
    resolver::use_linked_ones();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return status::usage(&error),
    };
    let result = match &cli.command {
        Some(Command::Report(args)) => report::run(args),
        Some(Command::WhatIf(args)) => what_if::run(args).map(|()| Status::Done),
        Some(Command::Compare(args)) => compare::run(args).map(|()| Status::Done),
        Some(Command::Check(args)) => return check::run(args),
        Some(Command::Demo(args)) => demo::run(args),
        Some(Command::Doctor(args)) => doctor::run(args).map(|()| Status::Done),
        Some(Command::Generate(args)) => generate::run(&args.what).map(|()| Status::Done),
        None => trace::run(&cli.trace),
    };
    status::exit_code(result)
}
