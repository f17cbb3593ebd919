//! Names of network namespaces, as ip-netns(8) gives them: files in `/run/netns`.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

const DIRECTORY: &str = "/run/netns";

/// Names read at most.
const NAMES: usize = 4096;

/// How long a reading counts.
const FRESH: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Namespaces {
    names: HashMap<u32, String>,
    read: Option<Instant>,
}

impl Namespaces {
    /// The name of the namespace with this inode number; of one that is gone, if the number has not been
    /// used again.
    pub(super) fn name(&mut self, inode: u32) -> Option<&str> {
        if self.read.is_none_or(|read| read.elapsed() >= FRESH) {
            self.read();
        }
        self.names.get(&inode).map(String::as_str)
    }

    /// Reads all there are.
    pub(super) fn read(&mut self) {
        self.read_from(Path::new(DIRECTORY));
        self.read = Some(Instant::now());
    }

    fn read_from(&mut self, directory: &Path) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries.flatten().take(NAMES) {
            let inode = fs::metadata(entry.path()).ok().and_then(|file| file.ino().try_into().ok());
            if let (Some(inode), Ok(name)) = (inode, entry.file_name().into_string()) {
                if self.names.len() >= NAMES {
                    self.names.clear();
                }
                self.names.insert(inode, name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_files() {
        let directory =
            std::env::temp_dir().join(format!("smtptrace-netns-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("mail");
        fs::write(&file, "").unwrap();
        let inode = fs::metadata(&file).unwrap().ino();
        let mut namespaces = Namespaces { read: Some(Instant::now()), ..Namespaces::default() };
        namespaces.read_from(&directory);
        namespaces.read_from(Path::new("/nowhere"));
        fs::remove_dir_all(&directory).unwrap();
        if let Ok(inode) = u32::try_from(inode) {
            assert_eq!(namespaces.name(inode), Some("mail"));
        }
        assert_eq!(namespaces.name(u32::MAX), None);
    }
}
