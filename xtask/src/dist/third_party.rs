//! The licences of everything that is linked in, with their texts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::crates::{Crate, Crates};

/// The text: first each crate with its licence, then each text once, with the crates it is of.
pub(super) fn text(crates: &Crates) -> Result<String> {
    let mut list = String::from("What is linked into smtptrace beside its own crates.\n\n");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for it in crates.0.iter().filter(|it| !it.is_ours()) {
        let license = it.license.as_deref().unwrap_or("see its text");
        let _ = writeln!(list, "{} {}: {license}", it.name, it.version);
        for file in files(it)? {
            let bytes =
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let text = String::from_utf8_lossy(&bytes).replace('\r', "").trim().to_owned();
            texts.entry(text).or_default().push(format!("{} {}", it.name, it.version));
        }
    }
    list.push_str(
        "the GNU C Library: LGPL-2.1-or-later (where the binary is linked against it)\n\
         Rust's standard library: MIT OR Apache-2.0\n",
    );
    let mut texts: Vec<(Vec<String>, String)> =
        texts.into_iter().map(|(text, of)| (of, text)).collect();
    texts.sort();
    for (of, text) in texts {
        let _ = write!(list, "\n{}\n{}\n\n{text}\n", "=".repeat(78), of.join(", "));
    }
    Ok(list)
}

/// The files with licences of a crate: in its directory, and in one below it that holds C sources.
fn files(it: &Crate) -> Result<Vec<PathBuf>> {
    let mut directories = vec![it.directory.clone()];
    let bundled = it.directory.join(it.name.trim_end_matches("-sys"));
    directories.extend(bundled.is_dir().then_some(bundled));
    let mut files = Vec::new();
    for directory in directories {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        files.extend(entries.flatten().map(|entry| entry.path()).filter(|file| is_license(file)));
    }
    files.sort();
    Ok(files)
}

fn is_license(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_ascii_uppercase();
    let starts = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
    file.is_file() && starts.iter().any(|start| name.starts_with(start))
}
