//! Facts about the machine: who we are, what is installed, which kernel runs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// How root is reached from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// This process is root.
    Root,
    /// It is not, but `sudo` is installed.
    Sudo,
    /// Neither.
    Missing,
}

impl Privilege {
    /// Looks at this process and at PATH.
    pub(crate) fn look() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        match effective_uid(&status) {
            Some(0) => Self::Root,
            _ if find_program("sudo").is_some() => Self::Sudo,
            _ => Self::Missing,
        }
    }
}

/// The effective user id in the text of `/proc/PID/status`.
fn effective_uid(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// Where `name` is installed. The directories of system programs count although they are often
/// missing in the PATH of ordinary users: tests run as root.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

/// Whether `file` is a program.
pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Whether this is Debian or a child of it, with `apt-get`.
pub(crate) fn has_apt() -> bool {
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    is_debian_like(&os_release) && find_program("apt-get").is_some()
}

/// Whether the text of `/etc/os-release` names Debian or Ubuntu as the system or its parent.
fn is_debian_like(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace())
        .any(|id| id == "debian" || id == "ubuntu")
}

/// The release of the running kernel, as `uname -r` prints it.
pub(crate) fn kernel_release() -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(release.trim().to_owned())
}

/// Major and minor number in a kernel release such as `6.1.0-28-amd64`.
pub(crate) fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_its_children_are_known() {
        assert!(is_debian_like("NAME=\"Debian GNU/Linux\"\nID=debian\n"));
        assert!(is_debian_like("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(is_debian_like("ID=ubuntu\nID_LIKE=debian\n"));
    }

    #[test]
    fn others_are_not_taken_for_debian() {
        assert!(!is_debian_like("ID=fedora\nHOME_URL=https://debian.invalid/\n"));
        assert!(!is_debian_like("VERSION_ID=debian\n"));
        assert!(!is_debian_like(""));
    }

    #[test]
    fn the_effective_uid_is_the_second_number() {
        assert_eq!(effective_uid("Name:\tx\nUid:\t1000\t0\t1000\t1000\n"), Some(0));
        assert_eq!(effective_uid("Name:\tx\n"), None);
    }

    #[test]
    fn kernel_versions() {
        assert_eq!(kernel_version("6.1.0-28-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("5.10"), Some((5, 10)));
        assert_eq!(kernel_version("6.18-rc3"), Some((6, 18)));
        assert_eq!(kernel_version("strange"), None);
    }

    #[test]
    fn finds_a_shell() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-such-program-here"), None);
    }
}
