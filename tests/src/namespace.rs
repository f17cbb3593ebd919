//! Network namespaces that vanish with their owner.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const DIRECTORY: &str = "/run/netns";
const PREFIX: &str = "st";

/// A network namespace. Its processes are killed and it is deleted when this value is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates a namespace with a name that no other test uses; `role` is its last part.
    pub fn create(role: &str) -> Result<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{serial}{role}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.run("ip", ["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as in `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Its inode number, by which the kernel and recordings name it.
    pub fn inode(&self) -> Result<u64> {
        Ok(fs::metadata(self.path()).with_context(|| format!("stat {}", self.name))?.ino())
    }

    /// Runs `work` on a thread inside the namespace. Sockets opened there stay in the namespace,
    /// whichever thread uses them later. The name of the thread is what the kernel takes as `comm`.
    pub fn enter<T: Send>(
        &self,
        thread_name: &str,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        let namespace = File::open(self.path()).with_context(|| format!("open {}", self.name))?;
        thread::scope(|scope| {
            thread::Builder::new()
                .name(thread_name.to_owned())
                .spawn_scoped(scope, || {
                    setns(&namespace, CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("enter {}", self.name))?;
                    work()
                })
                .context("start a thread")?
                .join()
                .map_err(|_| anyhow!("a thread in {} panicked", self.name))?
        })
    }

    /// Starts `command` inside the namespace.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let text = format!("{command:?}");
        self.enter("spawn", || command.spawn().with_context(|| format!("start {text}")))
    }

    /// Runs `program` inside the namespace and waits for it; fails if it does.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        let mut command = Command::new(program);
        command.args(arguments);
        self.enter("run", || run(&mut command))
    }

    /// Sets a kernel parameter of the namespace; `key` as in sysctl(8).
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        // /proc/sys/net shows the namespace of the thread that opens it.
        self.enter("sysctl", || {
            fs::write(&path, value).with_context(|| format!("set {key} to {value}"))
        })
    }

    /// Processes whose main thread is in the namespace.
    fn processes(&self) -> Vec<Pid> {
        let Ok(output) = Command::new("ip").args(["netns", "pids", &self.name]).output() else {
            return Vec::new();
        };
        let own = std::process::id().cast_signed();
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines()
            .filter_map(|line| line.trim().parse().ok())
            .filter(|pid| *pid != own)
            .map(Pid::from_raw)
            .collect()
    }

    fn remove(&self) {
        let deadline = Instant::now() + Duration::from_secs(3);
        loop {
            let processes = self.processes();
            if processes.is_empty() || Instant::now() > deadline {
                break;
            }
            for pid in processes {
                // It may have ended by itself in between.
                let _ = kill(pid, Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(10));
        }
        // Dropped during a panic too: there is nobody to report to.
        let _ =
            Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes what a test run left behind that was killed: namespaces whose process no longer lives.
pub fn remove_leftovers() -> Result<()> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return Ok(()) };
    for entry in entries {
        let name = entry.context("list namespaces")?.file_name();
        let Some(name) = name.to_str() else { continue };
        if owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            drop(Namespace { name: name.to_owned() });
        }
    }
    Ok(())
}

/// Process that made the namespace `name`; `None` if it is not one of ours.
fn owner(name: &str) -> Option<u32> {
    let (pid, serial) = name.strip_prefix(PREFIX)?.split_once('-')?;
    serial.starts_with(|c: char| c.is_ascii_digit()).then(|| pid.parse().ok())?
}

/// Runs a command to its end and returns its output; an exit code other than 0 is an error that
/// carries what the command said.
pub fn run(command: &mut Command) -> Result<Output> {
    let text = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {text}"))?;
    if !output.status.success() {
        bail!("{text}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output)
}

/// Runs a command that reads `input`; like [`run`].
pub fn run_with_input(command: &mut Command, input: &str) -> Result<Output> {
    use std::io::Write as _;
    let text = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {text}"))?;
    let mut stdin = child.stdin.take().context("standard input of the child")?;
    stdin.write_all(input.as_bytes()).with_context(|| format!("write to {text}"))?;
    drop(stdin);
    let output = child.wait_with_output().with_context(|| format!("wait for {text}"))?;
    ensure!(
        output.status.success(),
        "{text}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_have_an_owner() {
        assert_eq!(owner("st123-0c"), Some(123));
        assert_eq!(owner("st123"), None);
        assert_eq!(owner("stage-1"), None);
        assert_eq!(owner("st9-x"), None);
        assert_eq!(owner("mtx-c"), None);
    }
}
