//! What `cargo xtask dist` packed.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Where it is: `$SMTPTRACE_DIST`, or `target/dist` of this workspace.
pub fn directory() -> PathBuf {
    env::var_os("SMTPTRACE_DIST")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/dist"), PathBuf::from)
}

/// The file whose name ends in `ending`, if it was packed.
pub fn file(ending: &str) -> Option<PathBuf> {
    let files = fs::read_dir(directory()).ok()?.flatten().map(|entry| entry.path());
    files.into_iter().find(|file| file.to_string_lossy().ends_with(ending))
}

/// The package of Debian for this machine.
pub fn deb() -> Option<PathBuf> {
    file(if cfg!(target_arch = "aarch64") { "_arm64.deb" } else { "_amd64.deb" })
}

/// The package of RPM for this machine.
pub fn rpm() -> Option<PathBuf> {
    file(&format!(".{}.rpm", env::consts::ARCH))
}

/// The bill of materials of the binary for this machine.
pub fn bill() -> Option<PathBuf> {
    file(&format!("-{}.cdx.json", env::consts::ARCH))
}
