//! Sets up, builds, runs and tests smtptrace: `cargo xtask help`.

use std::ffi::OsString;
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
    },
    /// Set up, build, and measure smtptrace beside its peers; writes docs/performance.md
    Bench {
        /// Parts to measure, and options; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Set up, then run every check and every test; the last line is their sum
    Test {
        /// Run only the end-to-end tests on other kernels, in virtual machines: on these, or on all
        #[arg(long, num_args = 0.., value_name = "KERNEL")]
        vm: Option<Vec<String>>,
        /// On other kernels: only the tests that do not take long; without names, on three kernels
        #[arg(long, requires = "vm")]
        quick: bool,
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
        Command::Dist { arches, verify } => commands::dist::run(&arches, verify),
        Command::Test { vm: None, .. } => commands::test::run(),
        Command::Test { vm: Some(kernels), quick } => {
            commands::test::run_on_kernels(&kernels, quick)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(2)
    })
}
