//! Boots a kernel in QEMU and reads its console.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::emulator::Emulator;
use crate::invocation::Invocation;
use crate::static_build::Arch;

/// After so long without a word from the machine, it hangs.
const SILENCE: Duration = Duration::from_secs(300);

/// What is booted.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    /// What emulates it.
    pub(super) emulator: &'a Emulator,
    /// What it is.
    pub(super) arch: Arch,
    /// Its kernel.
    pub(super) image: &'a Path,
    /// Its file system.
    pub(super) initramfs: &'a Path,
}

/// A word on the kernel's command line by which tests know that the machine is theirs (`tests::prerequisite`).
const OWN_MACHINE: &str = "smtptrace.own_machine";

/// The call that boots `machine`. Everything is emulated: that works in every virtual machine and
/// container, and without any right.
fn call(machine: &Machine<'_>) -> Invocation {
    let (board, console): (&[&str], _) = match machine.arch {
        Arch::X86_64 => (&["-M", "q35"], "ttyS0"),
        Arch::Aarch64 => (&["-M", "virt", "-cpu", "cortex-a72"], "ttyAMA0"),
    };
    let call = machine.emulator.call();
    call.args(board)
        .args(["-accel", "tcg", "-smp", "2", "-m", "1536", "-nic", "none", "-nodefaults"])
        .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"])
        .arg("-kernel")
        .arg(machine.image)
        .arg("-initrd")
        .arg(machine.initramfs)
        .arg("-append")
        // What is less than an error would mix with the lines of the tests. Guards against speculation, which an
        // emulated processor does not do, would make every system call several times as slow.
        .arg(format!(
            "console={console} loglevel=4 mitigations=off panic=-1 oops=panic rdinit=/init \
             {OWN_MACHINE}"
        ))
}

/// Boots `machine` and hands every line of the console to `on_line`. Returns the reason if it had to be stopped: it was
/// silent for long, or ran longer than `limit`.
pub(super) fn boot(
    machine: &Machine<'_>,
    limit: Duration,
    on_line: impl FnMut(&str),
) -> Result<Option<String>> {
    let call = call(machine);
    let mut child = call
        .command()
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{call}` could not be started"))?;
    let lines = child.stdout.take().map(lines);
    let outcome = match lines {
        Some(lines) => read(&lines, Instant::now() + limit, on_line),
        None => Some("it has no console".into()),
    };
    end(&mut child);
    Ok(outcome)
}

/// Reads to the end of the console, or to a limit: then says which.
fn read(
    lines: &Receiver<String>,
    deadline: Instant,
    mut on_line: impl FnMut(&str),
) -> Option<String> {
    loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) => on_line(&line),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {
                return Some(format!("it said nothing for {} s", SILENCE.as_secs()));
            }
        }
        if Instant::now() > deadline {
            return Some("it ran longer than its time limit".into());
        }
    }
}

/// Ends the machine, if it has not ended by itself.
fn end(child: &mut Child) {
    // Both fail only if it is gone already.
    let _ = child.kill();
    let _ = child.wait();
}

fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    receiver
}
