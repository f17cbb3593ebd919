//! Reads what a test program prints in a virtual machine, line by line: nextest does not run there.

use std::collections::BTreeSet;
use std::mem;

use crate::checks::tally::Tally;

/// What a test prints, followed by `<test>: <reason>`, when it was left out in full or in part.
const SKIPPED: &str = "SKIPPED: ";

/// What was read so far, over any number of test binaries.
#[derive(Debug, Default)]
pub(crate) struct TestOutput {
    passed: usize,
    failed: usize,
    failures: Vec<String>,
    /// Test and reason, each pair once.
    skips: BTreeSet<(String, String)>,
    ignored: Vec<(String, String)>,
    /// Ignored tests named since the last result line.
    ignored_in_binary: usize,
    in_failure_list: bool,
}

impl TestOutput {
    /// Reads one line, without its end.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.in_failure_list = false;
            self.read_result(result);
        } else if let Some((name, outcome)) = test_line(line) {
            self.read_outcome(name, outcome);
        } else if line == "failures:" {
            self.in_failure_list = true;
        } else if self.in_failure_list {
            self.read_failure(line);
        } else {
            self.read_skip(line);
        }
    }

    /// Adds it to `tally`, where `step` names the step that printed it.
    pub(crate) fn add_to(self, step: &str, tally: &mut Tally) {
        let named = self.failures.len();
        for name in &self.failures {
            tally.fail(format!("{step}: {name}"));
        }
        for _ in named..self.failed {
            tally.fail(format!("{step}: a test whose name was not printed"));
        }
        // To cargo a test that left itself out has passed. A part that was left out makes the
        // whole test not passed here: rather too few than too many.
        let skipped: BTreeSet<&str> = self
            .skips
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !self.failures.iter().any(|failure| same_test(failure, name)))
            .collect();
        tally.pass(self.passed.saturating_sub(skipped.len()));
        for (name, reason) in self.skips.iter().chain(&self.ignored) {
            tally.skip(name, reason);
        }
    }

    /// Whether a test has failed.
    pub(crate) fn has_failures(&self) -> bool {
        self.failed > 0
    }

    fn read_result(&mut self, result: &str) {
        self.passed += count(result, "passed");
        self.failed += count(result, "failed");
        let unnamed =
            count(result, "ignored").saturating_sub(mem::take(&mut self.ignored_in_binary));
        for _ in 0..unnamed {
            self.ignored.push(("a test whose name was not printed".into(), "ignored".into()));
        }
    }

    fn read_outcome(&mut self, name: &str, outcome: &str) {
        self.in_failure_list = false;
        if let Some(reason) = outcome.strip_prefix("ignored") {
            let reason = reason.strip_prefix(", ").unwrap_or("marked to be ignored");
            self.ignored.push((name.to_owned(), reason.to_owned()));
            self.ignored_in_binary += 1;
        } else {
            // With `--nocapture` the first line a test prints follows its name.
            self.read_skip(outcome);
        }
    }

    /// The list of failed tests is indented; the list of their outputs, with the same title, is
    /// not.
    fn read_failure(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("    ") {
            self.failures.push(name.to_owned());
        } else {
            self.in_failure_list = false;
            self.read_skip(line);
        }
    }

    fn read_skip(&mut self, line: &str) {
        let Some(skip) = line.strip_prefix(SKIPPED) else { return };
        let (test, reason) = skip.split_once(": ").unwrap_or((skip, "no reason given"));
        self.skips.insert((test.to_owned(), reason.to_owned()));
    }
}

/// Name and the rest of a line such as `test wire::greeting ... ok`.
fn test_line(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.split_once(" ... ")
}

/// The number before `word` in the rest of a result line.
fn count(result: &str, word: &str) -> usize {
    result
        .split(['.', ';'])
        .filter_map(|part| part.trim().split_once(' '))
        .find_map(|(number, what)| (what == word).then(|| number.parse().ok())?)
        .unwrap_or(0)
}

/// Whether `name`, as a test calls itself, is the test cargo calls `full`, with its module.
fn same_test(full: &str, name: &str) -> bool {
    full == name || full.strip_suffix(name).is_some_and(|module| module.ends_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(lines: &str) -> String {
        let mut output = TestOutput::default();
        lines.lines().for_each(|line| output.read(line));
        let mut tally = Tally::default();
        output.add_to("unit", &mut tally);
        tally.to_string()
    }

    #[test]
    fn adds_up_the_binaries() {
        let lines = "
test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
   Doc-tests x
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 1.01s";
        assert_eq!(sum(lines), "15 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn failures_are_named() {
        let lines = "
test a::b ... FAILED
test a::c ... ok

failures:

---- a::b stdout ----
    indented output of the test

failures:
    a::b

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(sum(lines), "Failed:\n  unit: a::b\n1 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn a_failure_without_a_name_still_counts() {
        let lines = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured";
        assert!(sum(lines).ends_with("1 passed, 2 failed, 0 skipped"));
    }

    #[test]
    fn ignored_tests_are_skipped_with_their_reason() {
        let lines = "
test a ... ignored, needs a kernel 6.1
test src/lib.rs - b (line 3) ... ignored
test result: ok. 0 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(
            sum(lines),
            "Skipped:\n  a: needs a kernel 6.1\n  src/lib.rs - b (line 3): marked to be ignored\n  \
             a test whose name was not printed: ignored\n0 passed, 0 failed, 3 skipped"
        );
    }

    #[test]
    fn a_test_that_left_itself_out_has_not_passed() {
        let lines = "
test pooled ... SKIPPED: pooled: postfix is not installed
ok
test direct ... ok
SKIPPED: shown_twice: no bpftool
SKIPPED: shown_twice: no bpftool
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(
            sum(lines),
            "Skipped:\n  pooled: postfix is not installed\n  shown_twice: no bpftool\n1 passed, 0 \
             failed, 2 skipped"
        );
    }

    #[test]
    fn a_failed_test_takes_nothing_from_the_passed() {
        let lines = "
SKIPPED: part: no IPv6
failures:
    lab::part
test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        assert!(sum(lines).ends_with("4 passed, 1 failed, 1 skipped"), "{}", sum(lines));
    }

    #[test]
    fn other_lines_are_nothing() {
        assert_eq!(
            sum("running 3 tests\ntest result nothing\nSKIPPED\n7 passed; 8 failed"),
            "0 passed, 0 failed, 0 skipped"
        );
    }
}
