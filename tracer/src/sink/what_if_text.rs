//! The answer of `smtptrace what-if` as text.

use std::io;

use tracer_analysis::whatif::{
    AsItRan, Bridged, Destination, Limits, PathSummary, PolicyOutcome, WhatIf,
};

use super::{
    quantity::{cell, grouped, milliseconds, plural, seconds},
    safe_text::{safe, wrap, wrap_list},
    table::{Column, Row, table},
    text::{listed, window},
    trust_text::losses,
};

/// Writes the answer, at most `top` destinations of it.
pub(crate) fn write(answer: &WhatIf, out: &mut impl io::Write, top: usize) -> io::Result<()> {
    let mut text = headline(answer);
    if answer.totals.messages.replayed == 0 {
        text.push_str(NOTHING);
    } else {
        let several = answer.destinations.len() > 1;
        if several {
            text.push_str(&destination(&answer.totals, "All destinations"));
        }
        for one in answer.destinations.iter().take(top) {
            text.push_str(&destination(one, &safe(&one.key)));
        }
        text.push_str(LEGEND);
        let rest = answer.destinations.len().saturating_sub(top) as u64;
        if rest > 0 {
            let more = plural(rest, "more destination", "more destinations");
            text.push_str(&wrap("", 0, &format!("... and {more} (--top N)")));
        }
    }
    text.push('\n');
    text.push_str(&wrap_list("Trust: ", 2, &losses(&answer.trust)));
    out.write_all(text.as_bytes())
}

/// Printed in place of the tables.
const NOTHING: &str = "
There is nothing to replay: of no message is it known when it was sent. That
needs a recording with messages whose times smtptrace could tell.
";

const LEGEND: &str = "
saved: fewer than were observed; TLS: handshakes saved; s: set-up time saved,
which is saved connections times the median from the SYN to the first message;
open: most at the same time, idle ones included
";

fn headline(answer: &WhatIf) -> String {
    let hosts = listed(answer.hosts.iter().map(|host| safe(host)));
    let mut text = wrap("", 2, &format!("smtptrace {} what-if: {hosts}", safe(&answer.version)));
    text.push_str(&wrap("", 2, &window(&answer.window)));
    text.push_str(&wrap("Replayed: ", 2, &coverage(answer)));
    text.push_str(&wrap("Policy: ", 2, &policy(&answer.limits)));
    text
}

/// Which messages were replayed, and which not.
fn coverage(answer: &WhatIf) -> String {
    let (messages, observed) = (&answer.totals.messages, &answer.totals.observed);
    let mut parts = vec![format!(
        "{} of {} over {} to {}",
        grouped(messages.replayed),
        plural(messages.counted, "message", "messages"),
        plural(observed.connections, "connection", "connections"),
        plural(answer.destinations.len() as u64, "destination", "destinations"),
    )];
    let unknown = messages.counted - messages.replayed.min(messages.counted);
    if unknown > 0 {
        parts.push(format!("{} left out: when they were sent is not known", grouped(unknown)));
    }
    let connections = |n| plural(n, "connection", "connections");
    if messages.uncounted_connections > 0 {
        let n = connections(messages.uncounted_connections);
        parts.push(format!("the messages of {n} could not be counted"));
    }
    if observed.unused_connections > 0 {
        parts.push(format!("{} carried none", connections(observed.unused_connections)));
    }
    parts.join("; ")
}

fn policy(limits: &Limits) -> String {
    let mut parts = vec!["every connection is kept, the one stored first is taken".to_owned()];
    parts.extend(
        limits
            .max_messages
            .map(|n| format!("at most {} each", plural(n.into(), "message", "messages"))),
    );
    parts.extend(limits.max_age_s.map(|age| format!("none older than {age} s is kept")));
    parts.join("; ")
}

fn destination(of: &Destination, name: &str) -> String {
    let mut text = String::from("\n");
    let set_up = of.set_up.total_us.map_or(String::new(), |us| {
        let n = grouped(of.set_up.measured_connections);
        format!("; set-up {} ms (median of {n})", milliseconds(Some(us)))
    });
    let facts = format!(
        "{name}: {} over {}{set_up}",
        plural(of.messages.replayed, "message", "messages"),
        plural(of.observed.connections, "connection", "connections"),
    );
    text.push_str(&wrap("", 2, &facts));
    if let Some(path) = &of.path {
        text.push_str(&wrap("  Path: ", 4, &path_words(path)));
    }
    if let Some(ran) = &of.as_it_ran {
        text.push_str(&wrap("  As it ran: ", 4, &ran_words(ran, of.observed.connections)));
    }
    if !of.policies.is_empty() {
        let rows: Vec<Row> = of.policies.iter().map(row).collect();
        text.push_str(&table("cache time", &COLUMNS, &rows));
    }
    let unpriced = of.policies.iter().any(|it| it.if_path_survives.unpriced_connections != 0);
    if unpriced && of.set_up.measured_connections > 0 {
        text.push_str("Where set-up was not measured, no time is counted as saved.\n");
    }
    text
}

/// What the path does to idle connections.
pub(super) fn path_words(path: &PathSummary) -> String {
    let seconds = |s: f64| format!("{s:.1} s");
    let mut parts = vec![match path.survived_s {
        Some(s) => format!("alive after {} idle", seconds(s)),
        None => "no connection was used again after idling".to_owned(),
    }];
    parts.extend(path.died_s.map(|s| format!("dead after {}", seconds(s))));
    parts.extend(
        path.closed_by_server_s.map(|s| format!("closed by the server after {}", seconds(s))),
    );
    parts.push(format!("gaps up to {} are bridged", seconds(path.bridged_s)));
    parts.join("; ")
}

