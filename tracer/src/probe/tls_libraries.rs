//! Finds the TLS libraries that a process uses, wherever they lie: in a container, deleted by an upgrade,
//! or linked into the program itself.
//!
//! The process may be anybody's, and so may what its paths lead to: a pipe, a device, a file system that never
//! answers. Nothing is opened before it is known to be a regular file, and nothing that is read has no bound.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    libc,
    sys::{
        stat::{Mode, SFlag, fstat},
        statfs::{FUSE_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, fstatfs},
    },
};
use tracer_analysis::symbols::ReadAt;

/// Bytes of `/proc/PID/maps` that are read.
const MAPS: u64 = 4 << 20;
/// Most libraries of one process.
pub(super) const MOST: usize = 8;
/// Bytes of a name that are kept.
pub(super) const NAME: usize = 256;

/// A file that may hold a TLS library. It is held open, so that it can be probed even if the process
/// that maps it ends meanwhile.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Its name, as the process that maps it sees it; text of a stranger, cut to [`NAME`] bytes.
    pub(super) name: String,
    /// Device and inode number.
    pub(super) identity: (u64, u64),
    pub(super) file: File,
}

impl Candidate {
    /// Opens the file that stands at `path`, which the user named.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let found = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        Self::of(regular(found.as_fd())?, path.as_os_str().as_bytes())
    }

    /// A file that is open. What is kept of its name is UTF-8.
    pub(super) fn of(file: File, name: &[u8]) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let name = String::from_utf8_lossy(name.get(..NAME).unwrap_or(name)).into_owned();
        Ok(Self { name, identity: (metadata.dev(), metadata.ino()), file })
    }
}

/// A path to the very file, for this process only.
pub(super) fn path_of(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// The bytes of a file, which may change at any time: they are copied, not mapped.
pub(super) struct Contents<'a> {
    file: &'a File,
    size: u64,
}

impl<'a> Contents<'a> {
    pub(super) fn of(file: &'a File) -> io::Result<Self> {
        Ok(Self { file, size: file.metadata()?.size() })
    }
}

impl ReadAt for Contents<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

/// What `found` (`O_PATH`) stands for, opened to be read if it is a regular file.
fn regular(found: BorrowedFd<'_>) -> io::Result<File> {
    let kind = SFlag::from_bits_truncate(fstat(found)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFREG {
        return Err(io::Error::other("not a regular file"));
    }
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags).open(path_of(found))
}

/// The same of a process that may be anybody's. Who serves a FUSE file system may be that process: it could keep
/// a reader waiting for ever. Who has a user namespace may lay an overlay over one, which does not show.
fn regular_of_stranger(found: &OwnedFd, process: &Path) -> io::Result<File> {
    let kind = fstatfs(found)?.filesystem_type();
    if kind == FUSE_SUPER_MAGIC {
        return Err(io::Error::other("on a FUSE file system, whose reads may never end"));
    }
    if kind == OVERLAYFS_SUPER_MAGIC && !is_of_the_system(found, process) {
        return Err(io::Error::other(
            "on an overlay that may be any user's, whose reads may never end",
        ));
    }
    regular(found.as_fd())
}

/// Whether `found` lies on the mount that is the root of `process`, and that one is in our user namespace: nobody
/// without privileges has made the root of such a process. A file on another mount may have been passed to it.
fn is_of_the_system(found: &OwnedFd, process: &Path) -> bool {
    let namespace = |process: &Path| {
        let namespace = fs::metadata(process.join("ns/user")).ok()?;
        Some((namespace.dev(), namespace.ino()))
    };
    let root = find(&process.join("root"));
    let root = root.ok().and_then(|root| mount_of(&root));
    let ours = namespace(Path::new("/proc/self"));
    root.is_some() && root == mount_of(found) && ours.is_some() && ours == namespace(process)
}

/// Number of the mount on which `found` lies.
fn mount_of(found: &OwnedFd) -> Option<u64> {
    let information =
        fs::read_to_string(format!("/proc/self/fdinfo/{}", found.as_raw_fd())).ok()?;
    information.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

/// The TLS libraries that process `pid` maps, at most [`MOST`]; if it maps none, its program. Empty if the process
/// has ended. May block for as long as the process likes.
pub(super) fn used_by(pid: u32) -> Vec<Candidate> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let mut maps = Vec::new();
    if let Ok(file) = File::open(process.join("maps")) {
        // What was read before an error is of use.
        let _ = file.take(MAPS).read_to_end(&mut maps);
    }
    let maps = String::from_utf8_lossy(&maps);
    let libraries = libraries(&maps);
    let candidates: Vec<Candidate> = libraries
        .iter()
        .filter_map(|mapping| {
            // The range is the very file, but may be asked for by root only.
            let found = find(&process.join("map_files").join(mapping.range))
                .or_else(|_| find_below(&process.join("root"), mapping.path));
            let file = found.and_then(|found| regular_of_stranger(&found, &process)).ok()?;
            Candidate::of(file, mapping.path.as_bytes()).ok()
        })
        .collect();
    if !libraries.is_empty() {
        return candidates;
    }
    let program = process.join("exe");
    let name = fs::read_link(&program).unwrap_or_default();
    let file = find(&program).and_then(|found| regular_of_stranger(&found, &process));
    let candidate = file.and_then(|file| Candidate::of(file, name.as_os_str().as_bytes()));
    candidate.into_iter().collect()
}

