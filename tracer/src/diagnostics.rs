//! What smtptrace says on stderr while it traces. While the live view has the screen it is kept, and said
//! when the screen is given back.

use std::{
    io::{self, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Lines that are kept; of more, the first and a count.
const KEPT: usize = 200;

#[derive(Debug, Default)]
struct Held {
    lines: Vec<String>,
    omitted: u64,
}

/// `None`: lines go to stderr at once.
static HELD: Mutex<Option<Held>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Held>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says a line on stderr, now or when the screen is free.
pub(crate) fn say(line: &str) {
    match &mut *held() {
        Some(held) if held.lines.len() < KEPT => held.lines.push(line.to_owned()),
        Some(held) => held.omitted += 1,
        None => tell(line),
    }
}

/// Keeps lines from now on.
pub(crate) fn hold() {
    held().get_or_insert_default();
}

/// The last line that is kept, and how many there are.
pub(crate) fn last_held() -> Option<(String, usize)> {
    let held = held();
    let lines = &held.as_ref()?.lines;
    Some((lines.last()?.clone(), lines.len()))
}

/// Says what was kept, and all further lines at once.
pub(crate) fn release() {
    let Some(held) = held().take() else { return };
    for line in held.lines {
        tell(&line);
    }
    if held.omitted > 0 {
        tell(&format!("... and {} more lines that were not kept", held.omitted));
    }
}

/// If nobody reads stderr, there is nobody to tell.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "smtptrace: {line}");
}
