//! What a test needs from the machine, and the visible skip when it is missing.

use std::{
    any::type_name,
    env,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{cgroup, hidden_btf::KERNEL_BTF, packages::Package, python, shipped, tracer};

/// Something that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prerequisite {
    /// Run as root, with `ip`, `nft` and `ss`.
    Namespaces,
    /// Run as root, with `ip`.
    Links,
    /// The smtptrace binary.
    Tracer,
    /// The kernel shows its types (BTF).
    KernelTypes,
    /// A packet capture.
    Tcpdump,
    /// Postfix, with smtp-source and smtp-sink.
    Postfix,
    /// A certificate can be made.
    Openssl,
    /// A TLS client of GnuTLS.
    Gnutls,
    /// A TLS client of OpenSSL that can be scripted.
    Python,
    /// BPF programs can be listed from outside.
    Bpftool,
    /// A command can be run with fewer privileges.
    Setpriv,
    /// A terminal that a test can type into and read.
    Tmux,
    /// Cgroups of version 2.
    Cgroup2,
    /// Python with a module from `PyPI`; see `python`.
    PythonModule(&'static str),
    /// Exim can be unpacked for a test.
    Exim,
    /// OpenSMTPD can be unpacked for a test.
    Opensmtpd,
    /// A browser without a window.
    Chromium,
    /// The package of Debian, and dpkg to install it.
    Deb,
    /// The package of RPM, and rpm to install it.
    Rpm,
    /// The bill of materials.
    Bill,
    /// Debian's checks of a package.
    Lintian,
    /// A unit can be checked.
    SystemdAnalyze,
    /// The scripted client and server in Python, and a certificate for the latter.
    Scripts,
    /// A reader of JSON Lines.
    Jq,
    /// A section can be put into a program.
    Objcopy,
    /// Multipath TCP in the kernel.
    Mptcp,
    /// Cgroups of either version with a limit of memory.
    MemoryCgroup,
    /// A machine that nobody else uses: its clock may be set, and its CPUs taken away.
    OwnMachine,
}

/// The protocol number of MPTCP (`include/uapi/linux/in.h`).
pub const IPPROTO_MPTCP: i32 = 262;

/// A hierarchy of cgroups that limits memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryHierarchy {
    /// Where cgroups are made.
    pub root: PathBuf,
    /// The file of a cgroup that takes the limit in bytes.
    pub limit: &'static str,
}

/// The hierarchy that limits memory, of version 1 or 2; `None` where there is none that may be used.
pub fn memory_hierarchy() -> Option<MemoryHierarchy> {
    let root = PathBuf::from("/sys/fs/cgroup/memory");
    if root.join("memory.limit_in_bytes").exists() {
        return Some(MemoryHierarchy { root, limit: "memory.limit_in_bytes" });
    }
    let root = cgroup::hierarchy()?;
    let given = fs::read_to_string(root.join("cgroup.subtree_control")).ok()?;
    let limits = given.split_whitespace().any(|it| it == "memory");
    limits.then_some(MemoryHierarchy { root, limit: "memory.max" })
}

/// A word on the kernel's command line of the machines of `cargo xtask vm`.
const OWN_MACHINE: &str = "smtptrace.own_machine";

impl Prerequisite {
    fn missing(self) -> Option<String> {
        let programs: &[&str] = match self {
            Self::Namespaces | Self::Links => {
                if !nix::unistd::geteuid().is_root() {
                    return Some("not root".into());
                }
                if self == Self::Links { &["ip"] } else { &["ip", "nft", "ss"] }
            }
            Self::Tracer => {
                let binary = tracer::binary();
                return (!binary.is_file())
                    .then(|| format!("no smtptrace binary at {}", binary.display()));
            }
            Self::KernelTypes => {
                return (!Path::new(KERNEL_BTF).exists()).then(|| format!("no {KERNEL_BTF}"));
            }
            Self::Tcpdump => &["tcpdump"],
            Self::Postfix => &["postfix", "smtp-source", "smtp-sink"],
            Self::Openssl => &["openssl"],
            Self::Gnutls => &["gnutls-cli"],
            Self::Python => &["python3"],
            Self::Bpftool => &["bpftool"],
            Self::Setpriv => &["setpriv"],
            Self::Tmux => &["tmux", "ps"],
            Self::Cgroup2 => {
                return cgroup::hierarchy().is_none().then(|| "no cgroup2 is mounted".into());
            }
            Self::PythonModule(module) => {
                return (!python::has(module)).then(|| format!("no Python module {module}"));
            }
            Self::Exim => return missing_package(Package::Exim),
            Self::Opensmtpd => return missing_package(Package::Opensmtpd),
            Self::Chromium => &["chromium"],
            Self::Deb => {
                return missing_shipped(shipped::deb().is_some(), &["unshare", "nsenter", "dpkg"]);
            }
            Self::Rpm => {
                return missing_shipped(shipped::rpm().is_some(), &["unshare", "nsenter", "rpm"]);
            }
            Self::Bill => return missing_shipped(shipped::bill().is_some(), &[]),
            Self::Lintian => &["lintian"],
            Self::SystemdAnalyze => &["systemd-analyze"],
            Self::Scripts => &["python3", "openssl"],
            Self::Jq => &["jq"],
            Self::Objcopy => &["objcopy", "bash"],
            Self::Mptcp => {
                let protocol = Some(Protocol::from(IPPROTO_MPTCP));
                let socket = Socket::new(Domain::IPV4, Type::STREAM, protocol);
                return socket.err().map(|error| format!("no MPTCP: {error}"));
            }
            Self::MemoryCgroup => {
                return memory_hierarchy().is_none().then(|| "no cgroup limits memory".into());
            }
            Self::OwnMachine => {
                let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
                let is_own = line.split_whitespace().any(|word| word == OWN_MACHINE);
                return (!is_own).then(|| "runs in the virtual machines only".into());
            }
        };
        missing_program(programs)
    }
}

