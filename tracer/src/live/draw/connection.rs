//! One connection: what it was, and its turns in order of time.

use ratatui::text::{Line, Span};
use tracer_analysis::{
    connection::{Connection, EndCause, Tls, TurnSpan, TurnSpans},
    destination::Who,
};

use super::{
    super::{recent::Ended, state::State, theme::HEADING},
    destination::time,
    ends, header, wrap,
};
use crate::sink::{
    quantity::{bytes, grouped, plural, seconds},
    safe_text::safe,
    text::in_words,
};

/// From where to where.
pub(super) fn head(state: &State, width: usize) -> Vec<Line<'static>> {
    let Some(shown) = &state.snapshot else { return Vec::new() };
    let mut lines = vec![header::title(state, shown, width)];
    if let Some(ended) = &shown.connection {
        let it = &ended.connection;
        let port = it.sport.map_or_else(|| "?".to_owned(), |port| port.to_string());
        let from_to = format!("{} port {port} to {} port {}", it.src, it.dst, it.dport);
        lines.push(ends(
            vec![Span::styled(from_to, HEADING)],
            vec![Span::raw(format!("  {}", it.id))],
            width,
        ));
    }
    lines
}

/// Facts and turns.
pub(super) fn body(state: &State, width: usize) -> Vec<Line<'static>> {
    let Some(ended) = state.snapshot.as_ref().and_then(|shown| shown.connection.as_ref()) else {
        let gone = "It is not known any more: it ended, and many others after it.";
        return wrap(gone, width, 0).into_iter().map(Line::from).collect();
    };
    let Ended { connection, turns } = &**ended;
    let mut lines = facts(connection, width);
    lines.push(Line::default());
    lines.extend(strip(state, connection, turns, width));
    lines.extend(timeline(state, connection, turns, width));
    lines
}

fn facts(it: &Connection, width: usize) -> Vec<Line<'static>> {
    let start = it.start.to_string().replace('T', " ");
    let mut process: Vec<String> = Vec::new();
    for owner in it.owners.iter().flatten() {
        process.push(format!("{}/{}", owner.comm, owner.pid));
    }
    process.dedup();
    let host = match (it.banner_code, &it.banner_host) {
        (Some(code), Some(host)) => format!("{code} {host}"),
        (Some(code), None) => code.to_string(),
        _ => "none".to_owned(),
    };
    let tls = match it.tls {
        Some(Tls::None) => "no TLS",
        Some(Tls::Starttls) => "STARTTLS",
        Some(Tls::Implicit) => "TLS from the start",
        None => "TLS not known",
    };
    let messages = match (it.transactions, it.transactions_exact) {
        (Some(n), true) => plural(n.into(), "message", "messages"),
        (Some(n), false) => format!("about {}", plural(n.into(), "message", "messages")),
        (None, _) => "messages not known".to_owned(),
    };
    let texts = [
        format!("opened {start}, by {}", safe(&process.join(", "))),
        format!("greeting {}, {tls}, {messages}", safe(&host)),
        format!(
            "connect {}, first byte {}, EHLO {}, TLS {}",
            time(it.connect_us),
            time(it.banner_us),
            time(it.ehlo_us),
            time(it.tls_handshake_us)
        ),
        format!(
            "sent {}, received {}, {} segments sent again, round trip {}",
            bytes(it.bytes_sent),
            bytes(it.bytes_received),
            it.retransmits.unwrap_or(0),
            time(it.srtt_us.map(u64::from))
        ),
        ending(it),
    ];
    let texts = texts.into_iter().chain(sender(it));
    texts.flat_map(|text| wrap(&text, width, 2)).map(Line::from).collect()
}

/// The unit, container or named network namespace that it came from, if one is known.
fn sender(it: &Connection) -> Option<String> {
    let who = Who::of(it);
    let named = who.container.or(who.unit).or(who.netns_name);
    named.map(|_| format!("sender {}", safe(&who.name())))
}

fn ending(it: &Connection) -> String {
    let mut text = in_words(it.end_cause).to_owned();
    if let Some(error) = &it.connect_error {
        text = format!("{text}: {}", safe(error));
    }
    if let (Some(during), true) = (it.end_during, it.end_cause != EndCause::Open) {
        text = format!("{text} during {}", format!("{during:?}").to_lowercase());
    }
    if let Some(idle) = it.end_idle_us {
        text = format!("{text}, idle for {} s", seconds(Some(idle)));
    }
    if let Some(suspect) = it.end_suspect {
        text = format!("{text}, suspect: {}", format!("{suspect:?}").to_lowercase());
    }
    format!("{text}, after {} s", seconds(it.lifetime_us))
}

