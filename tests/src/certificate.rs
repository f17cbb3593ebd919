//! A certificate signed by itself.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::namespace::run;

/// Makes `cert.pem` and `key.pem` in `directory` and returns where they are, in this order.
pub fn make(directory: &Path) -> Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]);
    command.args(["-subj", "/CN=sink.test", "-keyout"]).arg(&key).arg("-out").arg(&certificate);
    run(&mut command)?;
    Ok((certificate, key))
}
