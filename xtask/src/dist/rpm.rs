//! The package for Fedora, Red Hat, SUSE and their children.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::release::Release;
use super::tree::Tree;
use super::{read, write};
use crate::invocation::Invocation;
use crate::static_build::Arch;

/// Packs `tree` into `directory`.
pub(super) fn pack(
    release: &Release,
    tree: &Tree,
    arch: Arch,
    directory: &Path,
) -> Result<PathBuf> {
    let scratch = tree.directory().with_extension("build");
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let files = tree.files()?;
    let directories = directories(&files).into_iter().map(|it| format!("%dir /{it}"));
    let listed: Vec<String> = directories.chain(files.iter().map(|it| listed(it))).collect();
    let spec = read(&release.root.join("packaging/rpm/smtptrace.spec"))?
        .replace("@VERSION@", &release.version)
        .replace("@FILES@", &listed.join("\n"));
    let spec_file = scratch.join("smtptrace.spec");
    write(&spec_file, &spec)?;
    let define = |name: &str, value: &Path| format!("{name} {}", value.display());
    let call = Invocation::new("rpmbuild")
        .args(["--quiet", "-bb", "--target", &format!("{}-linux", arch.name())])
        .args(["--define", &define("_topdir", &scratch)])
        .args(["--define", &define("tree", tree.directory())])
        .args(["--define", &define("_rpmdir", directory)])
        .args(["--define", "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"])
        .args(["--define", &define("_dbpath", &scratch.join("db"))])
        .arg(&spec_file);
    release.dated(call).run(&scratch)?;
    Ok(directory.join(format!("smtptrace-{}-1.{}.rpm", release.version, arch.name())))
}

/// The directories that go with the package: its own, and those of shells that may not be installed.
fn directories(files: &[String]) -> BTreeSet<&str> {
    let ours =
        ["doc/smtptrace", "bash-completion", "fish", "zsh"].map(|it| format!("usr/share/{it}"));
    let is_ours = |directory: &&str| ours.iter().any(|it| Path::new(directory).starts_with(it));
    let above = files.iter().flat_map(|file| Path::new(file).ancestors().skip(1));
    above.filter_map(Path::to_str).filter(is_ours).collect()
}

/// A file as `%files` wants it.
fn listed(file: &str) -> String {
    let kind = match file {
        _ if file.starts_with("etc/") => "%config(noreplace) ",
        _ if file.contains("/LICENSE") => "%license ",
        _ if file.starts_with("usr/share/doc/") => "%doc ",
        _ => "",
    };
    format!("{kind}/{file}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_kept_and_documents_are_marked() {
        assert_eq!(listed("etc/default/smtptrace"), "%config(noreplace) /etc/default/smtptrace");
        assert_eq!(
            listed("usr/share/doc/smtptrace/copyright"),
            "%doc /usr/share/doc/smtptrace/copyright"
        );
        assert_eq!(listed("usr/bin/smtptrace"), "/usr/bin/smtptrace");
    }

    #[test]
    fn directories_of_the_system_are_not_ours() {
        let files =
            ["usr/bin/smtptrace", "usr/share/zsh/site-functions/_smtptrace"].map(String::from);
        let expected = ["usr/share/zsh", "usr/share/zsh/site-functions"];
        assert_eq!(directories(&files), expected.into());
    }
}
