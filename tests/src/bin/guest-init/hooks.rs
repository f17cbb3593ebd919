//! Which hooks smtptrace attaches on this kernel, as it says itself in the header of a recording.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::tracer::{self, read_lossy};

use crate::MARK;

const RECORDING: &str = "/tmp/hooks.jsonl";

/// OpenSSL, which `tcpdump` needs, in the directory of each processor.
const LIBRARIES: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/libssl.so.3", "/usr/lib/aarch64-linux-gnu/libssl.so.3"];

/// Prints one line per hook: name, kind of program, state, what it records, and why it is not the best
/// kind, separated by tabs.
pub(crate) fn show() -> Result<()> {
    let library = LIBRARIES.into_iter().find(|file| Path::new(file).exists());
    let library = library.context("there is no OpenSSL in this machine")?;
    let output = tracer::command([
        "--dport",
        "25",
        "--duration",
        "100ms",
        "--record",
        RECORDING,
        "--tls-probes",
        "--tls-library",
        library,
    ])?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        println!("{MARK} untraceable {}", message.replace('\n', " "));
        return Ok(());
    }
    let text = read_lossy(Path::new(RECORDING))?;
    let header = text.lines().next().context("an empty recording")?;
    let header: Value = serde_json::from_str(header).context("the header of the recording")?;
    let hooks = header["hooks"].as_array().context("a header without hooks")?;
    ensure!(!hooks.is_empty(), "a header without hooks");
    // The row of a library has its path as name.
    let is_program = |hook: &&Value| !hook["hook"].as_str().unwrap_or_default().starts_with('/');
    for hook in hooks.iter().filter(is_program) {
        let word =
            |field: &str| hook[field].as_str().unwrap_or_default().replace(['\t', '\n'], " ");
        let words = ["hook", "program", "state", "fact", "reason"].map(word);
        println!("{MARK} hook {}", words.join("\t"));
    }
    Ok(())
}
