//! Packing: from a static binary to what is offered for download.
//!
//! The same binary and the same commit give the same bytes: every time is that of the commit, every owner is
//! root, every list is sorted.

mod crates;
mod deb;
mod provenance;
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
    ("ssh-keygen", "openssh-client"),
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

/// The file with the sums of all others.
const SUMS: &str = "SHA256SUMS";

/// Writes beside the packages in `directory` where they come from, and the sums of all files. Returns the file of sums.
pub(crate) fn finish(release: &Release, directory: &Path) -> Result<PathBuf> {
    let provenance = provenance::text(release, &sums(directory)?)?;
    let name = format!("smtptrace-{}.intoto.json", release.version);
    write(&directory.join(name), &provenance)?;
    let file = directory.join(SUMS);
    write(&file, &sums(directory)?)?;
    Ok(file)
}

/// The sums of all files in `directory`, as sha256sum(1) writes them.
fn sums(directory: &Path) -> Result<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .with_context(|| format!("cannot list {}", directory.display()))?
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name != SUMS)
        .collect();
    names.sort();
    let call = Invocation::new("sha256sum").arg("--").args(names);
    let output = call
        .command()
        .current_dir(directory)
        .output()
        .with_context(|| format!("`{call}` could not be started"))?;
    anyhow::ensure!(output.status.success(), "`{call}` failed with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Signs the file of sums with the private key of OpenSSH in `key`: the signature lies beside it, with `.sig` behind its name.
pub(crate) fn sign(sums: &Path, key: &Path) -> Result<()> {
    let directory = sums.parent().context("the sums lie in no directory")?;
    let call = Invocation::new("ssh-keygen").args(["-Y", "sign", "-n", NAMESPACE, "-f"]);
    call.arg(key).arg(sums).run(directory)
}

/// What signatures of releases are for, so that one made for something else does not pass.
const NAMESPACE: &str = "smtptrace-release";

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// As `SECURITY.md` tells it.
    fn is_signed(directory: &Path) -> bool {
        let mut verify = Command::new("ssh-keygen");
        verify.args(["-Y", "verify", "-f", "allowed_signers", "-I", "releases@smtptrace"]);
        verify.args(["-n", NAMESPACE, "-s", "SHA256SUMS.sig"]).current_dir(directory);
        verify.stdin(fs::File::open(directory.join(SUMS)).unwrap());
        verify.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    #[test]
    fn a_signature_holds_for_the_sums_that_were_signed() {
        let directory = std::env::temp_dir().join(format!("xtask-sign-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let key = directory.join("key");
        let made = Invocation::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]);
        made.arg(&key).run(&directory).unwrap();
        let public = fs::read_to_string(directory.join("key.pub")).unwrap();
        fs::write(directory.join("allowed_signers"), format!("releases@smtptrace {public}"))
            .unwrap();
        let file = directory.join(SUMS);
        fs::write(&file, "00ff  smtptrace.deb\n").unwrap();
        sign(&file, &key).unwrap();
        assert!(is_signed(&directory));
        fs::write(&file, "00fe  smtptrace.deb\n").unwrap();
        assert!(!is_signed(&directory), "of other sums");
        fs::remove_dir_all(&directory).unwrap();
    }
}
