//! A kernel that does not show its types, as far as the programs can tell that are started here.

use std::{fs, path::Path, thread};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Where the kernel shows its types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Runs `work` on a thread with mounts of its own, in which the kernel's types are not to be seen. Programs
/// that it starts do not see them either.
pub fn hidden<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                hide()?;
                work()
            })
            .join()
            .map_err(|_| anyhow!("a thread without the kernel's types panicked"))?
    })
}

/// Hides them from the calling thread.
fn hide() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("private mounts")?;
    let directory = Path::new(KERNEL_BTF).parent().context("a directory")?;
    mount(Some("none"), directory, Some("tmpfs"), MsFlags::empty(), none)
        .with_context(|| format!("hide {}", directory.display()))?;
    ensure!(!Path::new(KERNEL_BTF).exists(), "{KERNEL_BTF} is not hidden");
    Ok(())
}

/// Writes the kernel's types to `file`, with two names of equal length exchanged: the fields so named are then
/// said to be where the other is.
pub fn write_with_names_exchanged(file: &Path, one: &str, other: &str) -> Result<()> {
    let mut bytes = fs::read(KERNEL_BTF).with_context(|| format!("read {KERNEL_BTF}"))?;
    ensure!(one.len() == other.len(), "{one} and {other} differ in length");
    let [at_one, at_other] = [place(&bytes, one)?, place(&bytes, other)?];
    bytes[at_one..at_one + one.len()].copy_from_slice(other.as_bytes());
    bytes[at_other..at_other + other.len()].copy_from_slice(one.as_bytes());
    fs::write(file, bytes).with_context(|| format!("write {}", file.display()))
}

/// Where `name` stands in the table of strings. Each stands there once, between zeros.
fn place(bytes: &[u8], name: &str) -> Result<usize> {
    let string = [b"\0", name.as_bytes(), b"\0"].concat();
    let at = bytes.windows(string.len()).position(|window| window == string);
    Ok(at.with_context(|| format!("{KERNEL_BTF} does not have {name}"))? + 1)
}
