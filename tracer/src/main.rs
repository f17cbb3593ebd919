//! smtptrace: what outbound SMTP connections cost, how they live and how they end.
//!
//! The flow: `probe` sets the kernel side up, `kernel` hands over what it recorded, `tracer_analysis`
//! turns that into connections and a report, `outlets` and `sink` write it.

mod cli;
mod clock;
mod doctor;
mod generate;
mod kernel;
mod outlets;
mod output;
mod probe;
mod recording;
mod report;
mod sink;
mod trace;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// Exit status of wrong usage and of run-time errors; clap uses the same.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Some(Command::Report(args)) => report::run(args),
        Some(Command::Doctor) => doctor::run(),
        Some(Command::Generate(args)) => generate::run(&args.what),
        None => trace::run(&cli.trace),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smtptrace: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