/// The whole life on one line: where data flowed, and where nothing did.
fn strip(state: &State, it: &Connection, turns: &TurnSpans, width: usize) -> Vec<Line<'static>> {
    let (Some(life), true) = (it.lifetime_us.filter(|us| *us > 0), width >= 30) else {
        return Vec::new();
    };
    let room = width.saturating_sub(2).min(120);
    let (quiet, active) = if state.theme.unicode { ('·', '█') } else { ('.', '#') };
    let mut strip = vec![quiet; room];
    let place = |us: u64| {
        let at = u128::from(us.min(life)) * (room as u128 - 1) / u128::from(life);
        usize::try_from(at).unwrap_or(0)
    };
    let greeting = it.connect_us.unwrap_or(0) + it.banner_us.unwrap_or(0);
    if it.banner_us.is_some() {
        strip[place(greeting)] = active;
    }
    for turn in &turns.spans {
        strip[place(turn.start_us)..=place(turn.end_us)].fill(active);
    }
    let scale = format!(
        "{:<1$}{2}",
        "0",
        room.saturating_sub(10),
        format_args!("{} s", seconds(Some(life)))
    );
    vec![
        Line::styled(format!(" {}", strip.into_iter().collect::<String>()), state.theme.bar()),
        Line::from(format!(" {scale}")),
        Line::default(),
    ]
}

/// Each turn on a line.
fn timeline(state: &State, it: &Connection, turns: &TurnSpans, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled(
        super::fit("      at s   idle s    sent   answer ms  received   done ms", width.min(80)),
        HEADING,
    )];
    let established = it.connect_us;
    let greeted = established.zip(it.banner_us).map(|(connect, banner)| connect + banner);
    if let Some(connect) = established {
        lines.push(Line::from(format!("{:>10}   connected", precise(connect))));
    }
    if let Some(greeted) = greeted {
        lines.push(Line::from(format!("{:>10}   greeting begins", precise(greeted))));
    }
    if turns.omitted > 0 {
        lines.push(Line::from(format!(
            "   ... {} earlier turns are not kept",
            grouped(turns.omitted)
        )));
    } else if turns.spans.is_empty() {
        lines.push(Line::from("   no turn: nothing was said by us"));
    }
    let mut before = (turns.omitted == 0).then_some(greeted.or(established)).flatten();
    for turn in &turns.spans {
        lines.push(one_turn(state, turn, before, width));
        before = Some(turn.end_us);
    }
    if let (Some(life), false) = (it.lifetime_us, it.end_cause == EndCause::Open) {
        lines.push(Line::from(format!("{:>10}   {}", precise(life), in_words(it.end_cause))));
    }
    lines
}

fn one_turn(state: &State, turn: &TurnSpan, before: Option<u64>, width: usize) -> Line<'static> {
    let idle = before.map(|before| turn.start_us.saturating_sub(before));
    let answer = turn.answer_us.map(|answer| answer.saturating_sub(turn.start_us));
    let (answered, style) = match answer {
        Some(us) => (milliseconds(us), ratatui::style::Style::new()),
        None => ("none".to_owned(), state.theme.bad()),
    };
    let done = turn.end_us.saturating_sub(turn.start_us);
    let text = format!(
        "{:>10} {:>8} {:>7} ",
        precise(turn.start_us),
        idle.map_or_else(|| "-".to_owned(), |us| seconds(Some(us))),
        bytes(Some(turn.client_bytes.into()))
    );
    let rest =
        format!("  {:>8} {:>9}  ", bytes(Some(turn.server_bytes.into())), milliseconds(done));
    // A bar on a scale of its own: full is one second.
    let room = width.saturating_sub(62).min(30);
    let bar = state.theme.bar_of((done as f64 / 1e6).min(1.0), room);
    Line::from(vec![
        Span::raw(text),
        Span::styled(format!("{answered:>10}"), style),
        Span::raw(rest),
        Span::styled(bar, state.theme.bar()),
    ])
}

fn milliseconds(us: u64) -> String {
    crate::sink::quantity::milliseconds(Some(us))
}

/// Seconds to the millisecond.
fn precise(us: u64) -> String {
    format!("{:.3}", us as f64 / 1e6)
}
