//! Static binaries: what is shipped, what the end-to-end tests run, and what runs in virtual machines.
//!
//! The same sources give the same bytes in every directory: paths of this machine are mapped away.

mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::commands::setup;
use crate::invocation::Invocation;
use crate::times;
pub(crate) use toolchain::Toolchain;

/// The profile of `Cargo.toml` for what is shipped, tested end to end, and run in virtual machines: one build for all.
const SHIPPED: &str = "release";
/// That for a look at one test while one works on it: the one of unit tests, which is compiled in parts.
const QUICK: &str = "dev";

/// A processor that smtptrace is shipped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arch {
    /// 64-bit x86, which Debian calls amd64.
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    /// 64-bit ARM, which Debian calls arm64.
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
}

impl Arch {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The one of this machine, if it is among them.
    pub(crate) fn native() -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == std::env::consts::ARCH)
    }

    /// The name that Rust, RPM and the kernel use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The name in Debian's packages.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// What the names of GNU's tools for it begin with.
    pub(crate) fn gnu(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu",
            Self::Aarch64 => "aarch64-linux-gnu",
        }
    }
}

/// How binaries for one processor are built here: static and optimised, as they are shipped, or quickly.
#[derive(Debug)]
pub(crate) struct Build {
    /// The name of the target; `None` for a binary that is not static.
    triple: Option<String>,
    profile: &'static str,
    /// Where cargo puts them.
    directory: PathBuf,
    call: Invocation,
}

impl Build {
    /// Looks for the compiler and installs what it needs. `target` is cargo's target directory.
    pub(crate) fn prepare(root: &Path, target: &Path, arch: Arch) -> Result<Self> {
        let toolchain = Toolchain::choose(arch);
        setup::for_static(toolchain, root, target)
            .with_context(|| format!("static binaries for {} cannot be built", arch.name()))?;
        let fetch = toolchain.cargo().args(["fetch", "--quiet", "--locked"]);
        fetch.run(root)?;
        let call = toolchain.flagged(root, target)?;
        Ok(Self::of(&toolchain.target(), target, call))
    }

    /// A build for the target `triple` with `call`, which is cargo with all its flags.
    pub(crate) fn of(triple: &str, target: &Path, call: Invocation) -> Self {
        let directory = target.join(triple).join(SHIPPED);
        Self { triple: Some(triple.to_owned()), profile: SHIPPED, directory, call }
    }

    /// A build that is done soon after a change: neither static nor optimised.
    pub(crate) fn quick(target: &Path) -> Self {
        let directory = target.join("debug");
        Self { triple: None, profile: QUICK, directory, call: Invocation::cargo() }
    }

    /// `cargo SUBCOMMAND` with all that makes its output what this build is.
    pub(crate) fn cargo(&self, subcommand: &str) -> Invocation {
        self.with(self.call.clone().arg(subcommand), "--profile")
    }

    /// `cargo nextest SUBCOMMAND` with the same, so that it takes what [`Self::cargo`] has built.
    pub(crate) fn nextest(&self, subcommand: &str) -> Invocation {
        self.with(self.call.clone().args(["nextest", subcommand]), "--cargo-profile")
    }

    fn with(&self, call: Invocation, profile: &str) -> Invocation {
        let call = call.args([profile, self.profile, "--locked"]);
        self.triple.iter().fold(call, |call, triple| call.args(["--target", triple]))
    }

    /// The call that builds the tracer.
    pub(crate) fn build_tracer(&self) -> Invocation {
        self.cargo("build").args(["-p", "tracer"])
    }

    /// Where [`Self::build_tracer`] puts it.
    pub(crate) fn tracer(&self) -> PathBuf {
        self.directory.join("smtptrace")
    }
}

/// Builds the tracer and says where it is.
pub(crate) fn tracer(root: &Path, target: &Path, arch: Arch) -> Result<PathBuf> {
    let build = Build::prepare(root, target, arch)?;
    let name = format!("release build for {}", arch.name());
    times::measure(&name, || build.build_tracer().run(root))?;
    Ok(build.tracer())
}

/// Builds the end-to-end tests and the programs they start, and says where they are. The name of the tests' program
/// is `e2e`, a `-`, and a hash.
pub(crate) fn tests(root: &Path, target: &Path, arch: Arch) -> Result<Vec<PathBuf>> {
    let build = Build::prepare(root, target, arch)?;
    let call = build.cargo("test").args([
        "-p",
        "tests",
        "--test",
        "e2e",
        "--no-run",
        "--message-format=json",
    ]);
    let name = format!("end-to-end tests for {}", arch.name());
    let output = times::measure(&name, || {
        call.command().current_dir(root).stderr(Stdio::inherit()).output()
    });
    let output = output.with_context(|| format!("`{call}` could not be started"))?;
    if !output.status.success() {
        bail!("`{call}` failed with {}; its own messages are above", output.status);
    }
    let programs = test_programs(&String::from_utf8_lossy(&output.stdout));
    if programs.is_empty() {
        bail!("`{call}` succeeded, but names no program");
    }
    Ok(programs)
}

/// Makes a copy of the program `file` in `directory`, of the same name and without debug information, which takes
/// nine tenths of it. Who needs that builds the commit again: the program is the same to the byte.
pub(crate) fn strip(arch: Arch, file: &Path, directory: &Path) -> Result<PathBuf> {
    let name = file.file_name().with_context(|| format!("{} is no program", file.display()))?;
    let stripped = directory.join(name);
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let is_native = Arch::native() == Some(arch);
    let program = if is_native { "strip".to_owned() } else { format!("{}-strip", arch.gnu()) };
    Invocation::new(program)
        .args(["--strip-all", "--remove-section=.comment", "-o"])
        .arg(&stripped)
        .arg(file)
        .run(directory)?;
    Ok(stripped)
}

/// The programs in cargo's messages: integration tests, and programs that are not tests of themselves.
fn test_programs(messages: &str) -> Vec<PathBuf> {
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let wanted = artifacts.filter(|it| match it["target"]["kind"][0].as_str() {
        Some("test") => true,
        Some("bin") => it["profile"]["test"] == false,
        _ => false,
    });
    wanted.filter_map(|it| it["executable"].as_str().map(PathBuf::from)).collect()
}

#[cfg(test)]
mod tests_of_messages {
    use super::*;

    #[test]
    fn tests_and_programs_are_named_and_unit_tests_are_not() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"kind":["lib"]},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["lib"]},"profile":{"test":true},"executable":"/t/deps/tests-1"}
{"reason":"compiler-artifact","target":{"kind":["bin"]},"profile":{"test":true},"executable":"/t/deps/lab_session-1"}
{"reason":"compiler-artifact","target":{"kind":["bin"]},"profile":{"test":false},"executable":"/t/lab-session"}
{"reason":"compiler-artifact","target":{"kind":["custom-build"]},"profile":{"test":false},"executable":"/t/build"}
{"reason":"compiler-artifact","target":{"kind":["test"]},"profile":{"test":true},"executable":"/t/deps/e2e-1"}
{"reason":"build-finished","success":true}"#;
        let expected = ["/t/lab-session", "/t/deps/e2e-1"].map(PathBuf::from);
        assert_eq!(test_programs(messages), expected);
    }
}
