//! A cgroup of version 2 for processes of a test, removed afterwards.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};

/// A cgroup that this test made.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes `name` below the root of the hierarchy.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn create(root: &Path, name: &str) -> Result<Self> {
        Self::at(root.join(format!("smtptrace-lab-{}-{name}", process::id())))
    }

    /// Makes `name` below this one.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn child(&self, name: &str) -> Result<Self> {
        Self::at(self.path.join(name))
    }

    fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its id: the inode number of its directory.
    ///
    /// # Errors
    /// If the directory is gone.
    pub fn id(&self) -> Result<u64> {
        Ok(fs::metadata(&self.path)?.ino())
    }

    /// Moves the process `pid` into it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn adopt(&self, pid: u32) -> Result<()> {
        let procs = self.path.join("cgroup.procs");
        fs::write(&procs, pid.to_string())
            .with_context(|| format!("cannot move {pid} to {}", procs.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Fails while a process of it lives; those are killed with their namespace.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Where the hierarchy of version 2 is mounted: alone or beside version 1.
pub fn hierarchy() -> Option<PathBuf> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(PathBuf::from)
        .into_iter()
        .find(|root| root.join("cgroup.controllers").exists())
}
