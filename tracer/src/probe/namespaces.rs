//! Network namespaces, as far as they can be found: those of processes, and those that are mounted where
//! `ip netns` and container engines mount them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

/// Where namespaces without a process are mounted.
const MOUNTED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// A network namespace.
#[derive(Debug)]
pub(super) struct Namespace {
    path: PathBuf,
    is_own: bool,
}

/// Every network namespace that can be found, or those of them with an inode number in `selected`.
pub(super) fn all(selected: &[u32]) -> Vec<Namespace> {
    let own = inode(Path::new("/proc/self/ns/net"));
    let processes = entries("/proc").filter(|path| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
    });
    let mounted = MOUNTED.into_iter().flat_map(entries);
    let mut found = BTreeMap::new();
    for path in processes.map(|process| process.join("ns/net")).chain(mounted) {
        let Some(inode) = inode(&path) else { continue };
        if selected.is_empty() || selected.iter().any(|it| u64::from(*it) == inode) {
            let is_own = own == Some(inode);
            found.entry(inode).or_insert(Namespace { path, is_own });
        }
    }
    found.into_values().collect()
}

fn entries(directory: &str) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|it| it.ino())
}

impl Namespace {
    /// Does `work` on a thread in this namespace; on the calling thread if that is in it.
    pub(super) fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        if self.is_own {
            return work();
        }
        let what = || format!("cannot enter the network namespace {}", self.path.display());
        let file = File::open(&self.path).with_context(what)?;
        thread::scope(|scope| {
            let inside = thread::Builder::new().spawn_scoped(scope, || {
                setns(&file, CloneFlags::CLONE_NEWNET).with_context(what)?;
                work()
            });
            inside.context("cannot start a thread")?.join().map_err(|_| anyhow!(what()))?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_namespace_is_found_and_entered() {
        let own = inode(Path::new("/proc/self/ns/net")).unwrap();
        let found = all(&[u32::try_from(own).unwrap()]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].enter(|| Ok(7)).unwrap(), 7);
        assert!(all(&[1]).is_empty());
    }
}
