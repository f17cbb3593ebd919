//! Runs a command, showing its standard output at once and reading it at the same time.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::invocation::Invocation;

/// How often it is asked, while nothing is printed, whether the command has ended.
const POLL: Duration = Duration::from_millis(200);
/// How long output is awaited after the end of the command. A server that a test left behind can
/// keep the output open for ever.
const GRACE: Duration = Duration::from_secs(3);

/// Runs `call` in `directory`, copies its standard output to `shown` and hands every line of it to
/// `on_line`.
pub(crate) fn run(
    call: &Invocation,
    directory: &Path,
    shown: &mut impl Write,
    mut on_line: impl FnMut(&str),
) -> Result<ExitStatus> {
    let mut child = call
        .command()
        .current_dir(directory)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{call}` could not be started; is it installed?"))?;
    let (sender, chunks) = channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || read_chunks(stdout, &sender));
    }
    let mut lines = Lines::default();
    let mut ended = None;
    loop {
        match next(&chunks) {
            Next::Chunk(chunk) => {
                show(&chunk, shown);
                lines.add(&chunk, &mut on_line);
            }
            Next::Nothing => match ended {
                None => ended = child.try_wait()?.map(|_| Instant::now()),
                Some(since) if since.elapsed() > GRACE => break,
                Some(_) => {}
            },
            Next::End => break,
        }
    }
    if lines.finish(&mut on_line) {
        show(b"\n", shown);
    }
    child.wait().with_context(|| format!("`{call}` was started, but its end was not seen"))
}

enum Next {
    Chunk(Vec<u8>),
    Nothing,
    End,
}

fn next(chunks: &Receiver<Vec<u8>>) -> Next {
    match chunks.recv_timeout(POLL) {
        Ok(chunk) => Next::Chunk(chunk),
        Err(RecvTimeoutError::Timeout) => Next::Nothing,
        Err(RecvTimeoutError::Disconnected) => Next::End,
    }
}

fn read_chunks(mut stdout: ChildStdout, sender: &Sender<Vec<u8>>) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = stdout.read(&mut buffer) {
        if sender.send(buffer[..length].to_vec()).is_err() {
            return;
        }
    }
}

/// Passes `bytes` on. Nothing can be done if nobody reads them: the tests go on, and the exit code
/// still tells how they ended.
fn show(bytes: &[u8], shown: &mut impl Write) {
    let _ = shown.write_all(bytes).and_then(|()| shown.flush());
}

/// Puts lines together from chunks that end anywhere.
#[derive(Default)]
struct Lines {
    unfinished: Vec<u8>,
}

impl Lines {
    fn add(&mut self, chunk: &[u8], on_line: &mut impl FnMut(&str)) {
        self.unfinished.extend_from_slice(chunk);
        while let Some(end) = self.unfinished.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            on_line(String::from_utf8_lossy(&line).trim_end());
        }
    }

    /// Hands over a last line without an end, and says whether there was one.
    fn finish(self, on_line: &mut impl FnMut(&str)) -> bool {
        if self.unfinished.is_empty() {
            return false;
        }
        on_line(&String::from_utf8_lossy(&self.unfinished));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together() {
        let mut seen = Vec::new();
        let mut on_line = |line: &str| seen.push(line.to_owned());
        let mut lines = Lines::default();
        for chunk in ["test a", " ... ok\ntest b ... ok\r\n", "\nend"] {
            lines.add(chunk.as_bytes(), &mut on_line);
        }
        assert!(lines.finish(&mut on_line));
        assert_eq!(seen, ["test a ... ok", "test b ... ok", "", "end"]);
    }

    #[test]
    fn output_and_exit_code_arrive() {
        let call = Invocation::new("sh").args(["-c", "echo one; echo two; exit 3"]);
        let (mut shown, mut seen) = (Vec::new(), Vec::new());
        let on_line = |line: &str| seen.push(line.to_owned());
        let status = run(&call, Path::new("/"), &mut shown, on_line).unwrap();
        assert_eq!(seen, ["one", "two"]);
        assert_eq!(shown, b"one\ntwo\n");
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn a_process_left_behind_does_not_hold_us() {
        let call = Invocation::new("sh").args(["-c", "sleep 30 & echo $!"]);
        let begin = Instant::now();
        let mut left = String::new();
        let status =
            run(&call, Path::new("/"), &mut Vec::new(), |line| left.push_str(line)).unwrap();
        assert!(status.success());
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        assert!(Invocation::new("kill").arg(left).answer().is_some());
    }

    #[test]
    fn standard_input_is_empty() {
        let status = run(&Invocation::new("cat"), Path::new("/"), &mut Vec::new(), |_| {}).unwrap();
        assert!(status.success());
    }
}
