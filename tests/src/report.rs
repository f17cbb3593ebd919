//! Reports in JSON (`--format json`), read as plain JSON.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Reads a report from a file.
pub fn read(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    parse(&text).with_context(|| format!("report {}", file.display()))
}

/// Reads a report from text: one JSON object and nothing else.
pub fn parse(text: &str) -> Result<Value> {
    let report: Value = serde_json::from_str(text).with_context(|| format!("report {text:?}"))?;
    if !report["schema"].is_u64() || !report["destinations"].is_array() {
        bail!("not a report: {report}");
    }
    Ok(report)
}

/// The destinations of a report.
pub fn destinations(report: &Value) -> Result<&Vec<Value>> {
    report["destinations"].as_array().context("the report has no destinations")
}

/// The destination with the key `key`.
pub fn destination<'a>(report: &'a Value, key: &str) -> Result<&'a Value> {
    destinations(report)?
        .iter()
        .find(|destination| destination["key"] == key)
        .with_context(|| format!("no destination {key} in {report}"))
}
