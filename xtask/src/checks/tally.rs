//! The sum over all steps: what passed, what failed, what was left out and why.

use std::fmt;

/// How many tests may pass at their second try only before the run has failed.
const FLAKY_ALLOWED: usize = 2;

/// Counts of everything that was checked.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: usize,
    failures: Vec<String>,
    flaky: Vec<String>,
    skips: Vec<String>,
}

impl Tally {
    /// Counts `number` checks or tests that passed.
    pub(crate) fn pass(&mut self, number: usize) {
        self.passed += number;
    }

    /// Counts one failure, and keeps what it was.
    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        self.failures.push(what.into());
    }

    /// Names a test that failed and then passed; that it passed is counted apart.
    pub(crate) fn flaky(&mut self, test: &str) {
        self.flaky.push(test.to_owned());
    }

    /// Counts something that was not checked, and keeps why.
    pub(crate) fn skip(&mut self, what: &str, reason: &str) {
        self.skips.push(format!("{what}: {reason}"));
    }

    /// Adds the counts of `part`, which is called `name` there.
    pub(crate) fn add(&mut self, name: &str, part: &Self) {
        let named = |items: &[String]| items.iter().map(|it| format!("{name}: {it}")).collect();
        let lists: [Vec<String>; 3] =
            [&part.failures, &part.flaky, &part.skips].map(|it| named(it));
        let [failures, flaky, skips] = lists;
        self.passed += part.passed;
        self.failures.extend(failures);
        self.flaky.extend(flaky);
        self.skips.extend(skips);
    }

    /// How many passed, failed and were skipped.
    pub(crate) fn counts(&self) -> [usize; 3] {
        [self.passed, self.failures.len(), self.skips.len()]
    }

    /// Whether nothing failed, and no more than two tests were flaky.
    pub(crate) fn is_success(&self) -> bool {
        self.failures.is_empty() && self.flaky.len() <= FLAKY_ALLOWED
    }
}

/// The failures, the flaky tests, the skips, and as the last line the plain sum.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["Failed", "Flaky (failed, then passed)", "Skipped"];
        for (title, items) in titles.iter().zip([&self.failures, &self.flaky, &self.skips]) {
            if !items.is_empty() {
                writeln!(f, "{title}:")?;
            }
            for item in items {
                writeln!(f, "  {}", item.replace('\n', "\n    "))?;
            }
        }
        if self.flaky.len() > FLAKY_ALLOWED {
            writeln!(
                f,
                "{} tests are flaky, {FLAKY_ALLOWED} are allowed: the run has failed",
                self.flaky.len()
            )?;
        }
        let (failed, skipped) = (self.failures.len(), self.skips.len());
        write!(f, "{} passed, {failed} failed, {skipped} skipped", self.passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_sum() {
        let mut tally = Tally::default();
        tally.pass(3);
        tally.pass(1);
        tally.fail("clippy: exit status: 101");
        tally.skip("advisories", "offline");
        tally.skip("some::test", "no bpftool");
        assert!(!tally.is_success());
        assert_eq!(
            tally.to_string(),
            "Failed:\n  clippy: exit status: 101\nSkipped:\n  advisories: offline\n  \
             some::test: no bpftool\n4 passed, 1 failed, 2 skipped"
        );
    }

    #[test]
    fn a_part_is_added_by_name() {
        let (mut whole, mut part) = (Tally::default(), Tally::default());
        whole.pass(2);
        part.pass(1);
        part.fail("families: ipv6");
        part.skip("ipv4", "no veth");
        whole.add("6.1-x86_64", &part);
        assert_eq!(whole.counts(), [3, 1, 1]);
        let text = whole.to_string();
        assert!(text.contains("6.1-x86_64: families: ipv6\n"), "{text}");
        assert!(text.contains("6.1-x86_64: ipv4: no veth\n"), "{text}");
    }

    #[test]
    fn more_than_two_flaky_tests_fail_the_run() {
        let mut tally = Tally::default();
        for (test, is_success) in [("a", true), ("b", true), ("c", false)] {
            tally.pass(1);
            tally.flaky(test);
            assert_eq!(tally.is_success(), is_success, "{test}");
        }
        assert!(tally.to_string().ends_with("the run has failed\n3 passed, 0 failed, 0 skipped"));
    }

    #[test]
    fn without_failures_only_the_sum_is_left() {
        let mut tally = Tally::default();
        tally.pass(7);
        assert!(tally.is_success());
        assert_eq!(tally.to_string(), "7 passed, 0 failed, 0 skipped");
    }
}
