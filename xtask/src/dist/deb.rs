//! The package for Debian and its children.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::read;
use super::release::Release;
use super::tree::Tree;
use crate::invocation::Invocation;
use crate::static_build::Arch;

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Packs `tree`, which gets what only Debian wants, into `directory`.
pub(super) fn pack(
    release: &Release,
    tree: &Tree,
    arch: Arch,
    directory: &Path,
) -> Result<PathBuf> {
    let packaging = release.root.join("packaging/deb");
    let overrides = read(&packaging.join("lintian-overrides"))?;
    tree.put("usr/share/lintian/overrides/smtptrace", overrides.as_bytes(), 0o644)?;
    tree.put_compressed("usr/share/doc/smtptrace/changelog", changelog(release)?.as_bytes())?;

    let files = tree.files()?;
    let control = read(&packaging.join("control"))?
        .replace("@VERSION@", &release.version)
        .replace("@ARCH@", arch.debian())
        .replace("@SIZE@", &kibibytes(tree, &files)?.to_string());
    tree.put("DEBIAN/md5sums", md5sums(tree, &files)?.as_bytes(), 0o644)?;
    tree.put("DEBIAN/control", control.as_bytes(), 0o644)?;
    tree.put("DEBIAN/conffiles", b"/etc/default/smtptrace\n", 0o644)?;
    for script in SCRIPTS {
        let text = read(&packaging.join(script))?;
        tree.put(&format!("DEBIAN/{script}"), text.as_bytes(), 0o755)?;
    }
    let file = directory.join(format!("smtptrace_{}_{}.deb", release.version, arch.debian()));
    let call = Invocation::new("dpkg-deb")
        .args(["--root-owner-group", "-Zxz", "--build"])
        .arg(tree.directory())
        .arg(&file);
    release.dated(call).run(directory)?;
    Ok(file)
}

/// A changelog in Debian's form; what changed is in ours beside it.
fn changelog(release: &Release) -> Result<String> {
    Ok(format!(
        "smtptrace ({}) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- The smtptrace \
         developers <smtptrace@example.invalid>  {}\n",
        release.version,
        release.date("+%a, %d %b %Y %H:%M:%S +0000")?
    ))
}

/// What `files` take when they are installed, each rounded up.
fn kibibytes(tree: &Tree, files: &[String]) -> Result<u64> {
    files.iter().try_fold(0, |sum, file| {
        let meta = fs::metadata(tree.directory().join(file))
            .with_context(|| format!("cannot look at {file}"))?;
        Ok(sum + meta.len().div_ceil(1024))
    })
}

/// The sums that `dpkg --verify` compares with; of settings there is none.
fn md5sums(tree: &Tree, files: &[String]) -> Result<String> {
    let call =
        Invocation::new("md5sum").arg("--").args(files.iter().filter(|it| !it.starts_with("etc/")));
    let output = call
        .command()
        .current_dir(tree.directory())
        .output()
        .with_context(|| format!("`{call}` could not be started"))?;
    anyhow::ensure!(output.status.success(), "`{call}` failed with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
