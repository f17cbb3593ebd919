//! Long recordings, made of real ones; see `tests/python/repeat_recording.py`.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tests::tracer;

pub(crate) use crate::process::Used;
use crate::process::watch;

fn tests_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests")
}

/// Writes a recording of `connections` connections to `destinations` host numbers in each family.
pub(crate) fn make(file: &Path, connections: usize, destinations: usize) -> Result<()> {
    let directory = tests_directory();
    let recordings = directory.join("testdata/recordings");
    let mut command = Command::new("python3");
    command.arg(directory.join("python/repeat_recording.py"));
    command.args([connections.to_string(), destinations.to_string()]);
    for entry in recordings.read_dir().with_context(|| format!("read {}", recordings.display()))? {
        let path = entry.context("read the directory")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("mx") && name.contains(".jsonl") {
            command.arg(path);
        }
    }
    let out = File::create(file).with_context(|| format!("create {}", file.display()))?;
    let status = command.stdout(out).status().context("run python3")?;
    ensure!(status.success(), "repeat_recording.py ended with {status}");
    Ok(())
}

/// What `smtptrace report` uses to read it.
pub(crate) fn report(file: &Path) -> Result<Used> {
    let mut command = Command::new(tracer::binary());
    command.args(["report", "--max-destinations", "1000000"]).arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    watch(command.spawn().with_context(|| format!("start {command:?}"))?)
}
