//! `cargo xtask doctor`: says what is there and what is missing, and installs nothing.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use super::setup;
use crate::invocation::Invocation;
use crate::machine::{self, Privilege};
use crate::plan::{BuildFound, EMULATORS, MAIL_SERVERS, TEST_PROGRAMS, TestFound};
use crate::toolchain::{BpfCompiler, LINKER_VERSION, find_cargo_program};
use crate::workspace;

const SETUP: &str = "cargo xtask setup";
const TEST: &str = "`cargo xtask test` installs it on Debian and Ubuntu";
const BTF: &str = "/sys/kernel/btf/vmlinux";
const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// One thing that was looked for.
struct Finding {
    name: &'static str,
    /// What was found, or what is wrong together with the remedy.
    state: Result<String, (String, String)>,
}

impl Finding {
    fn present(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, state: Ok(what.into()) }
    }

    fn missing(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, state: Err((what.into(), remedy.into())) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            Ok(what) => write!(f, "  ok       {}: {what}", self.name),
            Err((what, remedy)) => {
                write!(f, "  missing  {}: {what}\n           remedy: {remedy}", self.name)
            }
        }
    }
}

/// Runs the command: success only if nothing is missing.
pub(crate) fn run() -> ExitCode {
    let root = workspace::root();
    let target = workspace::target_dir(&root).unwrap_or_else(|_| root.join("target"));
    let sections = [
        ("Building", building(&setup::look_for_building())),
        ("Running", running()),
        ("Testing", testing(&setup::look_for_testing(&target))),
    ];
    let mut missing = 0;
    for (title, findings) in &sections {
        println!("{title}");
        for finding in findings {
            println!("{finding}");
            missing += usize::from(finding.state.is_err());
        }
    }
    if missing == 0 {
        println!("Nothing is missing");
        ExitCode::SUCCESS
    } else {
        println!("{missing} missing");
        ExitCode::FAILURE
    }
}

fn building(found: &BuildFound) -> Vec<Finding> {
    let compiler = match found.compiler {
        Some(compiler) => Finding::present("BPF compiler", compiler.to_string()),
        None => Finding::missing(
            "BPF compiler",
            "neither /usr/bin/rustc with a core for BPF nor rustup's nightly with rust-src",
            SETUP,
        ),
    };
    let linker = match found.linker {
        Some(version) if version >= LINKER_VERSION => {
            Finding::present("bpf-linker", version.to_string())
        }
        Some(version) => Finding::missing(
            "bpf-linker",
            format!("{version} is older than {LINKER_VERSION}"),
            SETUP,
        ),
        None => Finding::missing(
            "bpf-linker",
            "neither on PATH nor in cargo's directory, or it does not start",
            SETUP,
        ),
    };
    vec![compiler, linker]
}

fn running() -> Vec<Finding> {
    let root = match Privilege::look() {
        Privilege::Root => Finding::present("root", "this is root"),
        Privilege::Sudo => Finding::present("root", "through sudo"),
        Privilege::Missing => Finding::missing(
            "root",
            "this is not root, and sudo is not installed",
            "become root, or install sudo",
        ),
    };
    let btf = if Path::new(BTF).is_file() {
        Finding::present("kernel BTF", BTF)
    } else {
        Finding::missing(
            "kernel BTF",
            format!("{BTF} is not there"),
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, or give smtptrace a file with --btf",
        )
    };
    vec![root, kernel(machine::kernel_release()), btf]
}

fn kernel(release: Option<String>) -> Finding {
    let name = "kernel 5.10 or newer";
    let remedy = "boot a newer kernel";
    match release {
        Some(release) => match machine::kernel_version(&release) {
            Some(version) if version >= OLDEST_KERNEL => Finding::present(name, release),
            _ => Finding::missing(name, format!("this is {release}"), remedy),
        },
        None => Finding::missing(name, "the release of the kernel cannot be read", remedy),
    }
}

fn testing(found: &TestFound) -> Vec<Finding> {
    let mut findings: Vec<Finding> = TEST_PROGRAMS
        .iter()
        .map(|(program, package)| match machine::find_program(program) {
            Some(file) => Finding::present(program, file.display().to_string()),
            None => Finding::missing(
                program,
                "not on PATH",
                format!("{TEST}; elsewhere install what Debian packages as {package}"),
            ),
        })
        .collect();
    findings.extend(MAIL_SERVERS.iter().map(|package| {
        let place = found.mail_servers.join(package).display().to_string();
        if found.missing_mail_servers.contains(package) {
            let remedy = "`cargo xtask test` downloads it on Debian and Ubuntu";
            Finding::missing(package, format!("no package in {place}"), remedy)
        } else {
            Finding::present(package, place)
        }
    }));
    findings.extend(EMULATORS.iter().map(|(program, package)| {
        if found.missing_emulators.contains(package) {
            let remedy =
                "`cargo xtask test` unpacks it below the target directory on Debian and Ubuntu";
            Finding::missing(program, "not on PATH and not unpacked", remedy)
        } else {
            Finding::present(program, "installed or unpacked")
        }
    }));
    findings.push(answering(
        "network namespaces",
        &Invocation::new("ip").args(["netns", "list"]),
        "a kernel with CONFIG_NET_NS and an `ip` that knows them",
    ));
    for (name, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let remedy = format!("rustup component add {component}");
        findings.push(answering(name, &Invocation::cargo().args([name, "--version"]), &remedy));
    }
    findings.push(match (BpfCompiler::look(), found.clippy_missing_for) {
        (_, Some(compiler)) => {
            Finding::missing("clippy for BPF", format!("not for {compiler}"), TEST)
        }
        (Some(compiler), None) => Finding::present("clippy for BPF", format!("for {compiler}")),
        (None, None) => Finding::missing("clippy for BPF", "there is no BPF compiler", SETUP),
    });
    for (name, is_missing) in
        [("cargo-deny", found.deny_missing), ("cargo-nextest", found.nextest_missing)]
    {
        findings.push(match find_cargo_program(name) {
            Some(file) if !is_missing => Finding::present(name, file.display().to_string()),
            Some(_) => Finding::missing(name, "older than what is asked for", "cargo xtask test"),
            None => Finding::missing(name, "not on PATH", "cargo xtask test"),
        });
    }
    findings
}

/// Present if the command `call` succeeds.
fn answering(name: &'static str, call: &Invocation, remedy: &str) -> Finding {
    match call.answer() {
        Some(answer) => Finding::present(name, answer.lines().next().unwrap_or("works").to_owned()),
        None => Finding::missing(name, format!("`{call}` fails"), remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_named() {
        assert!(kernel(Some("6.1.0-28-amd64".into())).state.is_ok());
        assert!(kernel(Some("5.10.0".into())).state.is_ok());
        let shown = kernel(Some("4.19.0-27-amd64".into())).to_string();
        assert!(shown.contains("missing") && shown.contains("4.19.0-27-amd64"), "{shown}");
        assert!(shown.contains("remedy: boot a newer kernel"), "{shown}");
        assert!(kernel(None).state.is_err());
    }

    #[test]
    fn a_bare_machine_is_told_to_set_up() {
        let found = BuildFound {
            privilege: Privilege::Root,
            compiler: None,
            linker: None,
            apt_offers_compiler: false,
            apt_offers_llvm: false,
        };
        let shown: Vec<String> = building(&found).iter().map(ToString::to_string).collect();
        assert!(shown.iter().all(|line| line.contains("remedy: cargo xtask setup")), "{shown:?}");
    }
}
