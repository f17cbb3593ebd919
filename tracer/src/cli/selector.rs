//! Namespaces and cgroups by name or path, turned into the numbers that the kernel side compares.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A network namespace, by the inode number of its file in nsfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NetnsSelector(pub(crate) u32);

impl FromStr for NetnsSelector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(inode) = text.parse() {
            return Ok(Self(inode));
        }
        let path = if text.contains('/') {
            PathBuf::from(text)
        } else {
            Path::new("/run/netns").join(text)
        };
        let inode = fs::metadata(&path)
            .map_err(|error| format!("no namespace at {}: {error}", path.display()))?
            .ino();
        u32::try_from(inode).map(Self).map_err(|_| format!("{} is not a namespace", path.display()))
    }
}

/// A cgroup v2 and those below it, by the inode numbers of their directories, which are their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupSelector(pub(crate) Vec<u64>);

impl FromStr for CgroupSelector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self(vec![id]));
        }
        let mut ids = Vec::new();
        collect(Path::new(text), &mut ids)
            .map_err(|error| format!("cannot read the cgroup {text}: {error}"))?;
        Ok(Self(ids))
    }
}

fn collect(directory: &Path, ids: &mut Vec<u64>) -> io::Result<()> {
    ids.push(fs::metadata(directory)?.ino());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), ids)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_paths() {
        assert_eq!("4026531840".parse(), Ok(NetnsSelector(4_026_531_840)));
        let own: NetnsSelector = "/proc/self/ns/net".parse().unwrap();
        assert_eq!(u64::from(own.0), fs::metadata("/proc/self/ns/net").unwrap().ino());
        let error = "no-such-namespace".parse::<NetnsSelector>().unwrap_err();
        assert!(error.contains("/run/netns/no-such-namespace"), "{error}");
    }

    #[test]
    fn cgroups_below_count_too() {
        assert_eq!("7".parse(), Ok(CgroupSelector(vec![7])));
        let tree: CgroupSelector = concat!(env!("CARGO_MANIFEST_DIR"), "/src").parse().unwrap();
        assert!(tree.0.len() > 2, "src and the directories in it");
    }
}
