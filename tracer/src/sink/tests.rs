use std::collections::BTreeMap;

use tracer_analysis::{
    connection::{Connection, EndCause, EndDuring, EndSuspect, TransactionsMethod},
    destination::{Fold, GroupBy},
    recording::{Filters, HookState, HookStatus, Overhead, Trust},
    report::{Context, Report},
    utc::Utc,
};

use super::{
    json,
    text::{self, TextOptions},
};

const START: &str = "2026-11-22T03:00:00Z";

pub(crate) fn connection(
    dst: &str,
    host: Option<&str>,
    start_s: u64,
    lifetime_ms: u64,
) -> Connection {
    let line = serde_json::json!({
        "schema": 1, "id": "0000000000000001", "host": "mx1.example.net", "start": START,
        "seen_from": "connect", "family": if dst.contains(':') { "ipv6" } else { "ipv4" },
        "src": "192.0.2.200", "dst": dst, "dport": 25, "transactions_exact": false,
        "end_cause": "local_fin", "banner_host": host, "connect_us": 18_400 + start_s * 7,
        "banner_us": 31_000 + start_s * 900, "greeting_us": 32_000, "banner_code": 220,
        "lifetime_us": lifetime_ms * 1_000, "bytes_sent": 48_200, "bytes_received": 1_311,
        "retransmits": 0, "turns": 6, "idle_gaps_us": [4_000_000], "idle_max_survived_us": 4_000_000,
        "end_during": "idle", "end_idle_us": 5_000_000,
    });
    let connection: Connection = serde_json::from_value(line).unwrap();
    Connection { start: connection.start.plus_micros(start_s * 1_000_000), ..connection }
}

pub(super) fn failed(dst: &str, start_s: u64, errno: &str) -> Connection {
    Connection {
        connect_us: None,
        banner_us: None,
        greeting_us: None,
        banner_code: None,
        turns: None,
        bytes_sent: Some(0),
        bytes_received: Some(0),
        retransmits: Some(6),
        connect_error: Some(errno.to_owned()),
        end_cause: EndCause::ConnectError,
        ..connection(dst, None, start_s, 130_000)
    }
}

pub(super) fn hook(hook: &str, state: HookState, reason: Option<&str>) -> HookStatus {
    HookStatus {
        hook: hook.to_owned(),
        fact: format!("what {hook} records"),
        state,
        program: (state != HookState::Unavailable).then(|| "tp_btf".to_owned()),
        reason: reason.map(ToOwned::to_owned),
        events_lost: 0,
        map_full: 0,
        run_count: None,
        run_time_ns: None,
    }
}

pub(super) fn context() -> Context {
    Context {
        hosts: vec!["mx1.example.net".to_owned()],
        version: "0.1.0".to_owned(),
        start: Utc::parse(START).unwrap(),
        end: Utc::parse("2026-11-22T04:00:00Z").unwrap(),
        filters: Some(Filters { dport: vec![25, 465, 587], replies: true, ..Filters::default() }),
        trust: Trust {
            connections_lost: Some(0),
            hooks: vec![
                hook("tcp_probe", HookState::Attached, None),
                hook("tcp_connect", HookState::Unavailable, Some("kprobes are not in this kernel")),
                hook("inet_sock_set_state", HookState::Attached, None),
                hook("tcp_sendmsg", HookState::Fallback, Some("fentry is refused")),
            ],
            overhead: Overhead { user_cpu_us: Some(7_120_000), kernel_cpu_us: None },
            ..Trust::default()
        },
        hdr: false,
    }
}

