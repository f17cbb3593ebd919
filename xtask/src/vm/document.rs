//! `docs/kernels.md`: which hook is attached on which kernel, and what is lost where; as the machines said.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::kernel::{KERNELS, Kernel};
use super::outcome::{Hook, Outcome};
use super::{Part, log};

/// A kernel, and what its machine said in the last run that came to its end.
#[derive(Debug)]
struct Tested {
    kernel: &'static Kernel,
    outcome: Outcome,
    part: Part,
}

/// Writes the document below `root` from the logs of the last runs: a whole one, if there is one, or a quick
/// one. Where a kernel has no log on this machine, its part of the document would be lost: then nothing is written.
pub(super) fn write(root: &Path, directory: &Path) -> Result<()> {
    let file = root.join("docs/kernels.md");
    let mut tested = Vec::new();
    for kernel in KERNELS {
        let runs = [Part::Whole, Part::Quick].into_iter();
        let mut runs = runs.filter_map(|part| Some((last_run(directory, kernel, part)?, part)));
        let Some((outcome, part)) = runs.next() else {
            println!("{} stays as it is: {kernel} has not run on this machine", file.display());
            return Ok(());
        };
        tested.push(Tested { kernel, outcome, part });
    }
    fs::write(&file, document(&tested))
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("written: {}", file.display());
    Ok(())
}

/// What the log of the last such run on `kernel` says, if it came to its end.
fn last_run(directory: &Path, kernel: &Kernel, part: Part) -> Option<Outcome> {
    let log = fs::read_to_string(log(directory, kernel, part)).ok()?;
    let mut outcome = Outcome::default();
    for line in log.lines() {
        outcome.read(line);
    }
    outcome.is_whole().then_some(outcome)
}

fn document(tested: &[Tested]) -> String {
    let mut text = String::from(
        "# Kernels\n\n\
         Written by `cargo xtask vm`, never by hand: it boots each kernel in an emulated machine, asks smtptrace \
         there which hooks it attached, and runs end-to-end tests. What runs there is what is shipped.\n\n",
    );
    kernels(&mut text, tested);
    text.push_str("\n## What is attached\n\n");
    hooks(&mut text, tested);
    text.push_str("\n## What is lost\n\n");
    losses(&mut text, tested);
    text.push_str("\n## Tests\n\n");
    tests(&mut text, tested);
    text
}

fn kernels(text: &mut String, tested: &[Tested]) {
    row(text, ["kernel", "as it names itself", "Debian package", "tested, at the commit"]);
    row(text, ["---"; 4]);
    for Tested { kernel, outcome, part } in tested {
        let said = |what: &Option<String>| what.clone().unwrap_or_else(|| "unknown".into());
        let tested = said(&outcome.tested);
        let of_part = if *part == Part::Quick { " (part of the tests)" } else { "" };
        let package = format!("`{}`", said(&outcome.package));
        let cells =
            [kernel.to_string(), said(&outcome.kernel), package, format!("{tested}{of_part}")];
        row(text, cells);
    }
}

fn hooks(text: &mut String, tested: &[Tested]) {
    header(text, "hook", "records", tested);
    for (name, fact) in all_hooks(tested) {
        let kinds = tested.iter().map(|it| match it.hook(name) {
            Some(hook) if hook.program.is_empty() => "-".to_owned(),
            Some(hook) => hook.program.clone(),
            None => "?".to_owned(),
        });
        row(text, [format!("`{name}`"), fact.to_owned()].into_iter().chain(kinds));
    }
    text.push_str(
        "\n`-`: nothing can be attached there; the fact is lost, or another hook records it less exactly. \
         `?`: not tested.\n",
    );
}

/// Reasons of hooks that are not attached, each once, with the kernels it is true for.
fn losses(text: &mut String, tested: &[Tested]) {
    let mut reasons: Vec<(&str, &str, Vec<String>)> = Vec::new();
    for Tested { kernel, outcome, .. } in tested {
        for hook in outcome.hooks.iter().filter(|hook| hook.state != "attached") {
            let known = reasons.iter_mut().find(|it| (it.0, it.1) == (&*hook.name, &*hook.reason));
            match known {
                Some((.., kernels)) => kernels.push(kernel.to_string()),
                None => reasons.push((&hook.name, &hook.reason, vec![kernel.to_string()])),
            }
        }
    }
    reasons.sort_by_key(|reason| reason.0);
    for (hook, reason, kernels) in &reasons {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "- `{hook}` on {}: {}.", kernels.join(", "), cell(reason));
    }
    if reasons.is_empty() {
        text.push_str("Nothing.\n");
    }
}

