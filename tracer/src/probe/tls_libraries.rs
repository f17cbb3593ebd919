//! Finds the TLS libraries that a process uses, wherever they lie: in a container, deleted by an upgrade,
//! or linked into the program itself.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

/// A file that may hold a TLS library. It is held open, so that it can be probed even if the process
/// that maps it ends meanwhile.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Its name, as the process that maps it sees it.
    pub(super) name: String,
    /// Device and inode number.
    pub(super) identity: (u64, u64),
    file: File,
}

impl Candidate {
    /// Opens the file that stands at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::named(path, path.display().to_string())
    }

    fn named(path: &Path, name: String) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(Self { name, identity: (metadata.dev(), metadata.ino()), file })
    }

    /// A path to the very file, for this process only.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

/// The TLS libraries that process `pid` maps; if it maps none, its program. Empty if the process has
/// ended.
pub(super) fn used_by(pid: u32) -> Vec<Candidate> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps);
    let candidates: Vec<Candidate> = libraries(&maps)
        .into_iter()
        .filter_map(|mapping| {
            let range = process.join("map_files").join(mapping.range);
            let in_root = process.join("root").join(mapping.path.trim_start_matches('/'));
            // The range is the very file, but may be asked for by root only.
            Candidate::named(&range, mapping.path.into())
                .or_else(|_| Candidate::named(&in_root, mapping.path.into()))
                .ok()
        })
        .collect();
    if !candidates.is_empty() {
        return candidates;
    }
    let program = process.join("exe");
    let name = fs::read_link(&program).unwrap_or_default().display().to_string();
    Candidate::named(&program, name).into_iter().collect()
}

/// One line of `/proc/PID/maps`.
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    /// First and last address, as the file names in `/proc/PID/map_files` have them.
    range: &'a str,
    path: &'a str,
}

/// The first mapping of each file whose name is that of a TLS library.
fn libraries(maps: &str) -> Vec<Mapping<'_>> {
    let mut found: Vec<Mapping<'_>> = Vec::new();
    for mapping in maps.lines().filter_map(mapping) {
        if is_tls_library(mapping.path) && found.iter().all(|other| other.path != mapping.path) {
            found.push(mapping);
        }
    }
    found
}

/// A line of `/proc/PID/maps`: `range perms offset dev inode path`, the path behind blanks.
fn mapping(line: &str) -> Option<Mapping<'_>> {
    let mut rest = line;
    let mut range = None;
    for _ in 0..5 {
        let (field, tail) = rest.split_once(' ')?;
        range = range.or(Some(field));
        rest = tail.trim_start();
    }
    let path = rest.trim_end_matches(" (deleted)");
    path.starts_with('/').then_some(Mapping { range: range?, path })
}

/// `libssl.so.3`, `libssl-1a2b3c4d.so.1.1` (as Python packages bring it), `libgnutls.so.30`.
fn is_tls_library(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let of = |prefix| name.strip_prefix(prefix).is_some_and(|rest: &str| rest.contains(".so"));
    of("libssl") || of("libgnutls")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0c0a00000-55d0c0a10000 r--p 00000000 fe:01 4711                       /usr/lib/postfix/sbin/smtp
7f10a0000000-7f10a0020000 r--p 00000000 fe:01 812                        /usr/lib/x86_64-linux-gnu/libssl.so.3
7f10a0020000-7f10a0080000 r-xp 00020000 fe:01 812                        /usr/lib/x86_64-linux-gnu/libssl.so.3
7f10a1000000-7f10a1020000 r-xp 00000000 fe:01 813                        /opt/my mail/libgnutls.so.30.34 (deleted)
7f10a2000000-7f10a2020000 r-xp 00000000 fe:01 814                        /usr/lib/libcrypto.so.3
7f10a3000000-7f10a3020000 rw-p 00000000 00:00 0
7ffd0a3fd000-7ffd0a3ff000 r-xp 00000000 00:00 0                          [vdso]
";

    #[test]
    fn each_library_is_found_once() {
        let ssl = "/usr/lib/x86_64-linux-gnu/libssl.so.3";
        assert_eq!(
            libraries(MAPS),
            [
                Mapping { range: "7f10a0000000-7f10a0020000", path: ssl },
                Mapping {
                    range: "7f10a1000000-7f10a1020000",
                    path: "/opt/my mail/libgnutls.so.30.34"
                },
            ]
        );
    }

    #[test]
    fn names_of_libraries() {
        let (of_python, host) = ("/venv/libssl-1a2b3c4d.so.1.1", "/lib/libssl.so.3");
        assert!([of_python, host, "/lib/libgnutls.so"].iter().all(|path| is_tls_library(path)));
        let others = ["/lib/libssl", "/lib/libcrypto.so.3", "/libssl.so/program", ""];
        assert!(!others.iter().any(|path| is_tls_library(path)));
    }

    #[test]
    fn a_process_without_a_tls_library_is_its_program() {
        let [program] = &used_by(std::process::id())[..] else { panic!("not one candidate") };
        let metadata = fs::metadata("/proc/self/exe").unwrap();
        assert_eq!(program.identity, (metadata.dev(), metadata.ino()));
        assert_eq!(fs::metadata(program.path()).unwrap().ino(), metadata.ino());
    }

    #[test]
    fn what_is_gone_or_no_file_is_no_candidate() {
        assert!(used_by(u32::MAX).is_empty());
        assert!(Candidate::open(Path::new("/")).is_err());
    }
}
