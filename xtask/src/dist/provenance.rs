//! Where the files of a release come from: an in-toto statement with a provenance of SLSA (version 1 of both).
//!
//! It names the commit, the lock file and the compilers, and no time and no machine: the same commit gives the same bytes. It
//! says what `cargo xtask dist` did; that it is true, the signature of `SHA256SUMS` vouches for.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Release;
use crate::invocation::Invocation;

/// The statement about the files in `sums`, which is what sha256sum(1) writes.
pub(super) fn text(release: &Release, sums: &str) -> Result<String> {
    let asked = |program: &str, words: &[&str]| {
        let call = Invocation::new(program).args(words);
        call.answer().map(|text| text.trim().to_owned()).with_context(|| format!("`{call}` failed"))
    };
    let root = release.root.display().to_string();
    let lock = asked("sha256sum", &["--", &format!("{root}/Cargo.lock")])?;
    let source = json!({
        "uri": format!("git+{}", env!("CARGO_PKG_REPOSITORY")),
        "digest": { "gitCommit": asked("git", &["-C", &root, "rev-parse", "HEAD"])? },
    });
    let lock = json!({ "name": "Cargo.lock", "digest": { "sha256": digest(&lock) } });
    let compilers = json!({
        "rustc": asked("rustc", &["--version"])?,
        "bpf-linker": asked("bpf-linker", &["--version"])?,
    });
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": sums.lines().map(subject).collect::<Option<Vec<_>>>().context("odd sums")?,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": concat!(env!("CARGO_PKG_REPOSITORY"), "/xtask-dist/v1"),
                "externalParameters": { "version": release.version, "command": "cargo xtask dist" },
                "internalParameters": compilers,
                "resolvedDependencies": [source, lock],
            },
            "runDetails": {
                "builder": { "id": concat!(env!("CARGO_PKG_REPOSITORY"), "/xtask") },
            },
        },
    });
    Ok(format!("{statement:#}\n"))
}

/// One line of sums as a subject.
fn subject(line: &str) -> Option<Value> {
    let (digest, name) = line.split_once("  ")?;
    Some(json!({ "name": name, "digest": { "sha256": digest } }))
}

fn digest(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn each_file_is_named_with_its_sum() {
        let release = Release::of(&workspace::root()).unwrap();
        let sums = "00ff  smtptrace.deb\n11ee  smtptrace.tar.gz\n";
        let text = text(&release, sums).unwrap();
        let statement: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(statement["subject"][1]["name"], "smtptrace.tar.gz");
        assert_eq!(statement["subject"][1]["digest"]["sha256"], "11ee");
        let source = &statement["predicate"]["buildDefinition"]["resolvedDependencies"][0];
        assert_eq!(source["digest"]["gitCommit"].as_str().unwrap().len(), 40, "{text}");
        assert_eq!(text, super::text(&release, sums).unwrap(), "the same again");
    }
}
