//! The archive for machines without a package manager that we know.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::release::Release;
use super::tree::Tree;
use crate::invocation::Invocation;
use crate::static_build::Arch;

/// Packs `tree` into `directory`: GNU tar, sorted, owned by root, with the time of the commit.
pub(super) fn pack(
    release: &Release,
    tree: &Tree,
    arch: Arch,
    directory: &Path,
) -> Result<PathBuf> {
    let name = format!("smtptrace-{}-linux-{}", release.version, arch.name());
    let plain = directory.join(format!("{name}.tar"));
    let file = directory.join(format!("{name}.tar.gz"));
    let call = Invocation::new("tar")
        .args(["--create", "--format=ustar", "--sort=name", "--owner=0", "--group=0"])
        .arg("--numeric-owner")
        .arg(format!("--mtime=@{}", release.epoch))
        .arg(format!("--transform=s,^\\.,{name},"))
        .arg("--file")
        .arg(&plain)
        .arg("--directory")
        .arg(tree.directory())
        .arg(".");
    release.dated(call).run(directory)?;
    Invocation::new("gzip").args(["-9", "-n", "-f"]).arg(&plain).run(directory)?;
    Ok(file)
}
