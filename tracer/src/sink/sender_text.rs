//! The part of the text report that says who sent.

use tracer_analysis::{
    destination::{OTHER, SenderKind},
    report::{Report, Sender},
};

use super::{
    quantity::{cell, grouped, percent, plural, unknown},
    safe_text::{safe, wrap},
    table::{Column, Row, table},
};

/// Senders listed at most.
const LISTED: usize = 10;

/// A table of senders; a line, if there is only one and it has a name worth telling.
pub(super) fn senders(report: &Report) -> String {
    match &report.senders[..] {
        all if !tell(all) => String::new(),
        [one] => format!("\n{}", wrap("Sender: ", 2, &sender_name(one, report))),
        all => format!("\n{}", several(all, report)),
    }
}

/// Whether there is anything to tell: not of one sender that has no better name than its command, and of those
/// that are not known.
pub(super) fn tell(senders: &[Sender]) -> bool {
    let mut known = senders.iter().filter(|it| it.kind != SenderKind::Unknown);
    match (known.next(), known.next()) {
        (Some(one), None) => one.kind != SenderKind::Command,
        (first, _) => first.is_some(),
    }
}

/// A name that no other sender in the report has, safe to print.
pub(super) fn sender_name(sender: &Sender, report: &Report) -> String {
    let mut name = safe(&sender.name);
    let same = |it: &&Sender| it.name == sender.name && it.host == sender.host;
    if report.senders.iter().filter(same).nth(1).is_some() {
        if let Some(cgroup) = sender.cgroup.as_ref().or(sender.container.as_ref()) {
            name = format!("{name} ({})", safe(cgroup));
        }
        if let Some(netns) = sender.netns {
            name = format!("{name} in netns {netns}");
        }
    }
    match &sender.host {
        Some(host) if report.hosts.len() > 1 => format!("{}: {name}", safe(host)),
        _ => name,
    }
}

fn several(all: &[Sender], report: &Report) -> String {
    let shown = &all[..LISTED.min(all.len())];
    let row = |one| Row { key: sender_name(one, report), cells: cells(one) };
    let rows: Vec<Row> = shown.iter().map(row).collect();
    let mut text = table("sender", &COLUMNS, &rows);
    text.push_str(LEGEND);
    let rest = all.len() - shown.len();
    if rest > 0 {
        let more = plural(rest as u64, "more sender", "more senders");
        text.push_str(&wrap("", 0, &format!("... and {more} (--format json)")));
    }
    let others = beyond(report);
    if !others.is_empty() {
        text.push_str(&wrap("", 0, &others));
    }
    text
}

/// What is to be said of senders beyond the number that is kept apart.
pub(super) fn beyond(report: &Report) -> String {
    let omitted = report.senders_omitted;
    if omitted.connections == 0 {
        return String::new();
    }
    let connections = plural(omitted.connections, "connection", "connections");
    format!("{OTHER}: {connections} of senders beyond the first {}", grouped(omitted.limit))
}

const COLUMNS: [Column; 8] = [
    Column::new("", "conns"),
    Column::new("", "failed"),
    Column::new("", "died"),
    Column::new("turned", "away"),
    Column::new("messages", "all"),
    Column::new("messages", "reused%"),
    Column::new("replies", "4xx"),
    Column::new("replies", "5xx"),
];

const LEGEND: &str = "\
turned away: by a greeting other than 220, a 421 or the like, before a message
";

fn cells(of: &Sender) -> Vec<String> {
    let count = |value: Option<u64>| value.map_or_else(unknown, cell);
    vec![
        cell(of.connections),
        cell(of.connect_failures),
        cell(of.died),
        cell(of.turned_away),
        count(of.transactions),
        percent(of.reuse_ratio),
        count(of.replies_4xx),
        count(of.replies_5xx),
    ]
}

#[cfg(test)]
mod tests {
    use tracer_analysis::{connection::Connection, destination::GroupBy, report::Context};

    use super::*;
    use crate::sink::tests::{connection, context, failed, report};

    fn of(unit: Option<&str>, comm: Option<&str>) -> Connection {
        let [unit, comm] = [unit, comm].map(|text| text.map(str::to_owned));
        Connection { unit, comm, ..connection("192.0.2.1", None, 0, 1_000) }
    }

    fn told(all: &[Connection]) -> String {
        senders(&report(all, GroupBy::Address, context()))
    }

    #[test]
    fn one_sender_is_told_if_it_has_a_name() {
        assert_eq!(told(&[of(None, Some("smtp"))]), "");
        assert_eq!(told(&[of(None, None), of(None, Some("smtp"))]), "");
        assert_eq!(told(&[of(Some("postfix@-.service"), None)]), "\nSender: postfix@-.service\n");
    }

    #[test]
    fn several_are_a_table() {
        let in_vain = Connection {
            container: Some("6df79a0a53f3".repeat(6)[..64].to_owned()),
            ..failed("192.0.2.1", 0, "ECONNREFUSED")
        };
        let text = told(&[of(None, Some("smtp")), in_vain, of(Some("exim4.service"), None)]);
        let expected = "
                                                turned      messages   replies
sender                     conns  failed  died    away  all  reused%  4xx  5xx
container 6df79a0a53f3         1       1     0       0    -        -    -    -
command smtp                   1       0     0       0    -        -    -    -
exim4.service                  1       0     0       0    -        -    -    -
turned away: by a greeting other than 220, a 421 or the like, before a message
";
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&text), squeezed(expected), "{text}");
        assert!(text.contains("\ncontainer 6df79a0a53f3 "), "the key fits: {text}");
        let many: Vec<_> = (0..13).map(|n| of(None, Some(&format!("mta{n}")))).collect();
        assert!(told(&many).ends_with("\n... and 3 more senders (--format json)\n"));
    }

    #[test]
    fn names_that_are_alike_are_told_apart() {
        let at = |netns, host: &str| Connection {
            netns: Some(netns),
            host: host.to_owned(),
            ..of(None, Some("smtp"))
        };
        let context = Context { hosts: vec!["mx1".to_owned(), "mx2".to_owned()], ..context() };
        let all = [at(1, "mx1"), at(2, "mx1"), at(1, "mx2")];
        let report = report(&all, GroupBy::Address, context);
        let names: Vec<_> = report.senders.iter().map(|it| sender_name(it, &report)).collect();
        let expected =
            ["mx1: command smtp in netns 1", "mx1: command smtp in netns 2", "mx2: command smtp"];
        assert_eq!(names, expected);
    }
}
