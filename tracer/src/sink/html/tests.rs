use std::process::{Command, Stdio};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tracer_analysis::{
    connection::{Connection, EndCause, EndDuring, Refusal, TransactionsMethod},
    destination::GroupBy,
    recording::{Filters, HookState, HookStatus},
    report::{Context, Name, Report},
    whatif::{self, Demand, WhatIf},
};

use super::{HtmlOptions, POLICY, SCRIPT, STYLE, page};
use crate::sink::tests::{connection, connections, context, failed, hook, report};

fn of(connections: &[Connection], by: GroupBy) -> Report {
    report(connections, by, Context { hdr: true, ..context() })
}

fn replay(connections: &[Connection], of: &Report) -> WhatIf {
    let mut demand = Demand::new(100);
    for connection in connections {
        demand.add(connection);
    }
    let context = whatif::Context {
        hosts: of.hosts.clone(),
        version: of.version.clone(),
        start: of.window.start,
        end: of.window.end,
        trust: of.trust.clone(),
        cache_times_us: Vec::new(),
        max_messages: None,
        max_age_us: None,
    };
    WhatIf::new(&demand, of.group_by, context)
}

fn html(report: &Report, what_if: Option<&WhatIf>, top: usize) -> String {
    page(report, what_if, &HtmlOptions { top }).into_string()
}

/// The hour of the text report, with messages and two 421 replies.
fn hour() -> Vec<Connection> {
    let mut all = connections();
    for (n, one) in all.iter_mut().enumerate().filter(|(_, one)| one.connect_error.is_none()) {
        if one.greeting_us.is_none() {
            continue;
        }
        let begin = 60_000 + n as u64 * 100;
        one.transactions = Some(2);
        one.transactions_method = Some(TransactionsMethod::Replies);
        one.transactions_exact = true;
        one.transaction_spans_us =
            Some(vec![[begin, begin + 90_000], [begin + 4_090_000, begin + 4_200_000]]);
    }
    let during = EndDuring::Greeting;
    for (n, one) in all.iter_mut().enumerate().take(2) {
        let at_us = 50_000 + n as u64 * 1_000_000;
        one.refusals = Some(vec![Refusal { code: 421, enhanced: None, at_us, during }]);
    }
    all
}

#[test]
fn the_page_of_an_hour() {
    let all = hour();
    let report = of(&all, GroupBy::Host);
    let page = html(&report, Some(&replay(&all, &report)), 1);
    // One tag a line, without what has a test of its own.
    let page = page.replace(STYLE, "").replace(SCRIPT, "").replace(POLICY, "");
    let page = page.replace("><", ">\n<") + "\n";
    let expected = include_str!("../testdata/report.html");
    if page != expected {
        let file = std::env::temp_dir().join("smtptrace-report.html");
        std::fs::write(&file, page).unwrap();
        panic!("tracer/src/sink/testdata/report.html differs from {}", file.display());
    }
}

