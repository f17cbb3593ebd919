//! The report as text: at most 80 columns, no colour.

use std::{collections::BTreeMap, fmt::Display, io};

use tracer_analysis::{
    connection::{EndCause, TransactionsMethod},
    destination::{GAVE_UP, OTHER},
    recording::Filters,
    report::{Destination, FamilySummary, Report, Window},
};

use super::{
    idle_text::idle_sessions,
    name_text::names,
    phase_text::{PHASE_COLUMNS, PHASE_LEGEND, has_phases, phase_cells},
    quantity::{bytes, cell, duration, grouped, milliseconds, percent, plural, seconds, unknown},
    safe_text::{safe, wrap, wrap_list},
    sender_text::senders,
    table::{Column, Row, table},
    trust_text::trust,
    verdict_text::verdicts,
};

/// What to print.
#[derive(Debug)]
pub(crate) struct TextOptions {
    /// Destinations to list.
    pub(crate) top: usize,
}

/// Writes the report as text.
pub(crate) fn write(
    report: &Report,
    out: &mut impl io::Write,
    options: &TextOptions,
) -> io::Result<()> {
    let mut text = headline(report);
    text.push_str(&verdicts(report));
    if report.totals.connections == 0 {
        text.push_str(NOTHING);
    } else {
        text.push_str(&destinations(report, options.top));
        text.push_str(&senders(report));
    }
    text.push('\n');
    text.push_str(&trust(report));
    out.write_all(text.as_bytes())
}

/// Printed in place of the tables.
const NOTHING: &str = "
No connections were seen. Was mail sent in that time? Check that
  - the ports are those that your mail server connects to (--dport),
  - no filter keeps its connections out,
  - it does not connect to this machine itself: loopback is left out unless
    --include-loopback is given,
  - connections were open in that time, or opened.
";

/// Who, when, what and how it went.
fn headline(report: &Report) -> String {
    let mut hosts = listed(report.hosts.iter().map(|host| safe(host)));
    if report.hosts.len() > 1 {
        hosts = format!("{} hosts: {hosts}", report.hosts.len());
    }
    let mut text = wrap("", 2, &format!("smtptrace {}: {hosts}", safe(&report.version)));
    text.push_str(&wrap("", 2, &window(&report.window)));
    text.push_str(&wrap("Traced: ", 2, &filters(report.filters.as_ref())));
    let all = &report.totals;
    let mut result = format!(
        "{} to {}; {} failed to connect, {} died",
        plural(all.connections, "connection", "connections"),
        plural(report.destinations_known(), "destination", "destinations"),
        grouped(all.connect_failures),
        grouped(all.died),
    );
    if report.destinations_omitted.connections > 0 {
        let beyond = grouped(report.destinations_omitted.connections);
        result = format!("{result}; {beyond} went to others ({OTHER})");
    }
    text.push_str(&wrap("", 2, &result));
    text
}

pub(super) fn window(window: &Window) -> String {
    let second = |text: String| text.get(..19).unwrap_or_default().replace('T', " ");
    let (start, end) = (second(window.start.to_string()), second(window.end.to_string()));
    let end = match (start.split_once(' '), end.split_once(' ')) {
        (Some((day, _)), Some((last_day, time))) if day == last_day => time,
        _ => &end,
    };
    format!("{start} to {end} UTC ({})", duration(window.duration_s))
}

/// The filters in words.
pub(super) fn filters(filters: Option<&Filters>) -> String {
    let Some(filters) = filters else { return "filters not known, or not the same".to_owned() };
    let all_safe = |texts: &[String]| texts.iter().map(|text| safe(text)).collect::<Vec<_>>();
    let [comm, dest, unit, container] =
        [&filters.comm, &filters.dest, &filters.unit, &filters.container].map(|it| all_safe(it));
    let parts = [
        named("port", &filters.dport),
        named("to", &dest),
        named("pid", &filters.pid),
        named("uid", &filters.uid),
        named("command", &comm),
        named("netns", &filters.netns),
        named("cgroup", &filters.cgroup),
        named("unit", &unit),
        named("container", &container),
        filters.include_loopback.then(|| "loopback too".to_owned()),
        (!filters.replies).then(|| "replies not read".to_owned()),
    ];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
    if text.is_empty() { "everything".to_owned() } else { text }
}

/// A filter in words, unless it is empty.
fn named(what: &str, values: &[impl Display]) -> Option<String> {
    (!values.is_empty()).then(|| format!("{what} {}", listed(values)))
}

pub(super) fn listed(values: impl IntoIterator<Item = impl Display>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ")
}

