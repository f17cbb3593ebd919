//! `cargo xtask bench`: builds what is measured and what measures, installs the peers, and writes
//! `docs/performance.md` anew.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::setup;
use crate::apt;
use crate::invocation::Invocation;
use crate::machine::{self, Privilege};
use crate::workspace;

/// The tools that smtptrace is compared with, each with the Debian package that brings it.
const PEERS: &[(&str, &str)] = &[
    ("tcplife", "libbpf-tools"),
    ("tcplife-bpfcc", "bpfcc-tools"),
    ("bpftrace", "bpftrace"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
];

/// Runs the command; `args` go to the program that measures.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    let root = workspace::root();
    let target = workspace::target_dir(&root)?;
    setup::for_building(&root)?;
    setup::for_testing(&root, &target)?;
    install_peers(&root);
    // The object with the empty programs is built beside that of smtptrace.
    Invocation::cargo().args(["build", "--release", "-p", "tracer", "-p", "bench"]).run(&root)?;
    measurement(&root, &target).args(args).with_root(Privilege::look()).run(&root)?;
    Ok(ExitCode::SUCCESS)
}

fn measurement(root: &Path, target: &Path) -> Invocation {
    Invocation::new(target.join("release/smtptrace-bench"))
        .env("SMTPTRACE_BIN", target.join("release/smtptrace"))
        .arg("--floor")
        .arg(target.join("bpf/bpfel-unknown-none/release/floor"))
        .arg("--document")
        .arg(root.join("docs/performance.md"))
}

/// A peer that cannot be had is named in the tables.
fn install_peers(root: &Path) {
    let missing = |program: &str| machine::find_program(program).is_none();
    let packages: Vec<&'static str> =
        PEERS.iter().filter(|(program, _)| missing(program)).map(|(_, package)| *package).collect();
    if packages.is_empty() || !machine::has_apt() {
        return;
    }
    let privilege = Privilege::look();
    apt::update(privilege, root);
    let call = apt::install_without_services(&apt::offered(&packages), privilege);
    eprintln!("xtask: installing the peers: {call}");
    if let Err(error) = call.run(root) {
        eprintln!("xtask: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_what_was_built() {
        let call = measurement(Path::new("/r"), Path::new("/t")).to_string();
        assert!(call.contains("SMTPTRACE_BIN=/t/release/smtptrace "), "{call}");
        assert!(call.ends_with("--document /r/docs/performance.md"), "{call}");
    }
}
