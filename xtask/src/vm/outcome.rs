//! What a virtual machine said about itself and its tests.

use std::collections::VecDeque;

use super::test_output::TestOutput;
use crate::checks::tally::Tally;

/// Begins the lines that the machine's first process writes; the others are the kernel's.
const MARK: &str = "@vm ";
/// Lines of the console that are shown if a machine does not reach its end.
const TAIL: usize = 30;

/// A hook as smtptrace attached it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// Kernel symbol or tracepoint.
    pub(super) name: String,
    /// Kind of program; empty if none is attached.
    pub(super) program: String,
    /// `attached`, `fallback` or `unavailable`.
    pub(super) state: String,
    /// What it records.
    pub(super) fact: String,
    /// Why it is not the best kind, and what is lost; empty if it is.
    pub(super) reason: String,
}

/// A test program that ran.
#[derive(Debug)]
pub(super) struct Ran {
    /// Its name.
    pub(super) name: String,
    /// How long it took.
    pub(super) seconds: String,
    /// Its tests.
    pub(super) tally: Tally,
    /// What it printed.
    pub(super) lines: Vec<String>,
}

/// The lines that head the log of a machine.
pub(super) fn heading(package: &str, tested: &str) -> [String; 2] {
    [format!("{MARK}package {package}"), format!("{MARK}tested {tested}")]
}

/// Reads the console of one machine, or the log of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The Debian package of the kernel, as the log names it.
    pub(super) package: Option<String>,
    /// When it ran and what it ran, as the log names it.
    pub(super) tested: Option<String>,
    /// Release and build of the kernel, as it says.
    pub(super) kernel: Option<String>,
    /// The hooks; none if smtptrace could not trace there.
    pub(super) hooks: Vec<Hook>,
    /// What ran to its end, or to its time limit.
    pub(super) programs: Vec<Ran>,
    /// What went wrong outside the tests.
    troubles: Vec<String>,
    running: Option<(String, TestOutput, Vec<String>)>,
    is_done: bool,
    tail: VecDeque<String>,
}

impl Outcome {
    /// Reads one line. Says when a program has ended.
    pub(super) fn read(&mut self, line: &str) -> Option<&Ran> {
        self.tail.push_back(line.to_owned());
        if self.tail.len() > TAIL {
            self.tail.pop_front();
        }
        let (_, message) = line.split_once(MARK)?;
        let (kind, rest) = message.split_once(' ').unwrap_or((message, ""));
        match kind {
            "|" => {
                if let Some((_, output, lines)) = &mut self.running {
                    output.read(rest);
                    lines.push(rest.to_owned());
                }
            }
            "package" => self.package = Some(rest.to_owned()),
            "tested" => self.tested = Some(rest.to_owned()),
            "kernel" => self.kernel = Some(rest.to_owned()),
            "hook" => self.hooks.extend(hook(rest)),
            "begin" => {
                self.running = Some((rest.to_owned(), TestOutput::default(), Vec::new()));
            }
            "end" => return self.end(rest),
            "done" => self.is_done = true,
            _ => self.troubles.push(message.to_owned()),
        }
        None
    }

    fn end(&mut self, words: &str) -> Option<&Ran> {
        let (name, output, lines) = self.running.take()?;
        let mut words = words.splitn(3, ' ').skip(1);
        let seconds = words.next().unwrap_or_default().to_owned();
        let ending = words.next().unwrap_or_default();
        let mut tally = Tally::default();
        if ending != "exit status: 0" && !output.has_failures() {
            tally.fail(format!("{name}: {ending}"));
        }
        output.add_to(&name, &mut tally);
        self.programs.push(Ran { name, seconds, tally, lines });
        self.programs.last()
    }

    /// Whether everything ran; the tests may have failed.
    pub(super) fn is_whole(&self) -> bool {
        self.is_done && self.troubles.is_empty() && !self.hooks.is_empty()
    }

    /// What went wrong outside the tests: `stopped` says why the machine had to be stopped.
    pub(super) fn troubles(&self, stopped: Option<&str>) -> Vec<String> {
        let mut troubles = self.troubles.clone();
        if !self.is_done {
            let what = self.running.as_ref().map_or_else(
                || "the machine did not reach its end".to_owned(),
                |(name, ..)| format!("the machine did not reach the end of {name}"),
            );
            let why = stopped.map(|reason| format!(": {reason}")).unwrap_or_default();
            let tail: Vec<&str> = self.tail.iter().map(String::as_str).collect();
            troubles.push(format!("{what}{why}; the end of its console:\n{}", tail.join("\n")));
        } else if self.hooks.is_empty() && troubles.is_empty() {
            troubles.push("smtptrace named no hook".into());
        }
        troubles
    }
}

/// The words of a hook, as `guest-init` separates them. An empty reason at the end may be gone: consoles cut off white space.
fn hook(words: &str) -> Option<Hook> {
    let mut words = words.split('\t').map(|word| word.trim().to_owned());
    let [name, program, state, fact] = std::array::from_fn(|_| words.next());
    let reason = words.next().unwrap_or_default();
    Some(Hook { name: name?, program: program?, state: state?, fact: fact?, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(console: &str) -> Outcome {
        let mut outcome = Outcome::default();
        for line in console.lines() {
            outcome.read(line);
        }
        outcome
    }

    #[test]
    fn tests_hooks_and_the_kernel_are_read_among_its_own_messages() {
        let outcome = read(
            "[    0.1] Linux version\n\
             @vm kernel 6.1.0-56 #1 SMP\n\
             @vm hook tcp_connect\tfentry\tattached\tSYN sent\n\
             @vm begin endings\n\
             @vm | test a ... ok\n\
             [   12.0] something\n\
             @vm | test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured\n\
             @vm end endings 12.5 exit status: 0\n\
             @vm done",
        );
        assert!(outcome.is_whole() && outcome.troubles(None).is_empty());
        assert_eq!(outcome.kernel.as_deref(), Some("6.1.0-56 #1 SMP"));
        assert_eq!(outcome.hooks[0].program, "fentry");
        assert_eq!(outcome.programs[0].seconds, "12.5");
        assert_eq!(outcome.programs[0].tally.to_string(), "1 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn a_program_that_was_killed_has_failed() {
        let outcome = read(
            "@vm begin endings\n@vm | test a ... \n@vm end endings 240.0 killed at its time limit",
        );
        let tally = outcome.programs[0].tally.to_string();
        assert!(tally.contains("endings: killed at its time limit"), "{tally}");
        assert!(tally.ends_with("0 passed, 1 failed, 0 skipped"), "{tally}");
    }

    #[test]
    fn a_machine_that_stops_shows_the_end_of_its_console() {
        let outcome = read("@vm begin endings\n[ 3.0] Kernel panic - not syncing");
        let troubles = outcome.troubles(Some("it said nothing for 300 s"));
        assert!(!outcome.is_whole());
        assert!(troubles[0].contains("the end of endings: it said nothing"), "{troubles:?}");
        assert!(troubles[0].contains("Kernel panic"), "{troubles:?}");
    }

    #[test]
    fn what_the_first_process_could_not_do_is_trouble() {
        let outcome = read("@vm module /vm/modules/veth.ko: cannot be loaded\n@vm done");
        assert!(!outcome.is_whole());
        assert_eq!(outcome.troubles(None), ["module /vm/modules/veth.ko: cannot be loaded"]);
    }
}
