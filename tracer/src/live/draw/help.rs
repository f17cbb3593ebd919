//! What the keys and the columns mean.

use ratatui::text::Line;

use super::{super::theme::HEADING, fit};

const KEYS: &[(&str, &str)] = &[
    ("Up Down, j k", "move"),
    ("PgUp PgDn, Home End", "move by a page, to the ends"),
    ("Enter", "into a destination, a connection"),
    ("Esc, Backspace", "back; in the table, no filter"),
    ("Tab, Left Right", "next page of a destination"),
    ("s, S", "sort by the next column, reverse"),
    ("/", "only destinations or verdicts with this text"),
    ("p, Space", "the screen stands; tracing goes on"),
    ("q, Ctrl-C", "end the trace, print the report"),
];

const MEANINGS: &[&str] = &[
    "new: opened in the last complete interval; conns: all of them, open ones too;",
    "failed: never established; died: reset, timed out or without an answer;",
    "messages, reuse, greetings: of connections that ended; -: not known;",
    "+: more, because not all open connections were looked at.",
    "Verdicts: CRIT most mail is refused or loses time, WARN some is refused or",
    "delayed, info worth knowing, ok as it should be.",
];

/// The whole screen.
pub(super) fn screen(width: usize, height: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled("Keys of the live view", HEADING)];
    for (keys, what) in KEYS {
        lines.push(Line::from(fit(&format!("  {keys:<20} {what}"), width)));
    }
    if height > KEYS.len() + MEANINGS.len() + 3 {
        lines.push(Line::default());
        lines.extend(MEANINGS.iter().map(|text| Line::from(fit(text, width))));
    }
    lines.truncate(height.saturating_sub(1));
    lines.resize_with(height.saturating_sub(1), Line::default);
    lines.push(Line::from(fit("any key: back", width)));
    lines
}
