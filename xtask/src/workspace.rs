//! Where the sources are and where cargo puts what it builds.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::invocation::Invocation;

/// The directory of the workspace. What cargo says at run time comes first: two checkouts that
/// share a target directory also share this very binary.
pub(crate) fn root() -> PathBuf {
    let compiled_in = env!("CARGO_MANIFEST_DIR");
    let own = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| compiled_in.into());
    let own = Path::new(&own);
    own.parent().unwrap_or(own).to_owned()
}

/// The directory cargo builds into, whatever the environment or a configuration file says.
pub(crate) fn target_dir(root: &Path) -> Result<PathBuf> {
    let question = Invocation::cargo()
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(root.join("Cargo.toml"));
    let metadata = question
        .answer()
        .with_context(|| format!("`{question}` failed; run it by hand to see why"))?;
    let directory = target_directory(&metadata)
        .with_context(|| format!("`{question}` names no target directory"))?;
    Ok(PathBuf::from(directory))
}

/// The day, and the commit that is checked out at `root` if it is a checkout.
pub(crate) fn day_and_commit(root: &Path) -> String {
    let day = Invocation::new("date").args(["-u", "+%Y-%m-%d"]).answer().unwrap_or_default();
    let commit = Invocation::new("git").arg("-C").arg(root).args(["rev-parse", "--short", "HEAD"]);
    format!("{} {}", day.trim(), commit.answer().unwrap_or_default().trim()).trim().to_owned()
}

/// Where the packages of mail servers for the tests are kept.
pub(crate) fn mail_servers(target: &Path) -> PathBuf {
    target.join("mail-servers")
}

/// Where emulators for the tests on other kernels are unpacked.
pub(crate) fn emulators(target: &Path) -> PathBuf {
    target.join("emulators")
}

/// The target directory in the JSON of `cargo metadata`. A path with a quote or a backslash in it
/// is not read.
fn target_directory(metadata: &str) -> Option<&str> {
    let (_, rest) = metadata.split_once(r#""target_directory":""#)?;
    let (directory, _) = rest.split_once('"')?;
    (!directory.contains('\\')).then_some(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_target_directory() {
        let metadata = r#"{"packages":[],"target_directory":"/tmp/a b","version":1}"#;
        assert_eq!(target_directory(metadata), Some("/tmp/a b"));
    }

    #[test]
    fn does_not_guess_an_escaped_path() {
        assert_eq!(target_directory(r#"{"target_directory":"/tmp/a\"b"}"#), None);
        assert_eq!(target_directory("{}"), None);
    }

    #[test]
    fn the_root_is_the_workspace() {
        assert!(root().join("xtask/Cargo.toml").is_file());
    }
}
