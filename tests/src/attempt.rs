//! Attempts at a test on a machine that others use too. What disturbs an attempt is known from another source than the
//! comparison that fails: the kernel's count of skipped runs, a capture, the time stamps of a client. Then the test is
//! made again, and the reason is printed. An attempt that fails undisturbed has failed the test.
//!
//! That is so under nextest; in a virtual machine, where it does not run, there is one attempt.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::libc;

/// How often a test is made, at most.
const ATTEMPTS: u32 = 3;

/// Names the file with the notes of an attempt, for the process that makes it.
const NOTES: &str = "SMTPTRACE_TEST_NOTES";
const BEGUN: &str = "begun";

/// Notes that the machine has disturbed this attempt, and how that is known. It fails nothing.
pub fn disturbed(reason: &str) {
    println!("disturbed: {reason}");
    note(reason);
}

/// Notes a disturbance if more than `meant` and a tenth of a second have passed `since` then.
pub fn expect_in_time(what: &str, since: Instant, meant: Duration) {
    let took = since.elapsed();
    if took > meant + Duration::from_millis(100) {
        disturbed(&format!("{what} took {took:?} instead of {meant:?}"));
    }
}

/// Has the kernel run this thread, and what it starts from now on, before all that is not real-time: for a test whose
/// client must be in time by its own clock. Where that is not allowed nothing changes.
pub fn go_first() {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the structure lives as long as the call, which keeps no pointer to it; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) };
    if result != 0 {
        println!("cannot be real-time: {}", io::Error::last_os_error());
    }
}

/// How long the calling thread has waited for a processor so far, as the kernel says; zero where it does not count that.
pub fn waited_for_processor() -> Duration {
    // On the processor, waiting for one, turns: `proc_pid_schedstat` in `fs/proc/base.c`.
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = statistics.split_ascii_whitespace().nth(1).and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}

fn note(line: &str) {
    let Some(file) = env::var_os(NOTES) else { return };
    let written = OpenOptions::new().append(true).open(&file).and_then(|mut notes| {
        // In one write: several threads may have something to note.
        notes.write_all(format!("{line}\n").as_bytes())
    });
    if let Err(error) = written {
        println!("cannot note in {}: {error}", file.display());
    }
}

/// Whether this process is to make an attempt at `test` itself. If not, the test has been made by processes of its own,
/// and has passed.
///
/// # Panics
///
/// If it has failed.
pub fn is_here(test: &str) -> bool {
    if env::var_os(NOTES).is_some() {
        note(BEGUN);
        return true;
    }
    // Other runners read the lines that the test program prints, and each attempt prints them again.
    if env::var_os("NEXTEST").is_none() {
        return true;
    }
    for attempt in 1..=ATTEMPTS {
        let reasons = match make(test) {
            Ok(None) => return false,
            Ok(Some(reasons)) => reasons,
            Err(error) => panic!("cannot make {test} in a process of its own: {error}"),
        };
        assert!(!reasons.is_empty(), "{test} failed, and nothing disturbed it; see above");
        println!("attempt {attempt} of {ATTEMPTS} failed, disturbed: {}", reasons.join("; "));
    }
    panic!("{test} failed in each of {ATTEMPTS} attempts, all of them disturbed; see above");
}

/// Makes one attempt. `None` if it passed, else what disturbed it.
fn make(test: &str) -> io::Result<Option<Vec<String>>> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let file = env::temp_dir().join(format!("smtptrace-test-{}-{number}", std::process::id()));
    fs::write(&file, "")?;
    let mut command = Command::new(env::current_exe()?);
    command.args(["--exact", test, "--nocapture"]);
    let status = command.env(NOTES, &file).stdin(Stdio::null()).status();
    let notes = fs::read_to_string(&file);
    fs::remove_file(&file)?;
    let (status, notes) = (status?, notes?);
    let mut lines: Vec<String> = notes.lines().map(str::to_owned).collect();
    if lines.iter().all(|line| line != BEGUN) {
        // Nothing of that name, or it did not come so far.
        return Err(io::Error::other(format!("it did not begin ({status})")));
    }
    lines.retain(|line| line != BEGUN);
    Ok((!status.success()).then_some(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempts that the test below has made; alone they say nothing.
    #[test]
    fn passes_disturbed() {
        note(BEGUN);
        disturbed("said by a test");
    }

    #[test]
    fn fails_undisturbed() {
        note(BEGUN);
        assert!(env::var_os(NOTES).is_none(), "as an attempt it fails");
    }

    #[test]
    fn fails_disturbed() {
        note(BEGUN);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(2));
        expect_in_time("this test", long_ago.unwrap(), Duration::from_secs(3));
        expect_in_time("this test", long_ago.unwrap(), Duration::from_secs(1));
        assert!(env::var_os(NOTES).is_none(), "as an attempt it fails");
    }

    #[test]
    fn an_attempt_fails_with_what_disturbed_it() {
        let made = |test: &str| make(&format!("attempt::tests::{test}"));
        assert_eq!(made("passes_disturbed").unwrap(), None);
        assert_eq!(made("fails_undisturbed").unwrap(), Some(Vec::new()));
        assert_eq!(made("fails_disturbed").unwrap().unwrap().len(), 1);
        let missing = made("of_no_such_name").unwrap_err().to_string();
        assert!(missing.contains("did not begin"), "{missing}");
    }
}
