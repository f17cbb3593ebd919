//! `cargo xtask e2e [FILTER]`: the end-to-end tests: all with the static binary that is shipped, some with one that is built
//! quickly.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::checks::run::Run;
use crate::invocation::Invocation;
use crate::machine::Privilege;
use crate::python;
use crate::static_build::{Arch, Build};
use crate::workspace;

/// What this step is called.
const NAME: &str = "end-to-end tests";

/// Runs the command: the tests whose names contain one of `filters`, or all. `shipped`: with the binary that is shipped, also
/// if only some run.
pub(crate) fn run(filters: &[OsString], shipped: bool) -> Result<ExitCode> {
    let mut run = Run::begin()?;
    run.set_up();
    let build = if shipped || filters.is_empty() { prepare(&mut run) } else { quick(&mut run) };
    if let Some(build) = build {
        test(&mut run, &build, filters);
    }
    Ok(run.end())
}

/// Builds the tracer for a look at some tests. `None` if that fails: then it is counted.
fn quick(run: &mut Run) -> Option<Build> {
    let build = Build::quick(&run.target);
    run.prepare("quick build", &build.build_tracer()).then_some(build)
}

/// Builds the tracer as it is shipped. `None` if that fails: then it is counted.
pub(crate) fn prepare(run: &mut Run) -> Option<Build> {
    let Some(arch) = Arch::native() else {
        run.tally.skip(NAME, "smtptrace is for x86_64 and aarch64, and this is neither");
        return None;
    };
    match Build::prepare(&run.root, &run.target, arch) {
        Ok(build) => run.prepare("release build", &build.build_tracer()).then_some(build),
        Err(error) => {
            run.tally.fail(format!("release build: {error:#}"));
            None
        }
    }
}

/// Builds the tests and runs them.
pub(crate) fn test(run: &mut Run, build: &Build, filters: &[OsString]) {
    let privilege = Privilege::look();
    if privilege == Privilege::Missing {
        run.tally.skip(NAME, "they need root, and sudo is not installed");
        return;
    }
    if run.prepare(
        "build of the end-to-end tests",
        &build.cargo("test").args(["-p", "tests", "--no-run"]),
    ) {
        run.nextest(NAME, "e2e", nextest(build, "run", privilege, &run.target).args(filters));
    }
}

/// `cargo nextest SUBCOMMAND` for the lab and the end-to-end tests. Cargo itself runs as the user, so that what it
/// builds does not become root's; only the tests run as root.
pub(crate) fn nextest(
    build: &Build,
    subcommand: &str,
    privilege: Privilege,
    target: &Path,
) -> Invocation {
    let call = build
        .nextest(subcommand)
        .args(["-p", "tests"])
        .env("SMTPTRACE_BIN", build.tracer())
        .env("SMTPTRACE_DIST", target.join("dist"))
        .env("SMTPTRACE_TEST_PYTHONPATH", python::directory(target))
        .env("SMTPTRACE_MAIL_SERVERS", workspace::mail_servers(target));
    match privilege {
        Privilege::Sudo => call.args(["--config", "target.'cfg(all())'.runner = ['sudo', '-E']"]),
        Privilege::Root | Privilege::Missing => call,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tests_run_through_sudo() {
        let target = Path::new("/t");
        let build = Build::of("x86_64-unknown-linux-gnu", target, Invocation::new("cargo"));
        let call = |privilege| nextest(&build, "run", privilege, target).to_string();
        let as_root = call(Privilege::Root);
        assert!(!as_root.contains("sudo"), "{as_root}");
        assert!(
            as_root.contains("SMTPTRACE_BIN=/t/x86_64-unknown-linux-gnu/release/smtptrace "),
            "{as_root}"
        );
        assert!(as_root.contains("SMTPTRACE_MAIL_SERVERS=/t/mail-servers "), "{as_root}");
        assert!(as_root.contains(" nextest run --cargo-profile release "), "{as_root}");
        assert!(as_root.ends_with(" -p tests"), "{as_root}");
        let quick = nextest(&Build::quick(target), "run", Privilege::Root, target).to_string();
        assert!(quick.contains("SMTPTRACE_BIN=/t/debug/smtptrace "), "{quick}");
        assert!(quick.contains("--cargo-profile dev --locked -p tests"), "{quick}");
        let as_user = call(Privilege::Sudo);
        assert!(as_user.contains("cargo nextest") && as_user.contains("runner"), "{as_user}");
    }
}