/// An hour of a small mail server.
pub(super) fn connections() -> Vec<Connection> {
    let mut all = Vec::new();
    for n in 0..120 {
        let host = Some("mx.mail.example.org");
        let dst = if n % 3 == 0 { "2001:db8:10::25" } else { "192.0.2.25" };
        all.push(connection(dst, host, n * 20, 35_000 + n * 100));
    }
    for n in 0..5 {
        all.push(failed("2001:db8:10::25", n * 60, "ETIMEDOUT"));
        all.push(connection("198.51.100.7", Some("mail.example.com"), n * 2, 1_200));
    }
    all.push(failed("203.0.113.99", 10, "ECONNREFUSED"));
    all.push(Connection {
        connect_error: None,
        end_cause: EndCause::LocalFin,
        ..failed("203.0.113.99", 70, "")
    });
    let long = "a-very-long-name-of-a-mail-exchanger.eu-central.mail.protection.example.info";
    let slow = Connection {
        comm: Some("smtp".to_owned()),
        keepalive: Some(true),
        keepalive_idle_s: Some(7_200),
        idle_gaps_us: Some(vec![4_000_000, 360_000_000]),
        end_during: Some(EndDuring::Reuse),
        end_idle_us: Some(360_000_000),
        end_unanswered_us: Some(20_000_000),
        end_suspect: Some(EndSuspect::Middlebox),
        ..connection("198.51.100.80", Some(long), 100, 400_000)
    };
    let throttled = connection("198.51.100.80", Some(long), 101, 300);
    let left = connection("198.51.100.80", Some(long), 3_500, 100_000);
    all.push(Connection { end_cause: EndCause::Unanswered, retransmits: Some(9), ..slow });
    all.push(Connection { banner_code: Some(421), end_cause: EndCause::PeerFin, ..throttled });
    all.push(Connection { end_cause: EndCause::Open, ..left });
    all
}

pub(super) fn report(connections: &[Connection], by: GroupBy, context: Context) -> Report {
    let mut fold = Fold::new(100);
    for connection in connections {
        fold.add(connection);
    }
    Report::new(&fold, by, context)
}

fn text(report: &Report, top: usize) -> String {
    let mut out = Vec::new();
    text::write(report, &mut out, &TextOptions { top }).unwrap();
    String::from_utf8(out).unwrap()
}

/// Every line fits a terminal, and nothing in it can do anything to the terminal.
#[track_caller]
fn assert_printable(text: &str) {
    for line in text.lines() {
        assert!(line.len() <= 80, "{} columns: {line}", line.len());
        assert_eq!(line.trim_end(), line, "spaces at the end");
    }
    assert!(text.chars().all(|c| matches!(c, ' '..='~' | '\n')), "{text:?}");
}

#[test]
fn the_report_of_an_hour() {
    let text = text(&report(&connections(), GroupBy::Host, context()), 20);
    assert_printable(&text);
    let expected = include_str!("testdata/report.txt");
    assert!(text == expected, "tracer/src/sink/testdata/report.txt differs from:\n{text}");
}

#[test]
fn only_the_worst_destinations_are_listed() {
    let report = report(&connections(), GroupBy::Address, context());
    let text = text(&report, 2);
    assert!(text.contains("\n... and 3 more destinations"), "{text}");
    assert!(!text.contains("198.51.100.7\n"), "{text}");
    assert_printable(&self::text(&report, 0));
}

#[test]
fn messages_are_told_where_they_are_known() {
    let carried = |transactions, exact| Connection {
        transactions: Some(transactions),
        transactions_method: Some(TransactionsMethod::Replies),
        transactions_exact: exact,
        ..connection("192.0.2.1", None, 0, 5_000)
    };
    let unknown = connection("192.0.2.2", None, 0, 5_000);
    let connections = [carried(10, true), carried(0, true), carried(2, false), unknown.clone()];
    let some = text(&report(&connections, GroupBy::Address, context()), 20);
    // 12 messages over 2 connections that carried any: 10 of 12 needed no new one.
    let cells = ["192.0.2.1", "12", "2", "10", "83", "1", "3", "2"];
    let has = |cells: &[&str]| some.lines().any(|line| line.split_whitespace().eq(cells.to_vec()));
    assert!(has(&cells), "{some}");
    assert!(has(&["192.0.2.2", "-", "-", "-", "-", "-", "0", "0"]), "{some}");
    assert!(some.contains("\nCounted by replies: 3 connections, 2 exact\n"), "{some}");
    let none = text(&report(&[unknown], GroupBy::Address, context()), 20);
    assert!(!none.contains("messages"), "{none}");
}

