//! Paths of cgroups (version 2), by their ids, which are the inode numbers of their directories.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Where the hierarchy is mounted: alone, or beside version 1.
pub(super) const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Cgroups remembered, those included that are gone. If there are more, only those that exist are
/// remembered.
const REMEMBERED: usize = 16_384;

/// Longest path that is taken.
const LONGEST: usize = 4096;

/// Deepest directory that is walked into.
const DEEPEST: usize = 32;

/// At most one part in so many of the time goes into walks.
const LEISURE: u32 = 50;

/// Shortest time between two walks.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
pub(super) struct Cgroups {
    /// `None`: looked for, and not found; then no path is known.
    root: Option<PathBuf>,
    /// A cgroup that is gone is kept: its id is not used again.
    paths: HashMap<u64, Box<str>>,
    /// Before, there is no other walk.
    next_walk: Option<Instant>,
}

impl Cgroups {
    /// The path of the cgroup `id` from the root of the hierarchy. `pid`: a process that is in it, if it
    /// still lives.
    pub(super) fn path(&mut self, id: u64, pid: Option<u32>) -> Option<&str> {
        if !self.paths.contains_key(&id) {
            match pid.and_then(|pid| self.path_of(pid, id)) {
                Some(path) => self.remember(id, &path),
                None if self.next_walk.is_none_or(|next| Instant::now() >= next) => self.walk(),
                None => {}
            }
        }
        self.paths.get(&id).map(AsRef::as_ref)
    }

    /// Whether there is a hierarchy to look into.
    pub(super) fn is_there(&self) -> bool {
        self.root.is_some()
    }

    /// Paths that are remembered.
    pub(super) fn known(&self) -> impl Iterator<Item = &str> {
        self.paths.values().map(AsRef::as_ref)
    }

    /// The path of the process `pid`, if that is in the cgroup `id`: it may have been moved since, or be
    /// another one.
    fn path_of(&self, pid: u32, id: u64) -> Option<String> {
        let root = self.root.as_ref()?;
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
        let directory = root.join(path.trim_start_matches('/'));
        (fs::metadata(directory).ok()?.ino() == id).then(|| path.to_owned())
    }

    /// Reads all there are.
    pub(super) fn walk(&mut self) {
        let begin = Instant::now();
        let version2 = |root: &PathBuf| root.join("cgroup.controllers").exists();
        self.root = ROOTS.map(PathBuf::from).into_iter().find(version2);
        if let Some(root) = self.root.clone() {
            self.walk_into(&root, "/", 0);
        }
        self.next_walk = Instant::now().checked_add((begin.elapsed() * LEISURE).max(PAUSE));
    }

    fn walk_into(&mut self, directory: &Path, path: &str, depth: usize) {
        // What goes away meanwhile is left out.
        let Ok(metadata) = fs::metadata(directory) else { return };
        self.remember(metadata.ino(), path);
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries.flatten() {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let (true, true, Ok(name)) =
                (is_directory, depth < DEEPEST, entry.file_name().into_string())
            {
                let below = format!("{}/{name}", path.trim_end_matches('/'));
                self.walk_into(&entry.path(), &below, depth + 1);
            }
        }
    }

    fn remember(&mut self, id: u64, path: &str) {
        if self.paths.len() >= REMEMBERED && !self.paths.contains_key(&id) {
            self.paths.clear();
        }
        if path.len() <= LONGEST {
            self.paths.insert(id, path.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_by_walk_and_by_process() {
        let mut walked = Cgroups::default();
        walked.walk();
        let Some(root) = walked.root.clone() else { return }; // no version 2 on this machine
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
        let id = fs::metadata(root.join(own.trim_start_matches('/'))).unwrap().ino();
        assert_eq!(walked.path(id, None), Some(own));
        let mut asked =
            Cgroups { root: Some(root), next_walk: walked.next_walk, ..Cgroups::default() };
        asked.next_walk = Some(Instant::now() + Duration::from_secs(3600));
        let pid = std::process::id();
        assert_eq!(asked.path(id + 1_000_000, Some(pid)), None, "it is in another cgroup");
        assert_eq!(asked.path(id, Some(pid)), Some(own));
    }

    #[test]
    fn what_is_gone_is_remembered_up_to_a_limit() {
        let mut cgroups =
            Cgroups { next_walk: Some(Instant::now() + PAUSE * 10_000), ..Cgroups::default() };
        for id in 0..REMEMBERED as u64 {
            cgroups.remember(id, "/gone");
        }
        assert_eq!(cgroups.path(0, None), Some("/gone"));
        cgroups.remember(u64::MAX, "/new");
        assert_eq!(cgroups.path(0, None), None);
        assert_eq!(cgroups.paths.len(), 1);
        cgroups.remember(1, &"x".repeat(LONGEST + 1));
        assert_eq!(cgroups.path(1, None), None);
    }
}
