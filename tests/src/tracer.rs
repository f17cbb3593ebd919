//! The program under test: smtptrace, started and stopped.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{lab::Lab, recording::Recording, wait};

const PATIENCE: Duration = Duration::from_secs(60);

/// Where the binary is: `$SMTPTRACE_BIN`, or the release build of this workspace.
pub fn binary() -> PathBuf {
    env::var_os("SMTPTRACE_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/smtptrace"),
        PathBuf::from,
    )
}

/// Runs smtptrace to its end, for commands that end by themselves.
pub fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<Output> {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    command.output().with_context(|| format!("start {command:?}"))
}

/// A running smtptrace that records. It is killed when dropped.
#[derive(Debug)]
pub struct Tracer {
    process: Child,
    recording: PathBuf,
    stdout: Option<JoinHandle<std::io::Result<String>>>,
    stderr: Option<JoinHandle<std::io::Result<String>>>,
    said: Arc<Mutex<Vec<u8>>>,
}

/// How a run of smtptrace ended and what it left.
#[derive(Debug)]
pub struct Run {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The recording.
    pub recording: Recording,
    /// Where the recording lies.
    pub file: PathBuf,
}

impl Tracer {
    /// Traces the port and the client of `lab`, and returns when the hooks are attached.
    pub fn start(lab: &Lab) -> Result<Self> {
        Self::start_with(lab, &[])
    }

    /// Like [`Self::start`], with more arguments.
    pub fn start_with(lab: &Lab, arguments: &[&str]) -> Result<Self> {
        let port = lab.port().to_string();
        let mut all = vec!["--dport", port.as_str()];
        all.extend_from_slice(arguments);
        Self::start_raw(&lab.file("recording.jsonl"), &all)
    }

    /// Starts smtptrace with just these arguments and `--record file`.
    pub fn start_raw(recording: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_command(Command::new(binary()), recording, arguments)
    }

    /// The same by another command, which runs smtptrace with the arguments that follow.
    pub fn start_command(
        mut command: Command,
        recording: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        if recording.exists() {
            fs::remove_file(recording).context("remove the previous recording")?;
        }
        command.args(arguments).arg("--record").arg(recording);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("start {command:?}"))?;
        let said = Arc::default();
        let stdout = process.stdout.take().map(|pipe| collect(pipe, &Arc::default()));
        let stderr = process.stderr.take().map(|pipe| collect(pipe, &said));
        let mut tracer = Self { process, recording: recording.to_owned(), stdout, stderr, said };
        tracer.wait_for_header()?;
        Ok(tracer)
    }

    fn wait_for_header(&mut self) -> Result<()> {
        let attached = wait::until("smtptrace to attach its hooks", PATIENCE, || {
            if let Some(status) = self.process.try_wait().context("wait for smtptrace")? {
                return Ok(Some(Err(status)));
            }
            let text = fs::read_to_string(&self.recording).unwrap_or_default();
            Ok(text.contains('\n').then_some(Ok(())))
        })?;
        attached.map_err(|status| {
            let stderr = joined(self.stderr.take()).unwrap_or_default();
            anyhow!("smtptrace ended ({status}) instead of tracing: {}", stderr.trim())
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The recording so far.
    pub fn recording_so_far(&self) -> Result<Recording> {
        Recording::read(&self.recording)
    }

    /// Waits until its standard error has `text`.
    pub fn wait_until_said(&self, text: &str) -> Result<()> {
        wait::until(&format!("smtptrace to say {text:?}"), PATIENCE, || {
            let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(String::from_utf8_lossy(&said).contains(text).then_some(()))
        })
    }

    /// How many runs of its programs the kernel has skipped, as the kernel says. Runs for the sockets of others count
    /// too.
    pub fn skipped_runs(&self) -> Result<u64> {
        let directory = format!("/proc/{}/fdinfo", self.pid());
        let descriptors = fs::read_dir(&directory).with_context(|| format!("list {directory}"))?;
        let misses = descriptors.filter_map(|file| {
            let text = fs::read_to_string(file.ok()?.path()).ok()?;
            let count = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
            count.trim().parse::<u64>().ok()
        });
        Ok(misses.sum())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal)
            .with_context(|| format!("send {signal} to smtptrace"))
    }

    /// Ends tracing with SIGINT, as Ctrl-C does.
    pub fn stop(self) -> Result<Run> {
        self.stop_with(Signal::SIGINT)
    }

    /// Ends tracing with `signal`.
    pub fn stop_with(self, signal: Signal) -> Result<Run> {
        let skipped = self.skipped_runs()?;
        self.signal(signal)?;
        let run = self.wait()?;
        run.recording.note_skipped(skipped);
        Ok(run)
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self) -> Result<Run> {
        let status = wait::until("smtptrace to end", PATIENCE, || {
            self.process.try_wait().context("wait for smtptrace")
        })?;
        let stdout = joined(self.stdout.take())?;
        let stderr = joined(self.stderr.take())?;
        let recording =
            Recording::read(&self.recording).with_context(|| format!("stderr: {stderr}"))?;
        Ok(Run { status, stdout, stderr, recording, file: self.recording.clone() })
    }

    /// Ends tracing with SIGINT and fails unless the end was clean and nothing was lost.
    pub fn stop_cleanly(self) -> Result<Run> {
        let run = self.stop()?;
        if !run.status.success() {
            bail!("smtptrace ended with {}: {}", run.status, run.stderr);
        }
        run.recording.ensure_complete()?;
        Ok(run)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It has ended already after `wait`.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn collect(
    mut pipe: impl std::io::Read + Send + 'static,
    so_far: &Arc<Mutex<Vec<u8>>>,
) -> JoinHandle<std::io::Result<String>> {
    let so_far = Arc::clone(so_far);
    thread::spawn(move || {
        let mut piece = [0; 4096];
        loop {
            let read = match pipe.read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read?,
            };
            let mut all = so_far.lock().unwrap_or_else(PoisonError::into_inner);
            if read == 0 {
                return Ok(String::from_utf8_lossy(&all).into_owned());
            }
            all.extend_from_slice(&piece[..read]);
        }
    })
}

fn joined(reader: Option<JoinHandle<std::io::Result<String>>>) -> Result<String> {
    let reader = reader.context("the output was read already")?;
    let text = reader.join().map_err(|_| anyhow!("reading the output panicked"))?;
    text.context("read the output of smtptrace")
}

/// Reads a whole file as text, replacing what is not UTF-8.
pub fn read_lossy(file: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .with_context(|| format!("read {}", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