fn missing_program(programs: &[&str]) -> Option<String> {
    let absent = programs.iter().find(|program| find_program(program).is_none())?;
    Some(format!("{absent} is not installed"))
}

fn missing_shipped(packed: bool, programs: &[&str]) -> Option<String> {
    let directory = shipped::directory();
    missing_program(programs).or_else(|| {
        (!packed)
            .then(|| format!("nothing for it in {}: `cargo xtask dist` packs", directory.display()))
    })
}

fn missing_package(package: Package) -> Option<String> {
    missing_program(&["unshare", "dpkg"]).or_else(|| package.missing())
}

/// Finds a program on `PATH` or in the usual directories of administration tools.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories.map(|directory| directory.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The file to which each skip is appended as a line `test TAB part TAB reason`, if this variable names one.
/// `cargo xtask` adds it up.
const SKIPS: &str = "SMTPTRACE_SKIPS";

/// Why the first of `needs` that this machine lacks is missing; `None` if all are there.
pub fn missing(needs: &[Prerequisite]) -> Option<String> {
    needs.iter().find_map(|need| need.missing())
}

/// Says that `test`, or this `part` of it, is skipped: on standard output, past the capture of the test runner, and
/// in the file of skips.
///
/// # Panics
/// If that file cannot be written: a skip must not be lost.
pub fn report_skip(test: &str, part: Option<&str>, reason: &str) {
    let of_part = part.map(|part| format!(" ({part})")).unwrap_or_default();
    // The test runner has begun a line with the name of the test. Nothing sensible can be done if
    // standard output is closed.
    let _ = writeln!(io::stdout(), "\nSKIPPED: {test}{of_part}: {reason}");
    if let Some(file) = env::var_os(SKIPS) {
        let line =
            [test, part.unwrap_or_default(), reason].map(|word| word.replace(['\t', '\n'], " "));
        let line = line.join("\t") + "\n";
        let appended = OpenOptions::new().create(true).append(true).open(&file);
        if let Err(error) = appended.and_then(|mut file| file.write_all(line.as_bytes())) {
            panic!("the skip of {test} cannot be appended to {}: {error}", file.display());
        }
    }
}

/// The path of the test in which [`this_test!`](crate::this_test) declared `inner`, without its crate.
pub fn test_of<T>(_inner: T) -> &'static str {
    let path = type_name::<T>();
    let path = path.strip_suffix("::inner").unwrap_or(path);
    path.split_once("::").map_or(path, |(_, test)| test)
}

/// The name of the test function that it stands in, with its module: `endings::client_is_killed`.
#[macro_export]
macro_rules! this_test {
    () => {{
        fn inner() {}
        $crate::prerequisite::test_of(inner)
    }};
}

/// Whether this machine has what a part of the test needs: `has!("the unit": SystemdAnalyze)`. If not, that part is
/// reported as skipped.
#[macro_export]
macro_rules! has {
    ($part:literal: $($need:ident $(($what:literal))?),+) => {
        $crate::has!(@ Some($part), $($need $(($what))?),+)
    };
    (@ $part:expr, $($need:ident $(($what:literal))?),+) => {{
        let needs = [$($crate::prerequisite::Prerequisite::$need $(($what))?),+];
        let missing = $crate::prerequisite::missing(&needs);
        if let Some(reason) = &missing {
            $crate::prerequisite::report_skip($crate::this_test!(), $part, reason);
        }
        missing.is_none()
    }};
}

/// Skips the test in which it stands where the machine lacks something: `needs!(Namespaces, Postfix)`. Where it does
/// not, the test is [made again](crate::attempt) if the machine disturbs it. With the name of a part, the rest of the test: `needs!("programs in the kernel": Bpftool)`.
#[macro_export]
macro_rules! needs {
    ($($need:ident $(($what:literal))?),+) => {
        if !$crate::has!(@ None, $($need $(($what))?),+)
            || !$crate::attempt::is_here($crate::this_test!())
        {
            return;
        }
    };
    ($part:literal: $($need:ident $(($what:literal))?),+) => {
        if !$crate::has!(@ Some($part), $($need $(($what))?),+) {
            return;
        }
    };
}

/// Skips the test in which it stands, for this reason.
#[macro_export]
macro_rules! skip {
    ($reason:expr) => {{
        $crate::prerequisite::report_skip($crate::this_test!(), None, $reason);
        return;
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_named_by_its_module_and_function() {
        assert_eq!(
            crate::this_test!(),
            "prerequisite::tests::a_test_is_named_by_its_module_and_function"
        );
    }

    #[test]
    fn finds_only_executables() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-such-program-anywhere"), None);
    }
}
