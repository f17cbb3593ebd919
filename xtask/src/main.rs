//! Sets up, builds, runs and tests smtptrace: `cargo xtask help`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod apt;
mod checks;
mod commands;
mod dist;
mod invocation;
mod machine;
mod plan;
mod python;
mod static_build;
mod times;
mod toolchain;
mod vm;
mod workspace;

/// Sets up, builds, runs and tests smtptrace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing for building
    Setup,
    /// Say what is there and what is missing for building, running and testing; install nothing
    Doctor,
    /// Set up, build, and run smtptrace as root
    Run {
        /// What smtptrace is called with
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Set up, build, and run the demo of smtptrace as root
    Demo {
        /// What `smtptrace demo` is called with
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Set up, then build what is shipped into `target/dist`
    Dist {
        /// For this processor only; can be repeated
        #[arg(long = "arch", value_name = "ARCH")]
        arches: Vec<static_build::Arch>,
        /// Build and pack the commit once more, in another directory, and compare
        #[arg(long)]
        verify: bool,
        /// Sign SHA256SUMS with this private key of OpenSSH
        #[arg(long, value_name = "KEY")]
        sign: Option<PathBuf>,
    },
    /// Set up, build, and measure smtptrace beside its peers; writes docs/performance.md
    Bench {
        /// Parts to measure, and options; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Set up, then check format, lints and unit tests: needs no root
    Check,
    /// Set up, build, and run the end-to-end tests whose names contain FILTER, with a binary that is built quickly; or
    /// all, with the static one that is shipped
    E2e {
        /// Take the static binary for some tests, too
        #[arg(long)]
        shipped: bool,
        /// A part of the name of tests, for example `endings` or `endings::client_is_killed`
        #[arg(value_name = "FILTER")]
        filters: Vec<OsString>,
    },
    /// Set up, build, and run end-to-end tests on other kernels, in virtual machines
    Vm {
        /// Kernels, for example `5.10-x86_64`, and a module of tests, for example `tiers`; all if none is named
        #[arg(value_name = "KERNEL|FILTER")]
        words: Vec<String>,
        /// Only the kernels and modules that `cargo xtask test` runs
        #[arg(long)]
        quick: bool,
    },
    /// Set up, then run every check and every test but the long tier; the last line is their sum
    Test {
        /// List all tests with tier and group, and run none
        #[arg(long)]
        list: bool,
    },
    /// Set up, then run the fuzz targets, or those whose names contain FILTER
    Fuzz {
        /// A part of the name of targets, for example `recording`
        #[arg(value_name = "FILTER")]
        filters: Vec<String>,
        /// Minutes for each
        #[arg(long, value_name = "MINUTES", default_value_t = 5)]
        minutes: u32,
    },
    /// Set up, then run what takes hours; writes docs/long.md
    Long {
        /// Parts to run; all if none is named
        #[arg(value_name = "PART")]
        parts: Vec<commands::long::Part>,
        /// Minutes for each fuzz target
        #[arg(long, value_name = "MINUTES", default_value_t = 5)]
        minutes: u32,
    },
}

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command {
        Command::Setup => commands::setup::run(),
        Command::Doctor => Ok(commands::doctor::run()),
        Command::Run { args } => commands::run::run(&args),
        Command::Demo { args } => {
            commands::run::run(&[vec![OsString::from("demo")], args].concat())
        }
        Command::Bench { args } => commands::bench::run(&args),
        Command::Dist { arches, verify, sign } => {
            commands::dist::run(&arches, verify, sign.as_deref())
        }
        Command::Check => commands::check::run(),
        Command::E2e { shipped, filters } => commands::e2e::run(&filters, shipped),
        Command::Vm { words, quick } => commands::vm::run(&words, quick),
        Command::Test { list: false } => commands::test::run(),
        Command::Test { list: true } => commands::list::run(),
        Command::Fuzz { filters, minutes } => commands::fuzz::run(&filters, minutes),
        Command::Long { parts, minutes } => commands::long::run(&parts, minutes),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(2)
    })
}