/// The tables, and the endings in words.
fn destinations(report: &Report, top: usize) -> String {
    let shown = &report.destinations[..top.min(report.destinations.len())];
    let rest = (report.destinations.len() - shown.len()) as u64 + report.unlisted.destinations;
    let mut text = String::from("\n");
    text.push_str(&both_tables(report, shown));
    if rest > 0 {
        let more = plural(rest, "more destination", "more destinations");
        text.push_str(&wrap("", 0, &format!("... and {more} (--top N)")));
    }
    if shown.is_empty() {
        return text;
    }
    text.push_str(&names(shown));
    text.push_str("\nHow they ended\n");
    let lengths = shown.iter().map(|one| safe(&one.key).len());
    let key = lengths.filter(|&len| len <= ENDING_KEY).max().unwrap_or(0);
    for destination in shown {
        text.push_str(&ending_lines(destination, key));
    }
    text.push_str(&idle_sessions(shown, key));
    let both: Vec<Row> = shown.iter().filter_map(family_rows).flatten().collect();
    if !both.is_empty() {
        text.push('\n');
        text.push_str(&table("IPv4 and IPv6", &FAMILY_COLUMNS, &both));
    }
    text
}

/// Connecting, and what became of it.
fn both_tables(report: &Report, shown: &[Destination]) -> String {
    let key = report.group_by.as_str();
    let all = (shown.len() > 1).then_some(&report.totals);
    let rows = |cells: fn(&Destination) -> Vec<String>| -> Vec<Row> {
        let listed = shown.iter().map(|one| Row { key: safe(&one.key), cells: cells(one) });
        listed.chain(all.map(|all| Row { key: "all".to_owned(), cells: cells(all) })).collect()
    };
    let mut text = table(key, &CONNECT_COLUMNS, &rows(connect_cells));
    text.push_str(LEGEND);
    if shown.iter().chain(all).any(|one| !one.peak_concurrency_exact) {
        text.push_str("~: not exact, as a rule too high\n");
    }
    text.push('\n');
    text.push_str(&table(key, &LIFE_COLUMNS, &rows(life_cells)));
    if report.totals.transactions.is_some() {
        text.push('\n');
        text.push_str(&table(key, &MESSAGE_COLUMNS, &rows(message_cells)));
        text.push_str(MESSAGE_LEGEND);
        text.push_str(&wrap("Counted by ", 2, &methods(&report.totals)));
    }
    if has_phases(&report.totals) {
        text.push('\n');
        text.push_str(&table(key, &PHASE_COLUMNS, &rows(phase_cells)));
        text.push_str(PHASE_LEGEND);
    }
    text
}

const LEGEND: &str = "\
failed: never established; died: reset, timed out or without an answer;
highest: most open at the same time, most opened in one minute
";

const CONNECT_COLUMNS: [Column; 9] = [
    Column::new("", "conns"),
    Column::new("", "failed"),
    Column::new("", "died"),
    Column::new("highest", "open"),
    Column::new("highest", "/min"),
    Column::new("connect ms", "p50"),
    Column::new("connect ms", "p99"),
    Column::new("greeting ms", "p50"),
    Column::new("greeting ms", "p99"),
];

fn connect_cells(of: &Destination) -> Vec<String> {
    let inexact = if of.peak_concurrency_exact { "" } else { "~" };
    let (connect, banner) = (&of.histograms.connect_us, &of.histograms.banner_us);
    vec![
        cell(of.connections),
        cell(of.connect_failures),
        cell(of.died),
        format!("{inexact}{}", cell(of.peak_concurrency)),
        cell(of.connections_per_minute.peak),
        milliseconds(connect.p50),
        milliseconds(connect.p99),
        milliseconds(banner.p50),
        milliseconds(banner.p99),
    ]
}

const LIFE_COLUMNS: [Column; 6] = [
    Column::new("lifetime s", "p50"),
    Column::new("lifetime s", "p99"),
    Column::new("turns", "p50"),
    Column::new("payload", "sent"),
    Column::new("payload", "received"),
    Column::new("segments", "resent"),
];

fn life_cells(of: &Destination) -> Vec<String> {
    let histograms = &of.histograms;
    vec![
        seconds(histograms.lifetime_us.p50),
        seconds(histograms.lifetime_us.p99),
        histograms.turns.p50.map_or_else(unknown, cell),
        bytes(of.bytes_sent),
        bytes(of.bytes_received),
        of.retransmits.map_or_else(unknown, cell),
    ]
}

const MESSAGE_COLUMNS: [Column; 7] = [
    Column::new("", "messages"),
    Column::new("per connection", "p50"),
    Column::new("per connection", "max"),
    Column::new("reused", "%"),
    Column::new("connections", "unused"),
    Column::new("connections", "counted"),
    Column::new("connections", "exact"),
];

const MESSAGE_LEGEND: &str = "\
reused: messages that needed no new connection; counted: connections whose
messages are known; exact: those of them where no other number is possible
";

