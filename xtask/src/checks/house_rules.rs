//! Rules that no lint of the compiler knows: every package takes the lints of the workspace, no test is ignored (nobody
//! would count it), and each promise of `docs/robustness.md` has its test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Every breach of a rule below `root`, one line each.
pub(crate) fn breaches(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut functions = BTreeSet::new();
    for file in files(root)? {
        let shown = file.strip_prefix(root).unwrap_or(&file).display();
        if file.extension().is_some_and(|extension| extension == "rs") {
            let text = read(&file)?;
            functions.extend(text.lines().filter_map(function).map(str::to_owned));
            if text.lines().any(|line| line.trim_start().starts_with("#[ignore")) {
                found.push(format!(
                    "{shown} ignores a test: run it, or skip it with `needs!` or `skip!`"
                ));
            }
        } else if file.file_name().is_some_and(|name| name == "Cargo.toml") {
            let manifest = read(&file)?;
            if is_member(&manifest) && !takes_workspace_lints(&manifest) {
                found.push(format!("{shown} lacks `[lints]` with `workspace = true`: add it"));
            }
        }
    }
    let promises = root.join(PROMISES);
    if promises.exists() {
        let text = read(&promises)?;
        let missing = tests_named(&text).filter(|name| !functions.contains(*name));
        found
            .extend(missing.map(|name| format!("{PROMISES} names the test {name}: there is none")));
    }
    found.sort();
    Ok(found)
}

/// The promises, a row each, with the tests that show them in the last column.
const PROMISES: &str = "docs/robustness.md";

/// The name of the function that `line` begins.
fn function(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("fn ")?.split(['(', '<']).next()
}

/// The functions that the last column of each row names, in backticks, with or without their module.
fn tests_named(table: &str) -> impl Iterator<Item = &str> {
    let cells = table.lines().filter_map(|line| line.strip_suffix('|')?.rsplit('|').next());
    let quoted = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    quoted.filter_map(|name| name.rsplit("::").next())
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("{} could not be read", file.display()))
}

/// All files below `root`, without hidden directories and without what cargo builds.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("{} could not be listed", directory.display()))?;
        for entry in entries {
            let entry =
                entry.with_context(|| format!("{} could not be listed", directory.display()))?;
            let path = entry.path();
            let kind = entry
                .file_type()
                .with_context(|| format!("{} could not be looked at", path.display()))?;
            if kind.is_file() {
                found.push(path);
            } else if kind.is_dir() && !is_left_out(&path) {
                directories.push(path);
            }
        }
    }
    Ok(found)
}

/// Cargo marks the directories it builds into with a file `CACHEDIR.TAG`.
fn is_left_out(directory: &Path) -> bool {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || name == "target" || directory.join("CACHEDIR.TAG").exists()
}

/// Whether it is a package of the workspace. One that is a workspace of its own, as cargo-fuzz wants it,
/// has nothing to take lints from.
fn is_member(manifest: &str) -> bool {
    let titles = || manifest.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    titles().any(|it| it == "[package]") && !titles().any(|it| it == "[workspace]")
}

fn takes_workspace_lints(manifest: &str) -> bool {
    section(manifest, "[lints]").any(|line| line.replace(' ', "") == "workspace=true")
}

/// The lines of the section that `title` opens.
fn section<'a>(manifest: &'a str, title: &str) -> impl Iterator<Item = &'a str> {
    manifest
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .skip_while(move |line| *line != title)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspace_lints_are_found() {
        let manifest = "[package]\nname = \"x\"\n\n[lints] # ours\nworkspace = true\n";
        assert!(takes_workspace_lints(manifest));
        assert!(is_member(manifest));
    }

    #[test]
    fn other_sections_do_not_count() {
        assert!(!takes_workspace_lints("[package]\nversion.workspace = true\nworkspace = true\n"));
        assert!(!takes_workspace_lints("[lints]\n\n[lints.rust]\nworkspace = true\n"));
        assert!(!takes_workspace_lints("[lints]\n# workspace = true\n"));
        assert!(!is_member("[workspace]\nmembers = []\n"));
        assert!(!is_member("[package]\nname = \"fuzz\"\n\n[workspace] # its own\n"));
    }

    #[test]
    fn breaches_are_named() {
        let root = std::env::temp_dir().join(format!("house-rules-{}", std::process::id()));
        fs::create_dir_all(root.join("a/src")).unwrap();
        fs::create_dir_all(root.join("target")).unwrap();
        fs::write(root.join("Cargo.toml"), "[workspace]\n").unwrap();
        fs::write(root.join("a/Cargo.toml"), "[package]\nname = \"a\"\n").unwrap();
        fs::write(root.join("target/generated.rs"), "#[ignore]\n").unwrap();
        fs::write(root.join("a/src/ignored.rs"), "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n")
            .unwrap();
        fs::create_dir_all(root.join("docs")).unwrap();
        let table = "| a | `code` | `x::a`, unit: `b` |\n|---|---|---|\n";
        fs::write(root.join(PROMISES), table).unwrap();
        let found = breaches(&root).unwrap();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(
            found,
            [
                "a/Cargo.toml lacks `[lints]` with `workspace = true`: add it",
                "a/src/ignored.rs ignores a test: run it, or skip it with `needs!` or `skip!`",
                "docs/robustness.md names the test b: there is none",
            ]
        );
    }
}
