//! Runs one test program and says line by line what it prints.

use std::{
    io::{BufRead as _, BufReader, PipeReader, pipe},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{MARK, plan::Program};

/// How long output is awaited after the end of a program: a server that it left may keep the pipe open.
const GRACE: Duration = Duration::from_secs(3);

/// Runs `program` to its end, or to its time limit. It fails only if it cannot be started.
pub(crate) fn run(program: &Program) -> Result<()> {
    let Program { name, limit, file, arguments } = program;
    println!("{MARK} begin {name}");
    let begin = Instant::now();
    let (reader, writer) = pipe().context("make a pipe")?;
    let mut command = Command::new(file);
    command.args(arguments).stdin(Stdio::null()).process_group(0);
    command.stdout(writer.try_clone().context("share the pipe")?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("start {file}"))?;
    // The command holds the ends of the pipe that are written to.
    drop(command);
    let ending = follow(&mut child, &lines(reader), begin + *limit)?;
    println!("{MARK} end {name} {:.1} {ending}", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Prints the lines of `child` until it has ended; says how it did.
fn follow(child: &mut Child, lines: &Receiver<String>, deadline: Instant) -> Result<String> {
    let mut ended: Option<(String, Instant)> = None;
    loop {
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => println!("{MARK} | {line}"),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let ending =
                    ended.map_or_else(|| child.wait().map(|it| it.to_string()), |it| Ok(it.0));
                return ending.context("wait for the program");
            }
        }
        match &ended {
            Some((ending, since)) if since.elapsed() > GRACE => return Ok(ending.clone()),
            Some(_) => {}
            None if Instant::now() > deadline => {
                // It may have ended in this moment.
                let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
                child.wait().context("wait for the killed program")?;
                ended = Some(("killed at its time limit".into(), Instant::now()));
            }
            None => {
                let status = child.try_wait().context("wait for the program")?;
                ended = status.map(|status| (status.to_string(), Instant::now()));
            }
        }
    }
}

/// Reads lines, whatever bytes they have.
fn lines(reader: PipeReader) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line);
            if sender.send(text.trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    receiver
}
