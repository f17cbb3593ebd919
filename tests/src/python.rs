//! Independent readers of what smtptrace writes: Python with packages from `PyPI`.
//!
//! `cargo xtask test` installs them below the target directory and names the place in
//! `SMTPTRACE_TEST_PYTHONPATH`; without that, they must be known to the system's Python.

use std::{
    env,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

fn command(script: &str) -> Command {
    let mut command = interpreter();
    command.args(["-c", script]);
    command
}

/// Python, with those packages.
pub fn interpreter() -> Command {
    let mut command = Command::new("python3");
    command.stdin(Stdio::null());
    if let Some(path) = env::var_os("SMTPTRACE_TEST_PYTHONPATH") {
        command.env("PYTHONPATH", path);
    }
    command
}

/// Whether `module` can be imported.
pub(crate) fn has(module: &str) -> bool {
    command(&format!("import {module}")).output().is_ok_and(|output| output.status.success())
}

/// Runs `script` and returns what it prints.
pub fn run(script: &str, arguments: &[&str]) -> Result<String> {
    let mut command = command(script);
    let output = command.args(arguments).output().context("start python3")?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the script failed: {message}");
    String::from_utf8(output.stdout).context("output of the script")
}