#[test]
fn phases_are_told_where_they_are_known() {
    let measured = Connection {
        ehlo_us: Some(12_000),
        transaction_spans_us: Some(vec![[100, 900_100], [1_000_000, 1_300_000]]),
        final_reply_us: Some(vec![700_000, 100_000]),
        ..connection("192.0.2.1", None, 0, 5_000)
    };
    let text = text(&report(&[measured], GroupBy::Address, context()), 20);
    assert_printable(&text);
    let cells = ["192.0.2.1", "12", "12", "-", "-", "300", "900", "100", "700"];
    let mut lines = text.lines();
    assert!(lines.any(|line| line.split_whitespace().eq(cells)), "{text}");
}

#[test]
fn no_connections_are_said_to_be_none() {
    let text = text(&report(&[], GroupBy::Address, context()), 20);
    assert_printable(&text);
    assert!(text.contains("No connections were seen."), "{text}");
    assert!(text.contains("Trust: 0 events lost"), "{text}");
}

#[test]
fn unknown_filters_and_hooks_are_said_to_be_unknown() {
    let context = Context {
        hosts: vec!["a.example".to_owned(), "b.example".to_owned()],
        filters: None,
        trust: Trust::default(),
        ..context()
    };
    let text = text(&report(&connections(), GroupBy::Prefix, context), 20);
    assert_printable(&text);
    for part in
        ["2 hosts: a.example, b.example", "filters not known", "connections lost: not known"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

/// Connections and their report with `hostile` wherever text can stand.
pub(super) fn with_text_everywhere(hostile: &str) -> (Vec<Connection>, Report) {
    let mut context = context();
    context.hosts = vec![hostile.to_owned(); 3];
    context.version = hostile.to_owned();
    context.filters = Some(Filters {
        comm: vec![hostile.to_owned()],
        dest: vec![hostile.repeat(20)],
        unit: vec![hostile.to_owned()],
        container: vec![hostile.to_owned()],
        ..Filters::default()
    });
    context.trust.hooks = vec![HookStatus {
        fact: hostile.to_owned(),
        reason: Some(hostile.to_owned()),
        program: Some(hostile.to_owned()),
        ..hook(hostile, HookState::Unavailable, None)
    }];
    context.hdr = true;
    // With a dot, or it would name no destination.
    let host = format!("{hostile}.example");
    let mut connections = vec![
        connection("192.0.2.1", Some(&host), 0, 1),
        connection("2001:db8::1", Some(&host), 0, 1),
        failed("192.0.2.2", 0, hostile),
    ];
    for n in 0..5 {
        connections.push(Connection {
            end_cause: EndCause::Unanswered,
            end_during: Some(EndDuring::Reuse),
            end_suspect: Some(EndSuspect::Middlebox),
            ..connection("192.0.2.1", Some(&host), 10 + n, 9_000)
        });
    }
    for connection in &mut connections {
        connection.comm = Some(hostile.to_owned());
        connection.host = hostile.to_owned();
        connection.id = hostile.to_owned();
    }
    connections[0].unit = Some(hostile.to_owned());
    connections[1].container = Some(hostile.to_owned());
    connections[2].netns_name = Some(hostile.to_owned());
    let report = report(&connections, GroupBy::Host, context);
    (connections, report)
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let hostile = "\x1b[2J\x07\r\n\u{9b}31m\u{202e}\u{200b}\u{2066}\x7f\u{430} rm -rf";
    let (_, report) = with_text_everywhere(hostile);
    assert_printable(&text(&report, 20));
    let mut out = Vec::new();
    json::write(&report, &mut out).unwrap();
    let json = String::from_utf8(out).unwrap();
    assert!(json.chars().all(|c| matches!(c, ' '..='~' | '\n')), "{json:?}");
    let mut again = Vec::new();
    json::write(&serde_json::from_str::<Report>(&json).unwrap(), &mut again).unwrap();
    assert_eq!(String::from_utf8(again).unwrap(), json);
}

/// Numbers from a linear congruential generator, of any magnitude.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let magnitude = (self.0 >> 33) % 64;
        self.0.rotate_left(17) >> magnitude
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.next() % of.len() as u64).unwrap()]
    }
}

