//! A copy of this machine's file system in which anything can be installed: an overlay in a mount namespace
//! of its own, with a root of its own. The machine is not changed.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// Mounts the overlay below a memory file system, says so, and stays until it is killed.
const MOUNT: &str = "
set -e
mount -t tmpfs -o mode=0755 private_root \"$1\"
cd \"$1\"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
for it in proc sys dev; do mount --rbind /$it root/$it; done
mount -t tmpfs tmpfs root/run
mount -t tmpfs -o mode=1777 tmpfs root/tmp
echo mounted
exec sleep infinity
";

/// The overlay. It ends with this value.
#[derive(Debug)]
pub struct PrivateRoot {
    holder: Child,
    directory: PathBuf,
}

impl PrivateRoot {
    /// Makes one; `directory` is an empty directory for it.
    pub fn make(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", MOUNT, "mount"])
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start unshare")?;
        let mut line = String::new();
        let stdout = holder.stdout.take().context("the output of unshare")?;
        let root = Self { holder, directory: directory.to_owned() };
        BufReader::new(stdout).read_line(&mut line).context("read the output of unshare")?;
        ensure!(line == "mounted\n", "the overlay could not be mounted");
        Ok(root)
    }

    /// A command that runs inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.beside("chroot");
        command.arg(self.path("root")).arg(program);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        command
    }

    /// Runs a command inside and returns its output: an error if it fails.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        succeeded(self.command(program).args(arguments))
    }

    /// Whether there is such a file or directory inside; `path` begins with `/`.
    pub fn has(&self, path: &str) -> bool {
        self.run("test", ["-e", path]).is_ok() || self.run("test", ["-L", path]).is_ok()
    }

    /// Writes a file inside.
    pub fn write(&self, path: &str, text: &str, mode: &str) -> Result<()> {
        let script = "printf %s \"$1\" >\"$2\" && chmod \"$3\" \"$2\"";
        self.run("sh", ["-c", script, "write", text, path, mode]).map(drop)
    }

    /// All that differs from the machine, as paths that begin with `/`: files, links, what was removed, and
    /// directories that the machine does not have.
    pub fn changes(&self) -> Result<Vec<String>> {
        let mut find = self.beside("find");
        find.arg(self.path("upper")).args(["-mindepth", "1", "-printf", "%y %P\\n"]);
        let listed = succeeded(&mut find)?;
        let entries = listed.lines().filter_map(|line| line.split_once(' '));
        let mut changes: Vec<String> = entries
            .map(|(kind, path)| (kind, format!("/{path}")))
            .filter(|(kind, path)| *kind != "d" || !Path::new(path).is_dir())
            .map(|(_, path)| path)
            .collect();
        changes.sort();
        Ok(changes)
    }

    /// A command in the mount namespace, outside the root.
    fn beside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--mount").arg("--target").arg(self.holder.id().to_string());
        command.arg("--").arg(program).stdin(Stdio::null());
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for PrivateRoot {
    fn drop(&mut self) {
        // The mounts go with the last process of the namespace.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn succeeded(command: &mut Command) -> Result<String> {
    let output: Output = command.output().with_context(|| format!("start {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}
