//! What is written, byte by byte, and what is documented.

use std::{collections::BTreeMap, fmt::Write as _};

use tracer_analysis::{
    connection::Connection,
    destination::{GroupBy, SteadyFold},
    recording::{HookStatus, Line, Trust},
    utc::Utc,
};

use super::{About, Dialect, Exposition, Kind, Own, descriptions};

/// A connection as a recording tells it; `changes` to an ordinary one.
fn connection(changes: &[(&str, serde_json::Value)]) -> Connection {
    let mut json = serde_json::json!({
        "kind": "connection", "schema": 1, "id": "1", "host": "mx1", "start": "2026-11-22T00:00:00Z",
        "seen_from": "connect", "family": "ipv4", "src": "192.0.2.1", "dst": "192.0.2.2", "dport": 25,
        "connect_us": 5_000, "banner_us": 30_000, "banner_code": 220, "lifetime_us": 1_000_000,
        "transactions": 2, "transactions_method": "replies", "transactions_exact": true,
        "bytes_sent": 700, "end_cause": "local_fin",
    });
    for (field, value) in changes {
        json[field] = value.clone();
    }
    match Line::parse(&json.to_string()).unwrap() {
        Line::Connection(connection) => *connection,
        other => panic!("{other:?}"),
    }
}

fn exposition(fold: &SteadyFold, trust: &Trust) -> Exposition {
    let hosts = ["mx1".to_owned()];
    let open = BTreeMap::from([("192.0.2.2".to_owned(), 3)]);
    Exposition::new(
        fold,
        &About {
            version: "1.2.3",
            hosts: &hosts,
            group_by: GroupBy::Host,
            start: Utc::from_micros(0),
            duration_s: 60.0,
            trust,
            open: Some(&open),
            named: fold.named(),
            replaced: fold.replaced(),
            limit: fold.limit(),
            own: Own::default(),
        },
    )
}

fn lines<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let wanted = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    text.lines().filter(wanted).collect()
}

#[test]
fn names_from_the_network_are_escaped() {
    let mut fold = SteadyFold::new(GroupBy::Host, 10);
    let hostile = "a\"} 1\n# EOF\nx{\\b\u{7}ü.example";
    fold.add(&connection(&[("banner_host", hostile.into())]), None);
    let text = exposition(&fold, &Trust::default()).text(Dialect::OpenMetrics);
    let found = lines(&text, "smtptrace_died_total");
    let escaped = r#"a\"} 1\\x0a# eof\\x0ax{\\\\b\\x07\\u{fc}.example"#;
    assert_eq!(found, [format!("smtptrace_died_total{{destination=\"{escaped}\"}} 0")]);
    assert_eq!(text.matches("\n# EOF").count(), 1);
    assert!(text.ends_with("\n# EOF\n"));
}

#[test]
fn both_forms() {
    let mut fold = SteadyFold::new(GroupBy::Address, 10);
    for _ in 0..3 {
        fold.add(&connection(&[]), None);
    }
    let hook = HookStatus { events_lost: 7, ..HookStatus::attached("tcp_probe", "turns") };
    let trust = Trust { events_lost: 7, hooks: vec![hook], ..Trust::default() };
    let exposition = exposition(&fold, &trust);
    let text = exposition.text(Dialect::OpenMetrics);
    let part = |name: &str, from: &str| -> String {
        let lines = from.lines().filter(|line| line.contains(name));
        lines.fold(String::new(), |mut all, line| {
            let _ = writeln!(all, "{line}");
            all
        })
    };
    assert_eq!(
        part("smtptrace_sent_bytes", &text),
        "# HELP smtptrace_sent_bytes Payload bytes sent, retransmissions included.\n\
         # TYPE smtptrace_sent_bytes counter\n\
         # UNIT smtptrace_sent_bytes bytes\n\
         smtptrace_sent_bytes_total{destination=\"192.0.2.2\"} 2100\n"
    );
    assert_eq!(
        lines(&text, "smtptrace_events_lost_total"),
        ["smtptrace_events_lost_total{hook=\"tcp_probe\"} 7"]
    );
    assert_eq!(
        lines(&text, "smtptrace_connections_open"),
        ["smtptrace_connections_open{destination=\"192.0.2.2\"} 3"]
    );
    let connects = lines(&text, "smtptrace_connect_duration_seconds_bucket");
    let edge = "smtptrace_connect_duration_seconds_bucket{destination=\"192.0.2.2\",le=";
    assert_eq!(connects[0], format!("{edge}\"0.005\"}} 3"));
    assert_eq!(connects[7], format!("{edge}\"1.0\"}} 3"));
    assert_eq!(connects.last(), Some(&format!("{edge}\"+Inf\"}} 3").as_str()));
    assert_eq!(
        lines(&text, "smtptrace_connect_duration_seconds_sum"),
        ["smtptrace_connect_duration_seconds_sum{destination=\"192.0.2.2\"} 0.015"]
    );
    let plain = exposition.text(Dialect::Prometheus);
    assert!(plain.contains("# TYPE smtptrace_sent_bytes_total counter\n"), "{plain}");
    assert!(plain.contains("# TYPE smtptrace_build_info gauge\n"), "{plain}");
    assert!(!plain.contains("# UNIT") && !plain.contains("# EOF"), "{plain}");
    let samples = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(samples(&text), samples(&plain));
}

#[test]
fn no_destination_has_more_series_than_described() {
    let mut fold = SteadyFold::new(GroupBy::Address, 1);
    for code in 0..600 {
        let errno = format!("E{code}");
        let failed = [
            ("connect_us", serde_json::Value::Null),
            ("connect_error", errno.into()),
            ("end_cause", "connect_error".into()),
        ];
        let ipv6 = [("family", "ipv6".into()), ("banner_code", code.into())];
        fold.add(&connection(&failed), None);
        fold.add(&connection(&[("banner_code", code.into())]), None);
        fold.add(&connection(&ipv6), None);
        fold.add(&connection(&[&failed[..], &ipv6[..1]].concat()), None);
    }
    for family in exposition(&fold, &Trust::default()).families {
        let of = family
            .samples
            .iter()
            .filter(|it| it.labels.first().is_some_and(|it| it.0 == "destination"));
        let (name, most) = (family.description.name, family.description.series);
        assert!(of.clone().count() <= most * 2, "{name}: {} of {most}", of.count()); // total has verdicts, too
    }
}

/// The rows of the tables in docs/metrics.md: name, type, unit, meaning.
fn documented() -> Vec<[String; 4]> {
    let rows = include_str!("../../../../docs/metrics.md").lines();
    let rows = rows.filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        [cells[0].trim_end_matches('`'), cells[1], cells[2], cells[4]].map(str::to_owned)
    })
    .collect()
}

#[test]
fn the_documentation_lists_each_family_as_it_is() {
    let real: Vec<[String; 4]> = descriptions()
        .map(|about| {
            let suffix = match about.kind {
                Kind::Counter => "_total",
                Kind::Info => "_info",
                Kind::Gauge | Kind::Histogram => "",
            };
            let name = format!("{}{suffix}", about.name);
            assert!(
                about.name.ends_with(about.unit) && !about.help.contains(['\\', '\n', '"', '|'])
            );
            [name, about.kind.as_str().into(), about.unit.into(), about.help.into()]
        })
        .collect();
    let documented = documented();
    for family in &real {
        assert!(documented.contains(family), "docs/metrics.md lacks {family:?}");
    }
    assert_eq!(documented.len(), real.len());
}