#[test]
fn lines_have_at_most_80_columns() {
    const CAUSES: [EndCause; 7] = [
        EndCause::LocalFin,
        EndCause::PeerFin,
        EndCause::RstReceived,
        EndCause::RstSent,
        EndCause::Timeout,
        EndCause::Unanswered,
        EndCause::Open,
    ];
    let mut numbers = Numbers(1);
    for round in 0..200 {
        let mut all = Vec::new();
        for _ in 0..round % 60 {
            let dst = numbers.pick(&[
                "192.0.2.1",
                "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",
                "198.51.100.200",
            ]);
            let label = "x".repeat(usize::try_from(numbers.next() % 60).unwrap());
            let host = format!("{label}.{}.example", numbers.next());
            let mut one = connection(dst, numbers.pick(&[None, Some(host.as_str())]), 0, 0);
            one.start = one.start.plus_micros(numbers.next() % 3_600_000_000);
            one.connect_us = Some(numbers.next());
            one.banner_us = Some(numbers.next());
            one.lifetime_us = Some(numbers.next());
            one.bytes_sent = Some(numbers.next());
            one.bytes_received = Some(numbers.next());
            one.turns = u32::try_from(numbers.next()).ok();
            one.retransmits = u32::try_from(numbers.next()).ok();
            one.transactions = u32::try_from(numbers.next()).ok();
            one.ehlo_us = Some(numbers.next());
            one.tls_handshake_us = Some(numbers.next());
            one.transaction_spans_us = Some(vec![[0, numbers.next()]]);
            one.final_reply_us = Some(vec![numbers.next()]);
            one.transactions_method = Some(numbers.pick(&[
                TransactionsMethod::Replies,
                TransactionsMethod::TlsProbes,
                TransactionsMethod::TlsLengths,
            ]));
            one.banner_code = u16::try_from(numbers.next() % 700).ok();
            one.end_cause = numbers.pick(&CAUSES);
            one.end_during = numbers.pick(&[EndDuring::Idle, EndDuring::Reuse].map(Some));
            one.end_idle_us = Some(numbers.next());
            one.idle_gaps_us = Some(vec![numbers.next()]);
            one.idle_max_survived_us = Some(numbers.next());
            one.keepalive = numbers.pick(&[Some(true), Some(false), None]);
            one.keepalive_idle_s = u32::try_from(numbers.next()).ok();
            one.comm = Some(numbers.pick(&["smtp", "exim", "smtpd", "kumod"]).to_owned());
            all.push(one);
            all.push(failed(dst, 0, numbers.pick(&["ECONNREFUSED", "ENETUNREACH"])));
        }
        let mut report = report(&all, numbers.pick(&GroupBy::ALL), context());
        for destination in &mut report.destinations {
            destination.connections = numbers.next();
            destination.connect_failures = numbers.next();
            destination.transactions = Some(numbers.next());
            destination.unused_connections = Some(numbers.next());
            destination.counted_connections = numbers.next();
            destination.exact_connections = numbers.next();
            destination.died = numbers.next();
            destination.peak_concurrency = numbers.next();
            destination.peak_concurrency_exact = numbers.next().is_multiple_of(2);
            destination.connections_per_minute.peak = numbers.next();
            destination.failures = BTreeMap::from([("E".repeat(200), numbers.next())]);
        }
        assert_printable(&text(&report, 20));
    }
}
