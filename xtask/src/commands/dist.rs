//! `cargo xtask dist`: static binaries of both architectures, packed for everyone, in `target/dist`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use super::setup;
use crate::dist::{self, Binary, Release};
use crate::invocation::Invocation;
use crate::static_build::{self, Arch};
use crate::workspace;

/// Runs the command for `arches`, or for all of them if none is named. `verify`: then everything is built and packed
/// once more, in another directory, and an error if that gives other bytes.
/// `key`: sign the sums with it.
pub(crate) fn run(arches: &[Arch], verify: bool, key: Option<&Path>) -> Result<ExitCode> {
    let root = workspace::root();
    let target = workspace::target_dir(&root)?;
    if verify || key.is_some() {
        ensure_committed(&root)?;
    }
    let canonical =
        |key: &Path| key.canonicalize().with_context(|| format!("no key at {}", key.display()));
    let key = key.map(canonical).transpose()?;
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
    let file = dist::finish(&release, &directory)?;
    let sums = read(&file)?;
    print!("{sums}");
    eprintln!("xtask: packed into {}", directory.display());
    if verify {
        let again = built_again(&root, &target, arches)?;
        ensure!(sums == again, "another build of the same commit gave other files:\n{again}");
        eprintln!("xtask: another build of the same commit gave the same bytes");
    }
    if let Some(key) = key {
        dist::sign(&file, &key)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A second build has only what is committed.
fn ensure_committed(root: &Path) -> Result<()> {
    let call = Invocation::new("git").arg("-C").arg(root).args(["status", "--porcelain"]);
    let changes = call.answer().with_context(|| format!("`{call}` failed: is this a checkout?"))?;
    ensure!(
        changes.trim().is_empty(),
        "--verify builds the last commit again, and --sign says that the files are of it; this checkout differs from \
         it:\n{changes}"
    );
    Ok(())
}

/// Sums of what a new checkout of this commit, in a directory of its own, is built and packed into.
fn built_again(root: &Path, target: &Path, arches: &[Arch]) -> Result<String> {
    let checkout = cleared(target.join("dist-again"))?;
    eprintln!("xtask: building once more, in {}", checkout.display());
    Invocation::new("git").args(["clone", "--quiet"]).arg(root).arg(&checkout).run(root)?;
    let own_target = checkout.join("target");
    let mut call = Invocation::cargo().args(["xtask", "dist"]).env("CARGO_TARGET_DIR", &own_target);
    for arch in arches {
        call = call.args(["--arch", arch.name()]);
    }
    call.run(&checkout)?;
    read(&own_target.join("dist/SHA256SUMS"))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
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
        let file = dist::finish(&release, &directory)?;
        sums.push(read(&file)?);
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
