//! The first process of a virtual machine that runs end-to-end tests: `cargo xtask test --vm`.
//!
//! It prepares the system, does what the file `/vm/plan` says, one line after the other, and powers off. What
//! it has to say goes to the console, line by line, each with a mark; so the kernel's own messages
//! between them do no harm.

mod hooks;
mod plan;
mod run;
mod system;

use std::{
    env,
    process::{Command, ExitCode, id},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::wait::{WaitStatus, wait},
    unistd::Pid,
};

use plan::Order;

/// Begins every line that is meant for the outside.
const MARK: &str = "@vm";
/// Where the plan is.
const PLAN: &str = "/vm/plan";

fn main() -> ExitCode {
    if id() == 1 {
        first_process();
    }
    match follow() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{MARK} broken {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Process 1 takes over every process without a parent; so that nobody else's child is waited for
/// in its place, another process does the work.
fn first_process() -> ! {
    let worker = system::prepare().and_then(|()| {
        let own = env::current_exe().context("find the own program")?;
        Command::new(own).spawn().context("start the process that runs the tests")
    });
    match worker {
        Ok(worker) => reap_until_end(Pid::from_raw(worker.id().cast_signed())),
        Err(error) => println!("{MARK} broken {error:#}"),
    }
    system::power_off()
}

fn reap_until_end(worker: Pid) {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) if pid == worker => {
                break;
            }
            Err(Errno::ECHILD) => break,
            _ => {}
        }
    }
}

fn follow() -> Result<()> {
    println!("{MARK} kernel {}", system::kernel()?);
    for order in plan::read(PLAN)? {
        match order {
            Order::Module(file) => {
                if let Err(error) = system::load_module(&file) {
                    println!("{MARK} module {file}: {error:#}");
                }
            }
            Order::Hooks => hooks::show()?,
            Order::Run(program) => run::run(&program)?,
        }
    }
    println!("{MARK} done");
    Ok(())
}
