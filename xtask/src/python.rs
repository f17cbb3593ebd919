//! Independent readers of what smtptrace writes, from PyPI, in a directory of their own: the tests check
//! with them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::invocation::Invocation;
use crate::plan::Step;

/// The packages: a histogram log reader, a JSON Schema validator, a database that reads recordings (which
/// hands over times with `pytz`), parsers of Prometheus' formats, the protocol of OpenTelemetry, a YAML
/// parser, a validator of bills of materials.
const PACKAGES: &[&str] = &[
    "hdrhistogram==0.10.8",
    "jsonschema==4.26.0",
    "duckdb==2.0.0",
    "pytz==2026.6",
    "prometheus_client==0.26.0",
    "opentelemetry-proto==1.45.2",
    "PyYAML==6.0.3",
    "cyclonedx-python-lib[json-validation]==11.12.0",
];

/// Where they are, below cargo's target directory.
pub(crate) fn directory(target: &Path) -> PathBuf {
    target.join("test-python")
}

/// Written once all are installed.
fn stamp(target: &Path) -> PathBuf {
    directory(target).join(".installed")
}

/// Whether just these packages are installed.
pub(crate) fn is_ready(target: &Path) -> bool {
    fs::read_to_string(stamp(target)).is_ok_and(|installed| installed == PACKAGES.join("\n"))
}

/// How they are installed. Nothing of the system's Python changes.
pub(crate) fn install(target: &Path) -> Step {
    Step {
        installs: "Python packages for testing, below the target directory",
        call: Invocation::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"])
            .args(["--root-user-action", "ignore", "--target"])
            .arg(directory(target))
            .args(PACKAGES),
        remedy: "see pip's message above; without them the tests that need them are skipped".into(),
    }
}

/// Remembers that they are installed. If that fails, they are installed again next time.
pub(crate) fn remember(target: &Path) {
    let _ = fs::write(stamp(target), PACKAGES.join("\n"));
}
