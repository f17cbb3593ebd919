//! What `cargo nextest` says of its tests: its JUnit file, and the file to which tests append what they skip.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use roxmltree::{Document, Node};

use super::tally::Tally;

/// Adds the tests of the JUnit file `report`, and what they appended to `skips`, to `tally`. `step` names the step
/// that ran them. A test of which a part was skipped has not passed: rather too few than too many.
///
/// # Errors
/// If `report` is missing or is not what nextest writes. `skips` may be missing: then nothing was skipped.
pub(crate) fn add(report: &Path, skips: &Path, step: &str, tally: &mut Tally) -> Result<()> {
    let text =
        fs::read_to_string(report).with_context(|| format!("cannot read {}", report.display()))?;
    let skips = match fs::read_to_string(skips) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("cannot read {}", skips.display()))?,
    };
    add_texts(&text, &skips, step, tally)
        .with_context(|| format!("{} is not a report of nextest", report.display()))
}

fn add_texts(report: &str, skips: &str, step: &str, tally: &mut Tally) -> Result<()> {
    let document = Document::parse(report).context("it is not XML")?;
    // A test that is tried again skips again.
    let skips: BTreeSet<Vec<&str>> =
        skips.lines().map(|line| line.splitn(3, '\t').collect()).collect();
    let skipped: BTreeSet<&str> = skips.iter().map(|skip| skip[0]).collect();
    for test in document.descendants().filter(|node| node.has_tag_name("testcase")) {
        let name = test.attribute("name").context("a test without a name")?;
        let has = |kind: &str| test.children().any(|child: Node<'_, '_>| child.has_tag_name(kind));
        if has("failure") || has("error") {
            tally.fail(format!("{step}: {name}"));
        } else {
            if has("flakyFailure") || has("flakyError") {
                tally.flaky(name);
            }
            tally.pass(usize::from(!skipped.contains(name)));
        }
    }
    for skip in &skips {
        let [test, part, reason] = skip[..] else {
            anyhow::bail!("a skip without a reason: {skip:?}")
        };
        let of_part = if part.is_empty() { String::new() } else { format!(" ({part})") };
        tally.skip(&format!("{test}{of_part}"), reason);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="4" failures="1" errors="0">
    <testsuite name="tests::e2e" tests="4">
        <testcase name="endings::killed" classname="tests::e2e" time="1.0"/>
        <testcase name="endings::flaky" classname="tests::e2e" time="1.0"><flakyFailure type="test failure"/></testcase>
        <testcase name="endings::failed" classname="tests::e2e" time="1.0">
            <failure type="test failure">exit code 101</failure><rerunFailure type="test failure"/>
        </testcase>
        <testcase name="exim::pools" classname="tests::e2e" time="0.1"/>
    </testsuite>
</testsuites>"#;

    fn sum(report: &str, skips: &str) -> String {
        let mut tally = Tally::default();
        add_texts(report, skips, "e2e", &mut tally).unwrap();
        tally.to_string()
    }

    #[test]
    fn failed_flaky_and_skipped_tests_are_named() {
        let skips = "exim::pools\t\tno Exim\nexim::pools\t\tno Exim\nendings::killed\tPostfix\tnot installed\n";
        assert_eq!(
            sum(REPORT, skips),
            "Failed:\n  e2e: endings::failed\nFlaky (failed, then passed):\n  endings::flaky\n\
             Skipped:\n  endings::killed (Postfix): not installed\n  exim::pools: no Exim\n\
             1 passed, 1 failed, 2 skipped"
        );
    }

    #[test]
    fn without_skips_all_others_have_passed() {
        assert!(sum(REPORT, "").ends_with("3 passed, 1 failed, 0 skipped"));
    }

    #[test]
    fn what_nextest_did_not_write_is_an_error() {
        let mut tally = Tally::default();
        assert!(add_texts("error: could not compile", "", "e2e", &mut tally).is_err());
        assert!(add_texts(REPORT, "a skip without a reason", "e2e", &mut tally).is_err());
        assert!(
            add(Path::new("/no/junit.xml"), Path::new("/no/skips"), "e2e", &mut tally).is_err()
        );
    }
}
