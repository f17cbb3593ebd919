//! What is said on stderr. While the live view has the screen it is kept, and said when the screen is given
//! back. If stderr is the systemd journal, each line begins with its priority (sd-daemon(3)): `<4>` is a
//! warning.

use std::{
    env,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

/// Lines that are kept; of more, the first and a count.
const KEPT: usize = 200;

/// How much it matters, as syslog(3) numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Error = 3,
    Warning = 4,
    Info = 6,
}

#[derive(Debug, Default)]
struct Held {
    texts: Vec<(Level, String)>,
    omitted: u64,
}

/// `None`: texts go to stderr at once.
static HELD: Mutex<Option<Held>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says `text` on stderr after the name of the program, now or when the screen is free.
pub(crate) fn say(level: Level, text: &str) {
    match &mut *held() {
        Some(held) if held.texts.len() < KEPT => held.texts.push((level, text.to_owned())),
        Some(held) => held.omitted += 1,
        None => tell(level, text),
    }
}

/// Keeps what is said from now on.
pub(crate) fn hold() {
    held().get_or_insert_default();
}

/// The last text that is kept, and how many there are.
pub(crate) fn last_held() -> Option<(String, usize)> {
    let held = held();
    let texts = &held.as_ref()?.texts;
    Some((texts.last()?.1.clone(), texts.len()))
}

/// Says what was kept, and all that comes at once.
pub(crate) fn release() {
    let Some(held) = held().take() else { return };
    for (level, text) in held.texts {
        tell(level, &text);
    }
    if held.omitted > 0 {
        let more = format!("... and {} more lines that were not kept", held.omitted);
        tell(Level::Warning, &more);
    }
}

/// If nobody reads stderr, there is nobody to tell.
fn tell(level: Level, text: &str) {
    static IN_JOURNAL: OnceLock<bool> = OnceLock::new();
    let in_journal = *IN_JOURNAL.get_or_init(is_journal);
    let _ = io::stderr().lock().write_all(lines(level, text, in_journal).as_bytes());
}

fn lines(level: Level, text: &str, in_journal: bool) -> String {
    if !in_journal {
        return format!("smtptrace: {text}\n");
    }
    // The journal knows the program.
    let lines: Vec<String> =
        text.lines().map(|line| format!("<{}>{line}\n", level as u8)).collect();
    lines.concat()
}

/// Whether stderr is the journal: `JOURNAL_STREAM` holds its device and inode (systemd.exec(5)).
fn is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    let Ok(file) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_priority_in_the_journal() {
        assert_eq!(lines(Level::Warning, "a\nb", true), "<4>a\n<4>b\n");
        assert_eq!(lines(Level::Warning, "a\nb", false), "smtptrace: a\nb\n");
    }
}