/// The policy that ran, and how well its replay fits.
pub(super) fn ran_words(ran: &AsItRan, observed: u64) -> String {
    let kept = match ran.cache_time_s {
        Some(s) if ran.kept_share > 0.0 => {
            format!("kept for {s:.1} s after {:.0} % of messages; ", ran.kept_share * 100.0)
        }
        Some(_) => "never kept; ".to_owned(),
        None => String::new(),
    };
    let verdict = if ran.reproduces {
        "the model fits"
    } else {
        "the model does not fit; something else decides when connections are used again, so nothing is \
         predicted"
    };
    format!(
        "{kept}the replay needs {}, {} observed ({:+.1} %): {verdict}",
        plural(ran.connections, "connection", "connections"),
        grouped(observed),
        ran.difference * 100.0
    )
}

const KNOWN: &str = "gaps the path survives";
const POSSIBLE: &str = "if longer gaps survive";

const COLUMNS: [Column; 8] = [
    Column::new(KNOWN, "conns"),
    Column::new(KNOWN, "saved"),
    Column::new(KNOWN, "TLS"),
    Column::new(KNOWN, "s"),
    Column::new(KNOWN, "open"),
    Column::new(POSSIBLE, "conns"),
    Column::new(POSSIBLE, "saved"),
    Column::new(POSSIBLE, "s"),
];

fn row(of: &PolicyOutcome) -> Row {
    let (known, possible) = (&of.known, &of.if_path_survives);
    Row {
        key: format!("{} s", of.cache_time_s),
        cells: vec![
            cell(known.connections),
            signed(known.saved_connections),
            signed(known.saved_tls_handshakes),
            saved_seconds(known),
            cell(known.peak_open),
            cell(possible.connections),
            signed(possible.saved_connections),
            saved_seconds(possible),
        ],
    }
}

fn signed(n: i64) -> String {
    let sign = if n < 0 { "-" } else { "" };
    format!("{sign}{}", cell(n.unsigned_abs()))
}

fn saved_seconds(of: &Bridged) -> String {
    let Some(s) = of.saved_s else { return "-".to_owned() };
    let sign = if s < 0.0 { "-" } else { "" };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative; float to integer saturates"
    )]
    let us = (s.abs() * 1e6) as u64;
    if us == 0 { "0".to_owned() } else { format!("{sign}{}", seconds(Some(us))) }
}

#[cfg(test)]
mod tests {
    use tracer_analysis::{
        destination::GroupBy,
        recording::Trust,
        report::Window,
        utc::Utc,
        whatif::{Messages, Observed, SCHEMA, SetUp, WhatIfKind},
    };

    use super::*;

    /// The widest answer there can be.
    fn wide() -> WhatIf {
        let most = Bridged {
            connections: u64::MAX,
            saved_connections: i64::MIN,
            tls_handshakes: u64::MAX,
            saved_tls_handshakes: i64::MIN,
            saved_s: Some(-1e12),
            unpriced_connections: 1,
            peak_open: u64::MAX,
        };
        let one = Destination {
            key: "a\u{1b}".repeat(40),
            messages: Messages { replayed: 1 << 60, counted: 1 << 61, uncounted_connections: 7 },
            observed: Observed { connections: 1 << 50, tls_handshakes: 1, unused_connections: 2 },
            as_it_ran: Some(AsItRan {
                cache_time_s: Some(1e9),
                kept_share: 0.5,
                connections: 1 << 50,
                difference: 1e9,
                reproduces: false,
            }),
            set_up: SetUp { measured_connections: 9, total_us: Some(u64::MAX), ..SetUp::default() },
            path: Some(PathSummary {
                survived_s: Some(1e9),
                died_s: Some(1e9),
                ..PathSummary::default()
            }),
            policies: vec![PolicyOutcome {
                cache_time_s: 86_400.5,
                known: most,
                if_path_survives: most,
            }],
            curve: Vec::new(),
        };
        WhatIf {
            kind: WhatIfKind::WhatIf,
            schema: SCHEMA,
            version: "0.1.0".to_owned(),
            hosts: vec!["h".repeat(100)],
            window: Window {
                start: Utc::from_micros(0),
                end: Utc::from_micros(1_000_000),
                duration_s: 1.0,
            },
            trust: Trust::default(),
            group_by: GroupBy::Address,
            prefixes: None,
            limits: Limits { max_messages: Some(100), max_age_s: Some(300.0) },
            totals: Destination { path: None, ..one.clone() },
            destinations: vec![one.clone(), one],
        }
    }

    fn text(answer: &WhatIf, top: usize) -> String {
        let mut out = Vec::new();
        write(answer, &mut out, top).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_have_80_columns_of_printable_ascii() {
        let text = text(&wide(), 1);
        for line in text.lines() {
            assert!(line.len() <= 80, "{} columns: {line}", line.len());
            assert!(line.chars().all(|c| (' '..='~').contains(&c)), "{line:?}");
        }
        for part in ["does not fit", "left out", "... and 1 more", "at most 100 messages each"] {
            assert!(text.replace("\n  ", " ").contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn nothing_to_replay_is_said() {
        let mut answer = wide();
        answer.totals.messages.replayed = 0;
        assert!(text(&answer, 1).contains("nothing to replay"));
    }
}
