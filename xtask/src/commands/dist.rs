//! `cargo xtask dist`: static binaries of both architectures, packed for everyone, in `target/dist`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use super::setup;
use crate::dist::{self, Binary, Release};
use crate::static_build::{self, Arch};
use crate::workspace;

/// Runs the command for `arches`, or for all of them if none is named.
pub(crate) fn run(arches: &[Arch]) -> Result<ExitCode> {
    let root = workspace::root();
    let target = workspace::target_dir(&root)?;
    let release = Release::of(&root)?;
    setup::for_packing(&root)?;
    let native = Arch::native().context(
        "manual pages are written by the binary itself: this must run on x86_64 or aarch64",
    )?;
    // The native binary comes first: it writes the manual pages of all packages.
    let native_file = static_build::tracer(&root, &target, native)?;
    let directory = cleared(target.join("dist"))?;
    let arches = if arches.is_empty() { &Arch::ALL } else { arches };
    for arch in arches {
        let file = match *arch {
            arch if arch == native => native_file.clone(),
            arch => static_build::tracer(&root, &target, arch)?,
        };
        let binary = Binary { file: &file, arch: *arch, native: &native_file };
        dist::pack(&release, binary, &directory)?;
    }
    let sums = dist::write_sums(&directory)?;
    print!("{}", fs::read_to_string(&sums).context("cannot read the sums")?);
    eprintln!("xtask: packed into {}", directory.display());
    Ok(ExitCode::SUCCESS)
}

/// Packs the native binary `file` twice, in different places, into `target/dist` in the end: an error if
/// the results differ.
pub(crate) fn pack_twice(root: &Path, target: &Path, arch: Arch, file: &Path) -> Result<()> {
    let release = Release::of(root)?;
    let binary = Binary { file, arch, native: file };
    let mut sums = Vec::new();
    for name in ["dist-first", "dist"] {
        let directory = cleared(target.join(name))?;
        dist::pack(&release, binary, &directory)?;
        let file = dist::write_sums(&directory)?;
        sums.push(fs::read_to_string(&file).context("cannot read the sums")?);
    }
    ensure!(
        sums[0] == sums[1],
        "packing the same binary twice gave different files:\n{}and\n{}",
        sums[0],
        sums[1]
    );
    Ok(())
}

/// `directory`, empty.
fn cleared(directory: PathBuf) -> Result<PathBuf> {
    if directory.exists() {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot clear {}", directory.display()))?;
    }
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}