#[test]
fn the_policy_names_the_style_and_the_script() {
    for (kind, text) in [("style", STYLE), ("script", SCRIPT)] {
        let mut sum = Command::new("sha256sum");
        let sum = sum.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut sum = sum.expect("sha256sum of coreutils");
        std::io::Write::write_all(&mut sum.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let output = sum.wait_with_output().unwrap();
        let hex = String::from_utf8(output.stdout).unwrap();
        let bytes: Vec<u8> =
            (0..32).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
        let source = format!("{kind}-src 'sha256-{}'", STANDARD.encode(bytes));
        assert!(POLICY.contains(&source), "html/mod.rs must have {source}");
    }
    assert!(POLICY.starts_with("default-src 'none'"));
}

#[test]
fn hostile_text_is_only_text() {
    const HOSTILE: &str = "</script></style><script>alert(1)</script><img src=x onerror=y>\"' onload=\"z\
                           \x1b[2J\x07\r\n\u{9b}31m\u{202e}\u{200b}\u{2066}\x7f\u{430}&lt;";
    let mut context = Context { hdr: true, ..context() };
    context.hosts = vec![HOSTILE.to_owned(); 2];
    context.version = HOSTILE.to_owned();
    context.filters = Some(Filters {
        comm: vec![HOSTILE.to_owned()],
        dest: vec![HOSTILE.to_owned()],
        ..Filters::default()
    });
    context.trust.hooks = vec![
        HookStatus {
            fact: HOSTILE.to_owned(),
            ..hook(HOSTILE, HookState::Unavailable, Some(HOSTILE))
        },
        HookStatus { program: Some(HOSTILE.to_owned()), ..hook("x", HookState::Fallback, None) },
    ];
    let mut all = vec![failed("192.0.2.2", 0, HOSTILE)];
    all.extend((0..30).map(|n| Connection {
        banner_code: Some(421),
        end_cause: EndCause::PeerFin,
        ..connection("192.0.2.1", Some(&format!("{HOSTILE}.example")), n, 1)
    }));
    let mut report = report(&all, GroupBy::Host, context);
    let found = report.findings.iter_mut().map(|finding| &mut finding.verdict);
    for verdict in report.verdicts.iter_mut().chain(found) {
        verdict.summary.push_str(HOSTILE);
        verdict.advice.iter_mut().for_each(|advice| advice.text.push_str(HOSTILE));
    }
    assert!(report.verdicts.iter().any(|verdict| verdict.destination.contains("script")));
    let page = html(&report, Some(&replay(&all, &report)), 20);
    let page = page.replace(STYLE, "").replace(SCRIPT, "");
    for (part, times) in
        [("<script", 1), ("<style", 1), ("</script", 1), ("</style", 1), ("<img", 0)]
    {
        assert_eq!(page.matches(part).count(), times, "{part}");
    }
    assert!(page.chars().all(|c| matches!(c, ' '..='~' | '\n' | '\u{b5}')), "{page:?}");
    // A quote would end an attribute.
    let quotes = page.match_indices("onload=").map(|(at, _)| &page[at..at + 13]);
    assert!(quotes.clone().count() > 3 && quotes.clone().all(|it| it == "onload=&quot;"));
}

#[test]
fn names_of_addresses_are_shown() {
    let mut report = of(&hour(), GroupBy::Address);
    let name = |name: &str, verified| Some(Name { name: name.to_owned(), verified });
    report.destinations[0].name = name("mx.example.org", true);
    report.destinations[1].name = name("mx.<b>.example", false);
    let page = html(&report, None, 20);
    assert!(page.contains(">mx.example.org</span>"), "{page}");
    assert!(page.contains(">mx.&lt;b&gt;.example (not verified)</span>"), "{page}");
}

#[test]
fn what_is_left_out_is_said() {
    let report = of(&hour(), GroupBy::Address);
    let page = html(&report, None, 2);
    assert!(page.contains("... and 3 more destinations without charts"), "{page}");
    assert_eq!(page.matches("<details").count(), 2);
    assert_eq!(page.matches("data-key=").count(), 6, "all are in the table, and their sum");
    assert!(page.contains("No curve: not replayed"));
    let many: Vec<Connection> = (0..1200_u32)
        .map(|n| connection(&format!("10.0.{}.{}", n / 256, n % 256), None, 0, 1))
        .collect();
    let mut fold = tracer_analysis::destination::Fold::new(1100);
    for connection in &many {
        fold.add(connection);
    }
    let page = html(&Report::new(&fold, GroupBy::Address, context()), None, 0);
    assert_eq!(page.matches("data-key=").count(), 1001);
    assert!(page.contains("... and 101 more destinations, less bad"), "1100 and ~other");
    assert!(page.contains("100 connections to further destinations are in one row"));
}

#[test]
fn nothing_seen_is_said() {
    let page = html(&of(&[], GroupBy::Address), None, 20);
    assert!(page.contains("No connections were seen"));
    assert!(page.contains("Trust: 0 events lost"));
}
