//! The rest of the file system, out of reach (landlock(7), since Linux 5.13). Each kernel knows more of it than
//! the one before: as much is asked for as there is.

use std::os::fd::{AsFd, BorrowedFd};

use landlock::{
    ABI, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
};
use nix::libc;

/// The newest that is asked for: its flags for devices would keep a terminal from being used.
const NEWEST: ABI = ABI::V4;

/// What stays within reach, besides what is open.
#[derive(Debug, Default)]
pub(crate) struct Reach<'a> {
    /// Directories below which files are made, written and removed.
    pub(crate) write: Vec<BorrowedFd<'a>>,
    /// Whether everything may be read; else what is below `read_below`.
    pub(crate) read_all: bool,
    /// Files and directories that are read; those that do not exist are left out.
    pub(crate) read_below: &'a [&'a str],
    /// Whether the terminal may be opened.
    pub(crate) terminal: bool,
    /// Whether TCP connections may be opened.
    pub(crate) connect: bool,
}

/// Whether the kernel has Landlock, and it is in force.
pub(crate) fn has_landlock() -> bool {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no memory.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, VERSION) > 0 }
}

/// Puts everything else out of reach of the calling thread, and of all that it starts, for good. Returns
/// whether the kernel does it.
pub(super) fn confine(reach: &Reach<'_>) -> Result<bool, RulesetError> {
    let mut handled = AccessFs::from_write(NEWEST);
    if !reach.read_all {
        handled |= AccessFs::from_read(NEWEST);
    }
    let mut net = BitFlags::from(AccessNet::BindTcp);
    if !reach.connect {
        net |= AccessNet::ConnectTcp;
    }
    let mut rules = Ruleset::default().handle_access(handled)?.handle_access(net)?.create()?;
    let files = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::ReadFile;
    let directory = files | AccessFs::ReadDir | AccessFs::MakeReg | AccessFs::RemoveFile;
    for below in &reach.write {
        rules = rules.add_rule(PathBeneath::new(below, directory & handled))?;
    }
    if reach.terminal {
        // Where the live view is drawn if stdin is something else.
        let both = AccessFs::WriteFile | AccessFs::ReadFile;
        rules = allow(rules, "/dev/tty", both & handled)?;
    }
    for path in reach.read_below {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        rules = allow(rules, path, read & handled)?;
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// Allows `access` below `path`, if that exists.
fn allow(
    rules: RulesetCreated,
    path: &str,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(file) = PathFd::new(path) else { return Ok(rules) };
    let is_file = std::fs::metadata(path).is_ok_and(|it| !it.is_dir());
    let access = if is_file { access & AccessFs::from_file(NEWEST) } else { access };
    if access.is_empty() {
        return Ok(rules);
    }
    rules.add_rule(PathBeneath::new(file.as_fd(), access))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::{ErrorKind, Write as _},
        net::{TcpListener, TcpStream},
        path::PathBuf,
        thread,
    };

    use super::*;

    /// A directory with a file in it, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("smtptrace-reach-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("old"), "x").unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// What `attempt` gives on a thread with this reach, on a kernel with Landlock.
    fn with<T: Send>(reach: &Reach<'_>, attempt: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                nix::sys::prctl::set_no_new_privs().unwrap();
                assert!(confine(reach).unwrap(), "not confined");
                attempt()
            });
            thread.join().unwrap()
        })
    }

    fn refused<T>(result: std::io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn files_are_made_where_they_may_be_and_nowhere_else() {
        if !has_landlock() {
            ::tests::skip!("the kernel has no Landlock");
        }
        let (own, other) = (Scratch::new("own"), Scratch::new("other"));
        let directory = File::open(&own.0).unwrap();
        let mut open = File::create(other.0.join("open")).unwrap();
        let write = vec![directory.as_fd()];
        let reach = Reach { write, read_all: true, ..Reach::default() };
        with(&reach, || {
            fs::write(own.0.join("new"), "x").unwrap();
            fs::remove_file(own.0.join("old")).unwrap();
            assert!(refused(fs::write(other.0.join("new"), "x")));
            assert!(refused(fs::write(other.0.join("old"), "x")));
            assert!(refused(fs::remove_file(other.0.join("old"))));
            assert!(refused(fs::create_dir(own.0.join("directory"))));
            assert!(refused(std::os::unix::fs::symlink("old", own.0.join("link"))));
            open.write_all(b"what is open stays open").unwrap();
            assert_eq!(fs::read_to_string(other.0.join("old")).unwrap(), "x");
        });
    }

    #[test]
    fn nothing_is_read_and_nobody_is_called() {
        if !has_landlock() {
            ::tests::skip!("the kernel has no Landlock");
        }
        let scratch = Scratch::new("read");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reach = Reach { read_below: &["/proc/self", "/no/such"], ..Reach::default() };
        let (connect, bind) = with(&reach, || {
            assert!(refused(File::open(scratch.0.join("old"))));
            assert!(refused(fs::read_dir(&scratch.0)));
            File::open("/proc/self/status").unwrap();
            (refused(TcpStream::connect(address)), refused(TcpListener::bind("127.0.0.1:0")))
        });
        // Of the network since Linux 6.7.
        assert!(connect == bind);
    }
}
