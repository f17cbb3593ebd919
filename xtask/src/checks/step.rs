//! One step of the tests: a command, and how its outcome is counted.

use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use super::stream;
use super::tally::Tally;
use super::test_output::TestOutput;
use crate::invocation::Invocation;

/// What a step adds to the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    /// One, passed or failed.
    One,
    /// The tests it ran.
    Tests,
    /// One if it failed, nothing otherwise: it only prepares another step.
    Failure,
}

/// A command to run.
#[derive(Debug)]
pub(crate) struct Step {
    name: &'static str,
    call: Invocation,
    counts: Counts,
}

impl Step {
    /// A check that passes or fails as a whole.
    pub(crate) fn check(name: &'static str, call: Invocation) -> Self {
        Self { name, call, counts: Counts::One }
    }

    /// A run of `cargo test`.
    pub(crate) fn tests(name: &'static str, call: Invocation) -> Self {
        Self { name, call, counts: Counts::Tests }
    }

    /// Something a later step needs.
    pub(crate) fn preparation(name: &'static str, call: Invocation) -> Self {
        Self { name, call, counts: Counts::Failure }
    }

    /// Runs it in `root`, adds the outcome to `tally`, and says whether it went well.
    pub(crate) fn run(&self, root: &Path, tally: &mut Tally) -> bool {
        self.run_showing(root, tally, &mut io::stdout())
    }

    fn run_showing(&self, root: &Path, tally: &mut Tally, shown: &mut impl Write) -> bool {
        announce(shown, &format!("\n=== {}: {}", self.name, self.call));
        let begin = Instant::now();
        let mut output = TestOutput::default();
        let outcome = stream::run(&self.call, root, shown, |line| {
            if self.counts == Counts::Tests {
                output.read(line);
            }
        });
        let error = match outcome {
            Ok(status) if status.success() => None,
            Ok(status) => Some(format!("{}: {status}: {}", self.name, self.call)),
            Err(error) => Some(format!("{}: {error:#}", self.name)),
        };
        let verdict = if error.is_none() { "passed" } else { "FAILED" };
        let seconds = begin.elapsed().as_secs_f64();
        announce(shown, &format!("=== {}: {verdict} in {seconds:.1} s", self.name));
        let went_well = error.is_none();
        self.count(error, output, tally);
        went_well
    }

    fn count(&self, error: Option<String>, output: TestOutput, tally: &mut Tally) {
        match error {
            None if self.counts == Counts::One => tally.pass(1),
            // The tests that failed say more than the exit code of cargo does.
            Some(error) if !output.has_failures() => tally.fail(error),
            _ => {}
        }
        output.add_to(self.name, tally);
    }
}

/// Nothing can be done if nobody reads it: the exit code still tells how the steps ended.
fn announce(shown: &mut impl Write, line: &str) {
    let _ = writeln!(shown, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(make: fn(&'static str, Invocation) -> Step, script: &str) -> (bool, String) {
        let mut tally = Tally::default();
        let step = make("step", Invocation::new("sh").args(["-c", script]));
        let went_well = step.run_showing(Path::new("/"), &mut tally, &mut Vec::new());
        (went_well, tally.to_string().lines().last().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_check_counts_one() {
        assert_eq!(sum(Step::check, "true"), (true, "1 passed, 0 failed, 0 skipped".into()));
        assert_eq!(sum(Step::check, "false"), (false, "0 passed, 1 failed, 0 skipped".into()));
    }

    #[test]
    fn a_preparation_counts_only_when_it_fails() {
        assert_eq!(sum(Step::preparation, "true"), (true, "0 passed, 0 failed, 0 skipped".into()));
        assert_eq!(
            sum(Step::preparation, "exit 7"),
            (false, "0 passed, 1 failed, 0 skipped".into())
        );
    }

    #[test]
    fn tests_count_each() {
        let passed = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured'";
        assert_eq!(sum(Step::tests, passed), (true, "2 passed, 0 failed, 0 skipped".into()));
        let failed =
            "echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured'; exit 101";
        assert_eq!(sum(Step::tests, failed), (false, "2 passed, 1 failed, 0 skipped".into()));
    }

    #[test]
    fn tests_that_do_not_compile_count_one_failure() {
        assert_eq!(sum(Step::tests, "exit 101"), (false, "0 passed, 1 failed, 0 skipped".into()));
    }
}
