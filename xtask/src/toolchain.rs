//! What compiles and links the BPF programs. `tracer/build.rs` chooses by the same conditions.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::invocation::Invocation;
use crate::machine::{find_program, is_executable};

/// The compiler of Debian's package `rustc-web`.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The cargo of Debian's package `cargo-web`.
pub(crate) const DEBIAN_CARGO: &str = "/usr/bin/cargo";
/// The clippy of Debian's package `rust-web-clippy`.
pub(crate) const DEBIAN_CLIPPY: &str = "/usr/bin/cargo-clippy";
/// The target the BPF programs are compiled for.
pub(crate) const BPF_TARGET: &str = "bpfel-unknown-none";
/// The version of bpf-linker that is installed; newer ones that are already there are kept.
pub(crate) const LINKER_VERSION: Version = Version(0, 13, 0);

/// The version of cargo-nextest that is installed, and that `.config/nextest.toml` asks for.
pub(crate) const NEXTEST_VERSION: Version = Version(0, 9, 143);

/// A version with three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Version {
    /// The version in a line such as `bpf-linker 0.13.0`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().nth(1)?.splitn(3, '.');
        let mut next = || numbers.next()?.split(['-', '+']).next()?.parse().ok();
        Some(Self(next()?, next()?, next()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Who compiles for BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BpfCompiler {
    /// `/usr/bin/rustc`, which has a prebuilt `core` for the BPF target.
    Distribution,
    /// rustup's nightly, which compiles `core` from its `rust-src` component.
    Nightly,
}

impl BpfCompiler {
    /// The compiler that is there, the distribution's first.
    pub(crate) fn look() -> Option<Self> {
        if distribution_has_core() {
            Some(Self::Distribution)
        } else if nightly_has_source() {
            Some(Self::Nightly)
        } else {
            None
        }
    }

    /// Whether clippy for this compiler is there.
    pub(crate) fn has_clippy(self) -> bool {
        match self {
            Self::Distribution => is_executable(Path::new(DEBIAN_CLIPPY)),
            Self::Nightly => Invocation::new("rustup")
                .args(["run", "nightly", "cargo", "clippy", "--version"])
                .answer()
                .is_some(),
        }
    }
}

impl fmt::Display for BpfCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Distribution => write!(f, "{DEBIAN_RUSTC} with a prebuilt core for {BPF_TARGET}"),
            Self::Nightly => f.write_str("rustup's nightly with rust-src"),
        }
    }
}

fn distribution_has_core() -> bool {
    if !is_executable(Path::new(DEBIAN_RUSTC)) || !is_executable(Path::new(DEBIAN_CARGO)) {
        return false;
    }
    let sysroot = Invocation::new(DEBIAN_RUSTC).args(["--print", "sysroot"]).answer();
    sysroot.is_some_and(|root| rustlib(&root).join(BPF_TARGET).is_dir())
}

fn nightly_has_source() -> bool {
    let question = ["run", "nightly", "rustc", "--print", "sysroot"];
    let sysroot = Invocation::new("rustup").args(question).answer();
    sysroot.is_some_and(|root| rustlib(&root).join("src/rust/library/core").is_dir())
}

fn rustlib(sysroot: &str) -> PathBuf {
    Path::new(sysroot.trim()).join("lib/rustlib")
}

/// Where a program installed by `cargo install` is: on PATH, or in cargo's own directory.
pub(crate) fn find_cargo_program(name: &str) -> Option<PathBuf> {
    find_program(name).or_else(|| {
        let file = cargo_bin()?.join(name);
        is_executable(&file).then_some(file)
    })
}

/// The directory `cargo install` installs into.
fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")))?;
    Some(home.join("bin"))
}

/// The version of a program for which [`find_cargo_program`] looks, if it runs.
pub(crate) fn version_of(name: &str) -> Option<Version> {
    let program = find_cargo_program(name)?;
    Version::parse(&Invocation::new(program).arg("--version").answer()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(Version::parse("bpf-linker 0.13.0\n"), Some(Version(0, 13, 0)));
        assert_eq!(Version::parse("x 1.2.3-dev+4.5"), Some(Version(1, 2, 3)));
        assert_eq!(Version::parse("bpf-linker"), None);
        assert_eq!(Version::parse("bpf-linker new.est.one"), None);
    }

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(Version(0, 13, 0) > Version(0, 9, 15));
        assert!(Version(1, 0, 0) > LINKER_VERSION);
    }

    #[test]
    fn nextest_is_asked_for_in_the_version_that_is_installed() {
        let configuration = include_str!("../../.config/nextest.toml");
        assert!(configuration.contains(&format!("nextest-version = \"{NEXTEST_VERSION}\"")));
    }
}