/// The user as whom process `pid` acts. The owner of its directory in /proc is another one if it wants to be.
pub(super) fn user_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_whitespace().nth(1)?.parse().ok()
}

/// Finds what stands at `path`, of /proc, without opening it.
fn find(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// The same of a path within `root`, which it does not leave.
fn find_below(root: &Path, path: &str) -> io::Result<OwnedFd> {
    let root = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(root, path, how)?)
}

/// One line of `/proc/PID/maps`.
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    /// First and last address, as the file names in `/proc/PID/map_files` have them.
    range: &'a str,
    path: &'a str,
}

/// The first mapping of each file whose name is that of a TLS library, at most [`MOST`]. Those come first that have
/// the name under which a distribution installs it: others may be there to take their places.
fn libraries(maps: &str) -> Vec<Mapping<'_>> {
    let (mut usual, mut others): (Vec<Mapping<'_>>, Vec<Mapping<'_>>) = (Vec::new(), Vec::new());
    for mapping in maps.lines().filter_map(mapping) {
        let found = match name_of(mapping.path) {
            Some(Name::Usual) => &mut usual,
            Some(Name::Other) => &mut others,
            None => continue,
        };
        if found.len() < MOST && found.iter().all(|other| other.path != mapping.path) {
            found.push(mapping);
        }
    }
    usual.into_iter().chain(others).take(MOST).collect()
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

/// A name of a TLS library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// `libssl.so.3`, `libgnutls.so.30`
    Usual,
    /// `libssl-1a2b3c4d.so.1.1`, as Python packages bring it
    Other,
}

fn name_of(path: &str) -> Option<Name> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let rest = name.strip_prefix("libssl").or_else(|| name.strip_prefix("libgnutls"))?;
    if rest.starts_with(".so") {
        return Some(Name::Usual);
    }
    rest.contains(".so").then_some(Name::Other)
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
        assert_eq!([of_python, host].map(name_of), [Some(Name::Other), Some(Name::Usual)]);
        assert_eq!(name_of("/lib/libgnutls.so"), Some(Name::Usual));
        let others = ["/lib/libssl", "/lib/libcrypto.so.3", "/libssl.so/program", ""];
        assert_eq!(others.map(name_of), [None; 4]);
    }

    #[test]
    fn a_process_without_a_tls_library_is_its_program() {
        let [program] = &used_by(std::process::id())[..] else { panic!("not one candidate") };
        let metadata = fs::metadata("/proc/self/exe").unwrap();
        assert_eq!(program.identity, (metadata.dev(), metadata.ino()));
        let path = path_of(program.file.as_fd());
        assert_eq!(fs::metadata(path).unwrap().ino(), metadata.ino());
    }

    #[test]
    fn what_is_gone_or_no_file_is_no_candidate() {
        assert!(used_by(u32::MAX).is_empty());
        for path in ["/", "/dev/zero", "/no/such/file"] {
            assert!(Candidate::open(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn only_the_root_of_a_process_is_the_systems() {
        let process = Path::new("/proc/self");
        let root = find(Path::new("/")).unwrap();
        assert!(is_of_the_system(&root, process));
        assert!(!is_of_the_system(&find(process).unwrap(), process), "another mount");
        assert!(!is_of_the_system(&root, Path::new("/proc/none")), "its namespace is not known");
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let directory = std::env::temp_dir().join(format!("smtptrace-pipe-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let pipe = directory.join("libssl.so.3");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/libssl.so.3", directory.join("link")).unwrap();
        std::os::unix::fs::symlink("/proc/self/exe", directory.join("out")).unwrap();
        let named = Candidate::open(&pipe).unwrap_err().to_string();
        // A link stays within the root, and leads to the pipe there.
        let below = find_below(&directory, "/link")
            .and_then(|it| regular_of_stranger(&it, Path::new("/proc/self")));
        let out = find_below(&directory, "/out").unwrap_err();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(named, "not a regular file");
        assert_eq!(below.unwrap_err().to_string(), "not a regular file");
        assert_eq!(out.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn the_number_of_libraries_has_a_bound() {
        let line = |n| format!("{n:x}000-{n:x}fff r-xp 00000000 fe:01 {n} /lib/libssl-{n}.so\n");
        let maps: String = (1..100).map(line).collect();
        assert_eq!(libraries(&maps).len(), MOST);
        // Those that come before it do not take the place of the real one.
        let maps = maps + "f000-ffff r-xp 00000000 fe:01 1 /lib/libssl.so.3\n";
        let found = libraries(&maps);
        assert_eq!((found.len(), found[0].path), (MOST, "/lib/libssl.so.3"));
    }

    #[test]
    fn names_are_cut() {
        let long = [b"/\xff".to_vec(), vec![b'a'; 10_000]].concat();
        let candidate = Candidate::of(File::open("/proc/self/exe").unwrap(), &long).unwrap();
        assert!(candidate.name.len() <= NAME + 2, "{}", candidate.name.len());
    }
}
