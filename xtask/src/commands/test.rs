//! `cargo xtask test`: every check and every test, and as the last line their sum.

use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::setup;
use crate::checks::fuzz;
use crate::checks::house_rules;
use crate::checks::step::Step;
use crate::checks::tally::Tally;
use crate::dist;
use crate::invocation::Invocation;
use crate::machine::{self, Privilege};
use crate::python;
use crate::static_build::{Arch, Profile, StaticBuild};
use crate::toolchain::{BPF_TARGET, BpfCompiler, DEBIAN_CARGO, DEBIAN_CLIPPY, DEBIAN_RUSTC};
use crate::vm;
use crate::workspace;

/// Runs the command. A step that fails does not keep the later ones from running.
pub(crate) fn run() -> Result<ExitCode> {
    let root = workspace::root();
    let target = workspace::target_dir(&root)?;
    let mut tally = Tally::default();
    set_up(&root, &target, &mut tally);
    check_house_rules(&root, &mut tally);
    for step in [format(), clippy()] {
        step.run(&root, &mut tally);
    }
    check_bpf(&root, &target, &mut tally);
    documentation().run(&root, &mut tally);
    check_dependencies(&root, &mut tally);
    unit_tests().run(&root, &mut tally);
    benches().run(&root, &mut tally);
    fuzz::run(&root, &target, &mut tally);
    test_end_to_end(&root, &target, &mut tally);
    vm::test(&root, &target, &vm::quickly_tested(), vm::Extent::Quick, &mut tally);
    Ok(end(&tally))
}

/// Runs the end-to-end tests on the kernels of these names, or on all, and nothing else. `quick`: only those that
/// do not take long, and without names only on some of the kernels.
pub(crate) fn run_on_kernels(names: &[String], quick: bool) -> Result<ExitCode> {
    let kernels = if quick && names.is_empty() { vm::quickly_tested() } else { vm::named(names)? };
    let extent = if quick { vm::Extent::Quick } else { vm::Extent::Whole };
    let root = workspace::root();
    let target = workspace::target_dir(&root)?;
    let mut tally = Tally::default();
    set_up(&root, &target, &mut tally);
    vm::test(&root, &target, &kernels, extent, &mut tally);
    vm::document(&root, &target, &mut tally);
    Ok(end(&tally))
}

/// Installs what is missing.
fn set_up(root: &Path, target: &Path, tally: &mut Tally) {
    for outcome in [setup::for_building(root), setup::for_testing(root, target)] {
        if let Err(error) = outcome {
            eprintln!("xtask: {error:#}");
            tally.fail(format!("set-up: {error:#}"));
        }
    }
}

