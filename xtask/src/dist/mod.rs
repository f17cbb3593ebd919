//! Packing: from a static binary to what is offered for download.
//!
//! The same binary and the same commit give the same bytes: every time is that of the commit, every owner is
//! root, every list is sorted.

mod crates;
mod deb;
mod release;
mod rpm;
mod sbom;
mod tarball;
mod third_party;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::invocation::Invocation;
pub(crate) use crates::Crates;
pub(crate) use release::Release;
use tree::{Layout, Tree};

use crate::static_build::{self, Arch};

/// Programs that packing calls, each with the Debian package that brings it.
pub(crate) const PROGRAMS: &[(&str, &str)] = &[
    ("dpkg-deb", "dpkg"),
    ("rpmbuild", "rpm"),
    ("gzip", "gzip"),
    ("tar", "tar"),
    ("sha256sum", "coreutils"),
];

/// One binary to be packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binary<'a> {
    /// Where it is.
    pub(crate) file: &'a Path,
    /// What it runs on.
    pub(crate) arch: Arch,
    /// One that runs here, of the same sources: it writes its manual pages and completions.
    pub(crate) native: &'a Path,
}

/// Packs `binary` in every form into `directory`, and says what was made.
pub(crate) fn pack(release: &Release, binary: Binary, directory: &Path) -> Result<Vec<PathBuf>> {
    let scratch = directory.join(".scratch").join(binary.arch.name());
    if scratch.exists() {
        fs::remove_dir_all(&scratch)
            .with_context(|| format!("cannot clear {}", scratch.display()))?;
    }
    let crates = Crates::of(&release.root, binary.arch)?;
    let bill = directory.join(format!(
        "smtptrace-{}-linux-{}.cdx.json",
        release.version,
        binary.arch.name()
    ));
    write(&bill, &sbom::text(release, &crates, binary.arch))?;
    let stripped = static_build::strip(binary.arch, binary.file, &scratch)?;
    let tree = |layout: Layout| {
        let parts =
            tree::Parts { release, crates: &crates, native: binary.native, stripped: &stripped };
        Tree::lay_out(&scratch.join(layout.name()), layout, &parts)
    };
    let made = vec![
        tarball::pack(release, &tree(Layout::Tarball)?, binary.arch, directory)?,
        deb::pack(release, &tree(Layout::Debian)?, binary.arch, directory)?,
        rpm::pack(release, &tree(Layout::Rpm)?, binary.arch, directory)?,
        bill,
    ];
    fs::remove_dir_all(directory.join(".scratch")).context("cannot clear what packing left")?;
    Ok(made)
}

/// Writes the sums of all files in `directory` beside them.
pub(crate) fn write_sums(directory: &Path) -> Result<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .with_context(|| format!("cannot list {}", directory.display()))?
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name != "SHA256SUMS")
        .collect();
    names.sort();
    let call = Invocation::new("sha256sum").arg("--").args(names);
    let output = call
        .command()
        .current_dir(directory)
        .output()
        .with_context(|| format!("`{call}` could not be started"))?;
    anyhow::ensure!(output.status.success(), "`{call}` failed with {}", output.status);
    let file = directory.join("SHA256SUMS");
    write(&file, &String::from_utf8_lossy(&output.stdout))?;
    Ok(file)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
