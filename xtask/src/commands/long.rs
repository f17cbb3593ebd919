//! `cargo xtask long [PART]`: what takes longer than a change may wait for. `docs/long.md` says when each part ran last.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::checks::fuzz;
use crate::checks::run::Run;
use crate::checks::tally::Tally;
use crate::invocation::Invocation;
use crate::vm::{self, KERNELS};
use crate::workspace;

/// Inputs that each property test is given: the short tier gives it 256, or what the test itself says.
const CASES: &str = "20000";
/// SMTP sessions at random that the reader of dialogues is held against: the short tier makes 20,000.
const SESSIONS: &str = "200000";
/// Head of the document.
const HEAD: &str = "# The long tier\n\nWritten by `cargo xtask long [PART]`, never by hand. `cargo xtask test` leaves these parts out, because they \
    take longer than a change may wait for.\n\n";
const TITLES: &str = "| part | what it does | last run, at the commit | result | seconds |\n| --- | --- | --- | --- | --- |\n";

/// A part of the long tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Each fuzz target, for some minutes.
    Fuzz,
    /// What turns the kernel's bytes into records, under Miri. The other unsafe code calls the kernel, which Miri cannot.
    Miri,
    /// The property tests, with many more inputs.
    Properties,
    /// All end-to-end tests that run in a virtual machine, on all kernels and both processors.
    Kernels,
    /// Half an hour of traffic: no loss, no growth of memory. Its table is in `docs/performance.md`.
    Soak,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Fuzz => "fuzz",
            Self::Miri => "miri",
            Self::Properties => "properties",
            Self::Kernels => "kernels",
            Self::Soak => "soak",
        }
    }

    fn does(self) -> &'static str {
        match self {
            Self::Fuzz => "each fuzz target, for some minutes",
            Self::Miri => "the decoder of the kernel's records, under Miri",
            Self::Properties => {
                "the property tests, with 20,000 inputs each, and 200,000 dialogues at random"
            }
            Self::Kernels => "end-to-end tests on all kernels, see `kernels.md`",
            Self::Soak => "half an hour of traffic, see `performance.md`",
        }
    }
}

/// Runs `parts`, or all of them. `minutes`: how long each fuzz target runs.
pub(crate) fn run(parts: &[Part], minutes: u32) -> Result<ExitCode> {
    let mut run = Run::begin()?;
    run.set_up();
    let parts = if parts.is_empty() { Part::value_variants() } else { parts };
    for part in parts {
        let begin = Instant::now();
        let before = std::mem::take(&mut run.tally);
        match part {
            Part::Fuzz => fuzz::run(&mut run, &[], minutes),
            Part::Miri => miri(&mut run),
            Part::Properties => run.nextest("property tests", "long", properties()),
            Part::Kernels => {
                vm::test(&mut run, &KERNELS.iter().collect::<Vec<_>>(), vm::Part::Whole);
                vm::document(&mut run);
            }
            Part::Soak => {
                run.check("soak", &Invocation::cargo().args(["xtask", "bench", "soak"]));
            }
        }
        let row = row(
            *part,
            &workspace::day_and_commit(&run.root),
            &run.tally,
            begin.elapsed().as_secs(),
        );
        if let Err(error) = document(&run.root, *part, &row) {
            run.tally.fail(format!("{error:#}"));
        }
        let mut whole = before;
        whole.add(part.name(), &run.tally);
        run.tally = whole;
    }
    Ok(run.end())
}

fn miri(run: &mut Run) {
    let cargo = || Invocation::new("rustup").args(["run", "nightly", "cargo", "miri"]);
    if cargo().arg("--version").answer().is_none() {
        let reason =
            "the nightly toolchain has no Miri: `rustup component add miri --toolchain nightly`";
        run.tally.skip("decoder", reason);
        return;
    }
    let tests =
        cargo().args(["test", "-p", "tracer-common", "-p", "tracer-analysis", "--lib", "decoder"]);
    run.check("miri", &tests);
}

fn properties() -> Invocation {
    Invocation::cargo()
        .args(["nextest", "run", "--release", "-p", "tracer-analysis"])
        .env("PROPTEST_CASES", CASES)
        .env("SMTPTRACE_SESSIONS", SESSIONS)
}

fn row(part: Part, when: &str, tally: &Tally, seconds: u64) -> String {
    let [passed, failed, skipped] = tally.counts();
    let (name, does) = (part.name(), part.does());
    format!(
        "| {name} | {does} | {when} | {passed} passed, {failed} failed, {skipped} skipped | {seconds} |\n"
    )
}

/// Puts `row` into the document, in the place of the one of the same part.
fn document(root: &Path, part: Part, row: &str) -> Result<()> {
    let file = root.join("docs/long.md");
    let before = fs::read_to_string(&file).unwrap_or_default();
    fs::write(&file, with_row(&before, part, row))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn with_row(before: &str, part: Part, row: &str) -> String {
    let mut text = format!("{HEAD}{TITLES}");
    for other in Part::value_variants() {
        let begin = format!("| {} |", other.name());
        let kept = before.lines().find(|line| line.starts_with(&begin));
        // Writing to a string cannot fail.
        let _ = match kept {
            _ if *other == part => write!(text, "{row}"),
            Some(kept) => writeln!(text, "{kept}"),
            None => writeln!(text, "{begin} {} | not yet | | |", other.does()),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_ran_changes_its_own_row() {
        let mut tally = Tally::default();
        tally.pass(5);
        let fuzz = with_row("", Part::Fuzz, &row(Part::Fuzz, "2026-12-01 abc", &tally, 90));
        assert!(
            fuzz.contains("| 2026-12-01 abc | 5 passed, 0 failed, 0 skipped | 90 |\n"),
            "{fuzz}"
        );
        assert!(
            fuzz.contains(
                "| soak | half an hour of traffic, see `performance.md` | not yet | | |\n"
            )
        );
        tally.fail("7-x86_64: tiers");
        let both = with_row(&fuzz, Part::Kernels, &row(Part::Kernels, "2026-12-02 def", &tally, 9));
        assert!(both.contains("| 2026-12-01 abc | 5 passed"), "{both}");
        assert!(
            both.contains("| 2026-12-02 def | 5 passed, 1 failed, 0 skipped | 9 |\n"),
            "{both}"
        );
        assert_eq!(both.lines().count(), fuzz.lines().count());
    }
}