/// Prints the sum.
fn end(tally: &Tally) -> ExitCode {
    println!("\n{tally}");
    if tally.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check_house_rules(root: &Path, tally: &mut Tally) {
    println!("\n=== house rules: lints of the workspace, length of files");
    match house_rules::breaches(root) {
        Ok(breaches) if breaches.is_empty() => tally.pass(1),
        Ok(breaches) => {
            println!("{}", breaches.join("\n"));
            tally.fail(format!("house rules:\n{}", breaches.join("\n")));
        }
        Err(error) => tally.fail(format!("house rules: {error:#}")),
    }
}

fn format() -> Step {
    Step::check("format", Invocation::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Step {
    let call = Invocation::cargo()
        .args(["clippy", "--workspace", "--exclude", "tracer-ebpf", "--all-targets"])
        .args(["--", "-D", "warnings"]);
    Step::check("clippy", call)
}

fn documentation() -> Step {
    let call = Invocation::cargo()
        .args(["doc", "--workspace", "--no-deps", "--exclude", "tracer-ebpf"])
        .env("RUSTDOCFLAGS", "-D warnings");
    Step::check("documentation", call)
}

/// The output of tests that pass is shown too, so that those that left themselves out are counted.
fn unit_tests() -> Step {
    let call = Invocation::cargo()
        .args(["test", "--workspace", "--exclude", "tracer-ebpf", "--exclude", "tests"])
        .args(["--no-fail-fast", "--", "--show-output"]);
    Step::tests("unit tests", call)
}

/// Each bench runs once, and nothing is timed: so it need not be optimised.
fn benches() -> Step {
    let call = Invocation::cargo()
        .args(["bench", "--profile", "dev", "-p", "tracer-analysis"])
        .args(["--bench", "lengths", "--bench", "records"])
        .args(["--", "--test"]);
    Step::check("benches, once", call)
}

fn check_bpf(root: &Path, target: &Path, tally: &mut Tally) {
    let name = "clippy of the BPF programs";
    match BpfCompiler::look() {
        Some(compiler) if compiler.has_clippy() => {
            Step::check(name, bpf_clippy(compiler, target)).run(root, tally);
        }
        Some(compiler) => tally.skip(name, &format!("no clippy for {compiler} is to be had")),
        None => tally.skip(name, "there is no compiler for BPF, see `cargo xtask doctor`"),
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
fn check_dependencies(root: &Path, tally: &mut Tally) {
    let deny = || Invocation::cargo().arg("deny");
    let parts: &[&str] = match fetch_advisories(&deny().args(["fetch", "db"]), root) {
        Ok(()) => &["advisories", "bans", "licenses", "sources"],
        Err(error) => {
            tally.skip("advisories of the dependencies", &format!("{error:#}"));
            &["bans", "licenses", "sources"]
        }
    };
    Step::check("dependencies", deny().arg("check").args(parts)).run(root, tally);
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
    anyhow::bail!("the database could not be fetched: {reason}")
}

/// What is tested is what is shipped: the static binary.
fn test_end_to_end(root: &Path, target: &Path, tally: &mut Tally) {
    let name = "end-to-end tests";
    let Some(arch) = Arch::native() else {
        tally.skip(name, "smtptrace is for x86_64 and aarch64, and this is neither");
        return;
    };
    let build = match StaticBuild::prepare(root, target, arch, Profile::Release) {
        Ok(build) => build,
        Err(error) => {
            tally.fail(format!("release build: {error:#}"));
            tally.skip(name, "the release build failed");
            return;
        }
    };
    let is_built = Step::preparation("release build", build.build_tracer()).run(root, tally);
    let privilege = Privilege::look();
    if !is_built {
        tally.skip(name, "the release build failed");
        return;
    }
    check_packing(root, target, arch, &build.tracer(), tally);
    if privilege == Privilege::Missing {
        tally.skip(name, "they need root, and sudo is not installed");
    } else {
        Step::tests(name, end_to_end(&build, privilege, target)).run(root, tally);
    }
}

/// The packages stay for the end-to-end tests, which install them.
fn check_packing(root: &Path, target: &Path, arch: Arch, binary: &Path, tally: &mut Tally) {
    let name = "packing twice gives the same bytes";
    println!("\n=== {name}");
    let programs = dist::PROGRAMS.iter().map(|(program, _)| *program);
    let begin = Instant::now();
    if let Some(missing) = programs.into_iter().find(|it| machine::find_program(it).is_none()) {
        tally.skip(name, &format!("{missing} is not installed"));
        return;
    }
    match super::dist::pack_twice(root, target, arch, binary) {
        Ok(()) => tally.pass(1),
        Err(error) => tally.fail(format!("{name}: {error:#}")),
    }
    println!("=== {name}: {:.1} s", begin.elapsed().as_secs_f64());
}

/// Cargo itself runs as the user, so that what it builds does not become root's; only the tests
/// run as root.
fn end_to_end(build: &StaticBuild, privilege: Privilege, target: &Path) -> Invocation {
    let call = build
        .cargo("test")
        .args(["-p", "tests", "--no-fail-fast"])
        .env("SMTPTRACE_BIN", build.tracer())
        .env("SMTPTRACE_DIST", target.join("dist"))
        .env("SMTPTRACE_TEST_PYTHONPATH", python::directory(target))
        .env("SMTPTRACE_MAIL_SERVERS", workspace::mail_servers(target));
    let call = match privilege {
        Privilege::Sudo => call.args(["--config", "target.'cfg(all())'.runner = ['sudo', '-E']"]),
        Privilege::Root | Privilege::Missing => call,
    };
    call.args(["--", "--test-threads=1", "--nocapture"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tests_run_through_sudo() {
        let target = Path::new("/t");
        let build = StaticBuild::of(
            "x86_64-unknown-linux-gnu",
            Profile::Release,
            target,
            Invocation::new("cargo"),
        );
        let as_root = end_to_end(&build, Privilege::Root, target).to_string();
        assert!(!as_root.contains("sudo"), "{as_root}");
        assert!(
            as_root.contains("SMTPTRACE_BIN=/t/x86_64-unknown-linux-gnu/release/smtptrace "),
            "{as_root}"
        );
        assert!(as_root.contains("SMTPTRACE_MAIL_SERVERS=/t/mail-servers "), "{as_root}");
        assert!(as_root.contains(" -p tests "), "{as_root}");
        let as_user = end_to_end(&build, Privilege::Sudo, target).to_string();
        assert!(as_user.contains("cargo test") && as_user.contains("runner"), "{as_user}");
        assert!(as_user.ends_with("-- --test-threads=1 --nocapture"), "{as_user}");
    }

    #[test]
    fn each_compiler_has_its_clippy() {
        let debian = bpf_clippy(BpfCompiler::Distribution, Path::new("/t")).to_string();
        assert!(debian.contains("CARGO=/usr/bin/cargo"), "{debian}");
        assert!(debian.contains(" /usr/bin/cargo-clippy clippy -p tracer-ebpf"), "{debian}");
        let nightly = bpf_clippy(BpfCompiler::Nightly, Path::new("/t")).to_string();
        assert!(nightly.contains("rustup run nightly cargo clippy -Z build-std=core"), "{nightly}");
    }
}