/// How messages were counted.
pub(super) fn methods(of: &Destination) -> String {
    let methods = of.counted_by.iter().map(|(method, counted)| {
        let method = match method {
            TransactionsMethod::Replies => "replies",
            TransactionsMethod::TlsProbes => "decrypted replies",
            TransactionsMethod::TlsLengths => "lengths under TLS",
        };
        let connections = plural(counted.connections, "connection", "connections");
        format!("{method}: {connections}, {} exact", grouped(counted.exact_connections))
    });
    let text = methods.collect::<Vec<_>>().join("; ");
    if text.is_empty() { "a method not known".to_owned() } else { text }
}

fn message_cells(of: &Destination) -> Vec<String> {
    let per_connection = of.histograms.messages_per_connection.as_ref();
    let quantile = |value: Option<u64>| value.map_or_else(unknown, cell);
    vec![
        of.transactions.map_or_else(unknown, cell),
        quantile(per_connection.and_then(|it| it.p50)),
        quantile(per_connection.and_then(|it| it.max)),
        percent(of.reuse_ratio),
        of.unused_connections.map_or_else(unknown, cell),
        cell(of.counted_connections),
        cell(of.exact_connections),
    ]
}

const FAMILY_COLUMNS: [Column; 7] = [
    Column::new("", "conns"),
    Column::new("", "failed"),
    Column::new("", "died"),
    Column::new("connect ms", "p50"),
    Column::new("connect ms", "p99"),
    Column::new("greeting ms", "p50"),
    Column::new("greeting ms", "p99"),
];

/// A heading and a line for each family; `None` if there is only one.
fn family_rows(of: &Destination) -> Option<[Row; 3]> {
    let row = |name: &str, family: &FamilySummary| {
        let (connect, banner) = (&family.histograms.connect_us, &family.histograms.banner_us);
        let cells = vec![
            cell(family.connections),
            cell(family.connect_failures),
            cell(family.died),
            milliseconds(connect.p50),
            milliseconds(connect.p99),
            milliseconds(banner.p50),
            milliseconds(banner.p99),
        ];
        Row { key: format!("  {name}"), cells }
    };
    let (ipv4, ipv6) = (of.families.ipv4.as_ref()?, of.families.ipv6.as_ref()?);
    let heading = Row { key: safe(&of.key), cells: Vec::new() };
    Some([heading, row("IPv4", ipv4), row("IPv6", ipv6)])
}

/// How the connections of a destination ended, in words beside a key of `width` columns.
fn ending_lines(of: &Destination, width: usize) -> String {
    let parts = endings(of);
    let key = safe(&of.key);
    if key.len() <= width {
        wrap_list(&format!("{key:width$}  "), width + 2, &parts)
    } else {
        let margin = width + 2;
        format!("{}{}", wrap("", 2, &key), wrap_list(&" ".repeat(margin), margin, &parts))
    }
}

/// The same item by item.
pub(super) fn endings(of: &Destination) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    if of.connect_failures > 0 {
        let errors = of.failures.iter().map(|(name, &n)| {
            let name = if name == GAVE_UP { "gave up".to_owned() } else { safe(name) };
            format!("{} {name}", grouped(n))
        });
        parts.push(format!("{} not connected ({})", grouped(of.connect_failures), listed(errors)));
    }
    let sessions = ends_in_words(&of.session_endings, &of.after_quit);
    parts.extend(sessions.map(|(words, n)| format!("{} {words}", grouped(n))));
    let others = of.greeting_codes.iter().filter(|(code, _)| **code != 220);
    parts.extend(others.map(|(code, &n)| format!("{} greeted with {code}", grouped(n))));
    parts
}

/// Ends by what they were: after QUIT it does not matter who closes first, nor whether with a reset.
pub(crate) fn ends_in_words(
    endings: &BTreeMap<EndCause, u64>,
    after_quit: &BTreeMap<EndCause, u64>,
) -> impl Iterator<Item = (&'static str, u64)> {
    let quit = ("closed after QUIT", after_quit.values().sum());
    let others = endings.iter().map(|(&cause, &n)| {
        (in_words(cause), n.saturating_sub(after_quit.get(&cause).copied().unwrap_or(0)))
    });
    std::iter::once(quit).chain(others).filter(|(_, n)| *n > 0)
}

/// Longest key that stands beside the words.
const ENDING_KEY: usize = 30;

pub(crate) const fn in_words(cause: EndCause) -> &'static str {
    match cause {
        EndCause::LocalFin => "closed by us",
        EndCause::PeerFin => "closed by the server",
        EndCause::RstReceived => "reset by the other side",
        EndCause::RstSent => "reset by us",
        EndCause::Timeout => "timed out",
        EndCause::Unanswered => "closed without an answer",
        EndCause::ConnectError => "not connected",
        EndCause::Open => "still open",
    }
}
