//! The steps before the end-to-end tests: formatting, lints, documentation, dependencies, unit tests.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::house_rules;
use super::run::Run;
use crate::invocation::Invocation;
use crate::times;
use crate::toolchain::{BPF_TARGET, BpfCompiler, DEBIAN_CARGO, DEBIAN_CLIPPY, DEBIAN_RUSTC};

/// What `cargo xtask check` runs: all that needs neither root nor an optimised build.
pub(crate) fn check(run: &mut Run) {
    rules_of_the_house(run);
    run.check("format", &Invocation::cargo().args(["fmt", "--all", "--check"]));
    run.check("clippy", &clippy());
    run.nextest("unit tests", "default", unit_tests("run"));
}

/// What `cargo xtask test` runs besides before the end-to-end tests.
pub(crate) fn documents_and_dependencies(run: &mut Run) {
    check_bpf(run);
    run.check("documentation", &documentation());
    check_dependencies(run);
    run.check("benches, once", &benches());
}

fn rules_of_the_house(run: &mut Run) {
    let name = "house rules: lints of the workspace, no ignored test";
    println!("\n=== {name}");
    match times::measure("house rules", || house_rules::breaches(&run.root)) {
        Ok(breaches) if breaches.is_empty() => run.tally.pass(1),
        Ok(breaches) => run.tally.fail(format!("{name}:\n{}", breaches.join("\n"))),
        Err(error) => run.tally.fail(format!("{name}: {error:#}")),
    }
}

fn clippy() -> Invocation {
    Invocation::cargo()
        .args(["clippy", "--workspace", "--exclude", "tracer-ebpf", "--all-targets"])
        .args(["--", "-D", "warnings"])
}

fn documentation() -> Invocation {
    Invocation::cargo()
        .args(["doc", "--workspace", "--no-deps", "--exclude", "tracer-ebpf"])
        .env("RUSTDOCFLAGS", "-D warnings")
}

/// `cargo nextest SUBCOMMAND` for the unit tests of all host crates. Those of the lab run with the end-to-end tests.
pub(crate) fn unit_tests(subcommand: &str) -> Invocation {
    Invocation::cargo().args(["nextest", subcommand, "--workspace"]).args([
        "--exclude",
        "tracer-ebpf",
        "--exclude",
        "tests",
    ])
}

/// Each bench runs once, and nothing is timed: so it need not be optimised.
fn benches() -> Invocation {
    Invocation::cargo()
        .args(["bench", "--profile", "dev", "-p", "tracer-analysis"])
        .args(["--bench", "lengths", "--bench", "records"])
        .args(["--", "--test"])
}

fn check_bpf(run: &mut Run) {
    let name = "clippy of the BPF programs";
    match BpfCompiler::look() {
        Some(compiler) if compiler.has_clippy() => {
            run.check(name, &bpf_clippy(compiler, &run.target));
        }
        Some(compiler) => run.tally.skip(name, &format!("{compiler} has no clippy here")),
        None => run.tally.skip(name, "there is no compiler for BPF, see `cargo xtask doctor`"),
    }
}

/// Clippy with the compiler that also builds the programs. Debian's is called by its own name,
/// because `/usr/bin/cargo clippy` would find the one of rustup that is earlier on PATH.
fn bpf_clippy(compiler: BpfCompiler, target: &Path) -> Invocation {
    let call = match compiler {
        BpfCompiler::Distribution => Invocation::new(DEBIAN_CLIPPY)
            .env("CARGO", DEBIAN_CARGO)
            .env("RUSTC", DEBIAN_RUSTC)
            .env("RUSTC_BOOTSTRAP", "1")
            .arg("clippy"),
        BpfCompiler::Nightly => Invocation::new("rustup").args([
            "run",
            "nightly",
            "cargo",
            "clippy",
            "-Z",
            "build-std=core",
        ]),
    };
    call.env("RUSTFLAGS", format!("--cfg bpf_target_arch=\"{}\"", std::env::consts::ARCH))
        .args(["-p", "tracer-ebpf", "--target", BPF_TARGET, "--target-dir"])
        .arg(target.join("bpf-clippy"))
        .args(["--", "-D", "warnings"])
}

/// Licences, bans and sources need no network. The database of advisories does: where it cannot
/// be fetched, that part is skipped and said to be.
fn check_dependencies(run: &mut Run) {
    let deny = || Invocation::cargo().arg("deny");
    let fetched =
        times::measure("advisories", || fetch_advisories(&deny().args(["fetch", "db"]), &run.root));
    let parts: &[&str] = match fetched {
        Ok(()) => &["advisories", "bans", "licenses", "sources"],
        Err(error) => {
            run.tally.skip("advisories of the dependencies", &format!("{error:#}"));
            &["bans", "licenses", "sources"]
        }
    };
    run.check("dependencies", &deny().arg("check").args(parts));
    // A workspace of its own, with a lock file of its own.
    let fuzz = deny().arg("--manifest-path").arg(run.root.join("fuzz/Cargo.toml"));
    run.check("dependencies of the fuzz targets", &fuzz.arg("check").args(parts));
}

fn fetch_advisories(call: &Invocation, root: &Path) -> Result<()> {
    println!("\n=== advisories: {call}");
    let output = call
        .command()
        .current_dir(root)
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdout(Stdio::null())
        .output()
        .with_context(|| format!("`{call}` could not be started"))?;
    if output.status.success() {
        return Ok(());
    }
    let messages = String::from_utf8_lossy(&output.stderr);
    let reason = messages.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message");
    println!("{reason}");
    bail!("the database could not be fetched: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_compiler_has_its_clippy() {
        let debian = bpf_clippy(BpfCompiler::Distribution, Path::new("/t")).to_string();
        assert!(debian.contains("CARGO=/usr/bin/cargo"), "{debian}");
        assert!(debian.contains(" /usr/bin/cargo-clippy clippy -p tracer-ebpf"), "{debian}");
        let nightly = bpf_clippy(BpfCompiler::Nightly, Path::new("/t")).to_string();
        assert!(nightly.contains("rustup run nightly cargo clippy -Z build-std=core"), "{nightly}");
    }
}