fn tests(text: &mut String, tested: &[Tested]) {
    let kernels = tested.iter().map(|it| it.kernel.to_string());
    row(text, std::iter::once("tests".to_owned()).chain(kernels));
    row(text, vec!["---"; 1 + tested.len()]);
    let programs = tested.iter().flat_map(|it| &it.outcome.programs);
    let mut names: Vec<&str> = Vec::new();
    for program in programs {
        if !names.contains(&&*program.name) {
            names.push(&program.name);
        }
    }
    for name in names {
        let counts = tested.iter().map(|it| {
            let ran = it.outcome.programs.iter().find(|program| program.name == name);
            ran.map_or("?".into(), |ran| counts(ran.tally.counts()))
        });
        let file = format!("[{name}](../tests/e2e/{name}.rs)");
        row(text, std::iter::once(file).chain(counts));
    }
}

fn counts([passed, failed, skipped]: [usize; 3]) -> String {
    let mut text = format!("{passed} passed");
    for (number, what) in [(failed, "FAILED"), (skipped, "skipped")] {
        if number > 0 {
            // Writing to a string cannot fail.
            let _ = write!(text, ", {number} {what}");
        }
    }
    text
}

impl Tested {
    fn hook(&self, name: &str) -> Option<&Hook> {
        self.outcome.hooks.iter().find(|hook| hook.name == name)
    }
}

/// Name and fact of every hook, in the order of the first kernel that has it.
fn all_hooks(tested: &[Tested]) -> Vec<(&str, &str)> {
    let mut seen = BTreeSet::new();
    let hooks = tested.iter().flat_map(|it| &it.outcome.hooks);
    hooks.filter(|hook| seen.insert(&*hook.name)).map(|hook| (&*hook.name, &*hook.fact)).collect()
}

fn header(text: &mut String, first: &str, second: &str, tested: &[Tested]) {
    let kernels = tested.iter().map(|it| it.kernel.to_string());
    row(text, [first.to_owned(), second.to_owned()].into_iter().chain(kernels));
    row(text, vec!["---"; 2 + tested.len()]);
}

fn row<S: AsRef<str>>(text: &mut String, cells: impl IntoIterator<Item = S>) {
    text.push('|');
    for content in cells {
        // Writing to a string cannot fail.
        let _ = write!(text, " {} |", cell(content.as_ref()));
    }
    text.push('\n');
}

/// What does not end a cell of a table, nor begins an element.
fn cell(content: &str) -> String {
    content.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tested(kernel: &'static Kernel, console: &str) -> Tested {
        let mut outcome = Outcome::default();
        for line in console.lines() {
            outcome.read(line);
        }
        Tested { kernel, outcome, part: Part::Whole }
    }

    #[test]
    fn hooks_losses_and_tests_stand_side_by_side() {
        let old = "@vm package linux-image-5.10_1\n@vm tested 2026-11-22 abc\n@vm kernel 5.10.0 #1\n\
            @vm hook tcp_connect\tkprobe\tfallback\tSYN sent\tfentry: refused\n\
            @vm hook inet_sk_error_report\t\tfallback\tsocket errors\ttp_btf: no type; instead: sk_err\n\
            @vm begin endings\n@vm | SKIPPED: a: no Postfix\n\
            @vm | test result: ok. 3 passed; 0 failed; 0 ignored\n@vm end endings 9.0 exit status: 0\n@vm done";
        let new = "@vm hook tcp_connect\tfentry\tattached\tSYN sent\t\n@vm done";
        let text = document(&[tested(&KERNELS[0], old), tested(&KERNELS[1], new)]);
        for line in [
            "| 5.10-x86_64 | 5.10.0 #1 | `linux-image-5.10_1` | 2026-11-22 abc |",
            "| hook | records | 5.10-x86_64 | 6.1-x86_64 |",
            "| `tcp_connect` | SYN sent | kprobe | fentry |",
            "| `inet_sk_error_report` | socket errors | - | ? |",
            "- `tcp_connect` on 5.10-x86_64: fentry: refused.",
            "| [endings](../tests/e2e/endings.rs) | 2 passed, 1 skipped | ? |",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
