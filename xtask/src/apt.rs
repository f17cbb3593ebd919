//! Questions to apt, and the calls that install its packages.

use std::path::Path;

use crate::invocation::Invocation;
use crate::machine::Privilege;

/// Fetches the lists of packages; being offline is no error here, the install will say it.
pub(crate) fn update(privilege: Privilege, directory: &Path) {
    let call = Invocation::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300", "update"])
        .with_root(privilege);
    eprintln!("xtask: {call}");
    if let Err(error) = call.run(directory) {
        eprintln!("xtask: {error:#}; going on with the lists that are here");
    }
}

/// Those of `packages` that apt can install.
pub(crate) fn offered(packages: &[&'static str]) -> Vec<&'static str> {
    let question = Invocation::new("apt-cache").env("LC_ALL", "C").arg("policy").args(packages);
    let policy = question.answer().unwrap_or_default();
    packages.iter().copied().filter(|name| has_candidate(&policy, name)).collect()
}

/// Whether apt can install every one of `packages`.
pub(crate) fn offers(packages: &[&'static str]) -> bool {
    offered(packages).len() == packages.len()
}

/// Whether `package` has an installable version in the output of `apt-cache policy`.
fn has_candidate(policy: &str, package: &str) -> bool {
    let mut lines = policy.lines().skip_while(|line| line.strip_suffix(':') != Some(package));
    lines
        .find_map(|line| line.trim_start().strip_prefix("Candidate: "))
        .is_some_and(|version| version != "(none)")
}

/// The call that installs `packages`. It never removes one: a mail server that is already there
/// is more important than our tests.
pub(crate) fn install(packages: &[&str], privilege: Privilege) -> Invocation {
    Invocation::new("apt-get")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "-q", "-y", "--no-install-recommends", "--no-remove"])
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(packages)
        .with_root(privilege)
}

/// Like [`install`], but no service of the packages is started, and Postfix gets no configuration. A package for
/// which another would have to go is left out, and named.
pub(crate) fn install_without_services(packages: &[&str], privilege: Privilege) -> Invocation {
    Invocation::new("sh")
        .args(["-c", include_str!("install_without_services.sh"), "install"])
        .args(packages)
        .with_root(privilege)
}

/// The call that puts a package, and what it needs that is not installed, as files into a directory of
/// its name in `directory`. It installs nothing and needs no root.
pub(crate) fn download(package: &str, directory: &Path) -> Invocation {
    Invocation::new("sh")
        .args(["-c", include_str!("download_package.sh"), "download"])
        .arg(directory)
        .arg(package)
}

/// Like [`download`], and unpacks the files into the directory `unpacked` of that directory.
pub(crate) fn unpack(package: &str, directory: &Path) -> Invocation {
    const SCRIPT: &str =
        concat!(include_str!("download_package.sh"), include_str!("unpack_packages.sh"));
    Invocation::new("sh").args(["-c", SCRIPT, "unpack"]).arg(directory).arg(package)
}

/// The call that unpacks a package of another architecture into `directory`, which then has a file `version`.
pub(crate) fn unpack_foreign(
    package: &str,
    version: &str,
    arch: &str,
    directory: &Path,
) -> Invocation {
    Invocation::new("sh")
        .args(["-c", include_str!("download_foreign.sh"), "unpack"])
        .arg(directory)
        .args([arch, package, version])
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "\
rustc-web:
  Installed: (none)
  Candidate: 1.96.0
  Version table:
libfoo:
  Installed: (none)
  Candidate: (none)
  Version table:
";

    #[test]
    fn a_candidate_is_a_version() {
        assert!(has_candidate(POLICY, "rustc-web"));
        assert!(!has_candidate(POLICY, "libfoo"));
        assert!(!has_candidate(POLICY, "unknown"));
    }

    #[test]
    fn installing_never_removes() {
        let call = install(&["jq"], Privilege::Root).to_string();
        assert!(call.contains("--no-remove"), "{call}");
        assert!(call.ends_with(" jq"), "{call}");
    }
}
