//! The kernels that smtptrace claims to run on, and the files of each.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::archive::{self, Archive};
use crate::static_build::Arch;

/// A kernel that Debian packages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Its version as far as it is asked for.
    version: &'static str,
    /// What it runs on.
    pub(super) arch: Arch,
    /// Suites that may have it, each with the metapackage that stands for its newest build.
    sources: &'static [(&'static str, &'static str)],
    /// Whether `cargo xtask test` boots it.
    pub(crate) is_in_quick_run: bool,
}

/// All of them.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel {
        version: "5.10",
        arch: Arch::X86_64,
        sources: &[
            ("bullseye-security", "linux-image-cloud-amd64"),
            ("bullseye", "linux-image-cloud-amd64"),
        ],
        is_in_quick_run: false,
    },
    Kernel {
        version: "6.1",
        arch: Arch::X86_64,
        sources: &[
            ("bookworm-security", "linux-image-cloud-amd64"),
            ("bookworm", "linux-image-cloud-amd64"),
        ],
        is_in_quick_run: true,
    },
    Kernel {
        version: "6.12",
        arch: Arch::X86_64,
        sources: &[
            ("bookworm-security", "linux-image-6.12-cloud-amd64"),
            ("trixie", "linux-image-cloud-amd64"),
        ],
        is_in_quick_run: true,
    },
    Kernel {
        version: "7",
        arch: Arch::X86_64,
        sources: &[
            ("trixie-backports", "linux-image-cloud-amd64"),
            ("forky", "linux-image-cloud-amd64"),
        ],
        is_in_quick_run: false,
    },
    Kernel {
        version: "6.1",
        arch: Arch::Aarch64,
        sources: &[
            ("bookworm-security", "linux-image-cloud-arm64"),
            ("bookworm", "linux-image-cloud-arm64"),
        ],
        is_in_quick_run: false,
    },
    Kernel {
        version: "6.12",
        arch: Arch::Aarch64,
        sources: &[
            ("bookworm-security", "linux-image-6.12-cloud-arm64"),
            ("trixie", "linux-image-cloud-arm64"),
        ],
        is_in_quick_run: false,
    },
];

/// As on the command line: `6.1-x86_64`.
impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.version, self.arch.name())
    }
}

/// The kernel of this name.
pub(crate) fn named(name: &str) -> Option<&'static Kernel> {
    KERNELS.iter().find(|kernel| kernel.to_string() == name)
}

/// A kernel as it lies unpacked on this machine.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// What is booted.
    pub(super) image: PathBuf,
    /// The directory of its modules.
    pub(super) modules: PathBuf,
    /// The Debian package it came from, as `NAME_VERSION`.
    pub(super) package: String,
}

impl Kernel {
    /// Its files below `directory`, fetched at the first time only.
    ///
    /// # Errors
    /// If no suite has it or can be reached.
    pub(super) fn fetch(&self, directory: &Path) -> Result<Unpacked> {
        let root = directory.join("kernels").join(self.to_string());
        let stamp = root.join("package");
        if let Ok(package) = fs::read_to_string(&stamp) {
            return unpacked(&root, package);
        }
        let mut reasons = Vec::new();
        for (suite, meta) in self.sources {
            eprintln!("xtask: fetching {self}: {meta} of Debian {suite}");
            match self.fetch_from(directory, suite, meta, &root) {
                Ok(kernel) => {
                    fs::write(&stamp, &kernel.package)
                        .with_context(|| format!("cannot write {}", stamp.display()))?;
                    return Ok(kernel);
                }
                Err(error) => reasons.push(format!("{suite}: {error:#}")),
            }
        }
        bail!("the kernel cannot be fetched: {}", reasons.join("; "))
    }

    fn fetch_from(
        &self,
        directory: &Path,
        suite: &str,
        meta: &str,
        root: &Path,
    ) -> Result<Unpacked> {
        let archive = Archive::open(&directory.join("apt"), suite, self.arch)?;
        let packages = archive.kernel(meta)?;
        let image = packages.first().context("no package")?;
        let release = image.trim_start_matches("linux-image-");
        if !is_version(release, self.version) {
            bail!("{meta} is {release} there");
        }
        let files = archive.download(&packages)?;
        archive::renew(root)?;
        archive::unpack(&files, root)?;
        let mut stems = files.iter().filter_map(|file| file.file_stem()?.to_str());
        let named = stems.rfind(|name| name.starts_with(image)).unwrap_or(image);
        // NAME_VERSION_ARCH
        let package = named.rsplit_once('_').map_or(named, |(named, _)| named).replace("%3a", ":");
        unpacked(root, package)
    }
}

/// Whether the release `6.1.0-56-cloud-amd64` is of the version `6.1`.
fn is_version(release: &str, version: &str) -> bool {
    release.strip_prefix(version).is_some_and(|rest| rest.starts_with('.'))
}

fn unpacked(root: &Path, package: String) -> Result<Unpacked> {
    // Where the system directories are merged, packages bring `usr/lib`.
    let modules =
        only(&root.join("lib/modules"), "").or_else(|_| only(&root.join("usr/lib/modules"), ""))?;
    // From 7.x on the image lies with its modules.
    let image = only(&root.join("boot"), "vmlinu").or_else(|_| only(&modules, "vmlinu"))?;
    Ok(Unpacked { image, modules, package })
}

/// The first entry of `directory` whose name begins with `prefix`.
fn only(directory: &Path, prefix: &str) -> Result<PathBuf> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.file_name().is_some_and(|it| it.to_string_lossy().starts_with(prefix)))
        .with_context(|| format!("no {prefix}* in {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_named_by_version_and_architecture() {
        assert_eq!(named("6.1-aarch64").map(|kernel| kernel.arch), Some(Arch::Aarch64));
        assert_eq!(named("4.19"), None);
    }

    #[test]
    fn six_one_is_not_six_twelve() {
        assert!(is_version("6.1.0-56-cloud-amd64", "6.1"));
        assert!(!is_version("6.12.117+deb12-cloud-amd64", "6.1"));
        assert!(is_version("7.3.4+deb13-cloud-amd64", "7"));
    }
}
