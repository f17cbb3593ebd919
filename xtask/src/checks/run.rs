//! One run of checks and tests: where it happens, how each step is run, and what they add up to.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::junit;
use super::tally::Tally;
use crate::commands::setup;
use crate::invocation::Invocation;
use crate::{times, workspace};

/// A run that has begun.
#[derive(Debug)]
pub(crate) struct Run {
    /// The workspace.
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
    /// What passed, failed and was skipped so far.
    pub(crate) tally: Tally,
}

impl Run {
    /// Begins a run in this workspace.
    ///
    /// # Errors
    /// If cargo does not say where it builds.
    pub(crate) fn begin() -> Result<Self> {
        let root = workspace::root();
        let target = workspace::target_dir(&root)?;
        Ok(Self { root, target, tally: Tally::default() })
    }

    /// Installs what building and testing need and this machine lacks.
    pub(crate) fn set_up(&mut self) {
        for outcome in
            [setup::for_building(&self.root), setup::for_testing(&self.root, &self.target)]
        {
            if let Err(error) = outcome {
                eprintln!("xtask: {error:#}");
                self.tally.fail(format!("set-up: {error:#}"));
            }
        }
    }

    /// Runs a check, which passes or fails as a whole.
    pub(crate) fn check(&mut self, name: &str, call: &Invocation) -> bool {
        let succeeded = self.prepare(name, call);
        self.tally.pass(usize::from(succeeded));
        succeeded
    }

    /// Runs what a later step needs: it counts only if it fails. Says whether it succeeded.
    pub(crate) fn prepare(&mut self, name: &str, call: &Invocation) -> bool {
        let outcome = self.execute(name, call);
        if let Err(error) = &outcome {
            self.tally.fail(format!("{name}: {error:#}"));
        }
        outcome.is_ok()
    }

    /// Runs `call`, a `cargo nextest run`, in a profile of `.config/nextest.toml`, and counts each of its tests.
    pub(crate) fn nextest(&mut self, name: &str, profile: &str, call: Invocation) {
        let directory = self.target.join("nextest").join(profile);
        let (report, skips) = (directory.join("junit.xml"), directory.join("skips"));
        let call = call.args(["--profile", profile]).env("SMTPTRACE_SKIPS", &skips);
        let outcome = cleared(&[&report, &skips]).and_then(|()| self.execute(name, &call));
        let failed_before = self.tally.counts()[1];
        let counted = junit::add(&report, &skips, name, &mut self.tally);
        // The tests that failed say more than the exit status.
        if self.tally.counts()[1] == failed_before
            && let Err(error) = outcome.and(counted)
        {
            self.tally.fail(format!("{name}: {error:#}"));
        }
    }

    fn execute(&self, name: &str, call: &Invocation) -> Result<()> {
        println!("\n=== {name}: {call}");
        let status = times::measure(name, || call.command().current_dir(&self.root).status());
        let status =
            status.with_context(|| format!("`{call}` could not be started; is it installed?"))?;
        println!("=== {name}: {}", if status.success() { "passed" } else { "FAILED" });
        if !status.success() {
            bail!("{status}: {call}");
        }
        Ok(())
    }

    /// Prints how long each step took and, as the last line, the sum.
    pub(crate) fn end(&self) -> ExitCode {
        println!("\nSteps:\n{}\n{}", times::table(), self.tally);
        if self.tally.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Makes the directory of `files` and removes what an earlier run has left there.
fn cleared(files: &[&PathBuf]) -> Result<()> {
    for file in files {
        let directory = file.parent().unwrap_or(file);
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", file.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_in(name: &str) -> Run {
        let target = std::env::temp_dir().join(format!("xtask-run-{}-{name}", std::process::id()));
        Run { root: "/".into(), target, tally: Tally::default() }
    }

    fn shell(script: &str) -> Invocation {
        Invocation::new("sh").args(["-c", script])
    }

    #[test]
    fn a_check_counts_one_and_a_preparation_only_its_failure() {
        let mut run = run_in("check");
        assert!(run.check("a", &shell("true")) && run.prepare("b", &shell("true")));
        assert_eq!(run.tally.counts(), [1, 0, 0]);
        assert!(!run.check("a", &shell("false")) && !run.prepare("b", &shell("exit 7")));
        assert_eq!(run.tally.counts(), [1, 2, 0]);
        assert!(!run.check("c", &Invocation::new("no-such-program-here")));
        assert!(run.tally.to_string().contains("c: `no-such-program-here` could not be started"));
        assert_eq!(run.end(), ExitCode::FAILURE);
    }

    /// What nextest writes, without nextest.
    fn nextest(name: &str, xml: &str, then: &str) -> [usize; 3] {
        let mut run = run_in(name);
        let file = run.target.join("nextest/p/junit.xml");
        let script = format!(
            "printf '%s' '{xml}' > {}; printf 'b\\t\\tno b\\n' > $SMTPTRACE_SKIPS; {then}",
            file.display()
        );
        // What an earlier run has left is not counted.
        fs::create_dir_all(run.target.join("nextest/p")).unwrap();
        fs::write(run.target.join("nextest/p/skips"), "a\t\told\n").unwrap();
        run.nextest("tests", "p", shell(&script));
        fs::remove_dir_all(&run.target).unwrap();
        run.tally.counts()
    }

    #[test]
    fn tests_count_each() {
        let passed = "<testsuites><testcase name=\"a\"/><testcase name=\"b\"/></testsuites>";
        assert_eq!(nextest("passed", passed, "true"), [1, 0, 1]);
        let failed = "<testsuites><testcase name=\"a\"><failure/></testcase><testcase name=\"b\"/></testsuites>";
        assert_eq!(nextest("failed", failed, "exit 100"), [0, 1, 1]);
    }

    #[test]
    fn tests_that_do_not_compile_count_one_failure() {
        let mut run = run_in("compile");
        run.nextest("tests", "p", shell("exit 101"));
        fs::remove_dir_all(&run.target).unwrap();
        assert_eq!(run.tally.counts(), [0, 1, 0]);
    }
}
