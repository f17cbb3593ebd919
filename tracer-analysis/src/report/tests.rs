use proptest::prelude::*;

use crate::{
    connection::{Connection, EndCause},
    destination::{
        Fold, GroupBy, OTHER,
        sample::{any_connection, connection, failed},
    },
    recording::{Filters, Overhead, Trust},
    report::{Context, Destination, Listed, Report, TOTAL, Unlisted},
    utc::Utc,
};

pub(super) fn context() -> Context {
    Context {
        hosts: vec!["mx1.example.net".to_owned()],
        version: "0.1.0".to_owned(),
        start: Utc::parse("2027-01-15T08:00:00Z").unwrap(),
        end: Utc::parse("2027-01-15T08:02:00Z").unwrap(),
        filters: Some(Filters { dport: vec![25], ..Filters::default() }),
        trust: Trust {
            connections_lost: Some(0),
            overhead: Overhead { user_cpu_us: Some(1_200_000), kernel_cpu_us: None },
            ..Trust::default()
        },
        hdr: true,
    }
}

fn report(by: GroupBy) -> Report {
    let mut fold = Fold::new(2);
    fold.add(&connection("192.0.2.1", 0, 5_000_000));
    fold.add(&failed("192.0.2.1", 1_000_000, 100, "ECONNREFUSED"));
    fold.add(&connection("192.0.2.2", 0, 5_000_000));
    fold.add(&connection("192.0.2.3", 0, 5_000_000));
    Report::new(&fold, by, context())
}

#[test]
fn says_what_it_covers() {
    let report = report(GroupBy::Address);
    assert_eq!(report.host.as_deref(), Some("mx1.example.net"));
    assert!((report.window.duration_s - 120.0).abs() < f64::EPSILON);
    assert_eq!(report.tracer_cpu.user_share, Some(0.01));
    assert_eq!(report.tracer_cpu.kernel_share, None);
    assert_eq!(report.destinations_omitted.limit, 2);
    assert_eq!(report.destinations_omitted.connections, 1);
    let two = Context { hosts: vec!["a".to_owned(), "b".to_owned()], ..context() };
    assert_eq!(Report::new(&Fold::new(1), GroupBy::Host, two).host, None);
}

#[test]
fn destinations_say_what_happened() {
    let report = report(GroupBy::Address);
    let first = &report.destinations[0];
    assert_eq!((first.key.as_str(), first.connections), ("192.0.2.1", 2));
    assert_eq!((first.connect_failures, first.failures["ECONNREFUSED"]), (1, 1));
    assert_eq!((first.peak_concurrency, first.peak_concurrency_exact), (2, true));
    assert_eq!(first.connections_per_minute.peak, 2);
    assert_eq!(first.connections_per_minute.mean, Some(1.0));
    assert_eq!(first.endings[&EndCause::LocalFin], 1);
    assert_eq!(first.greeting_codes[&220], 1);
    assert_eq!(first.families.ipv4.as_ref().unwrap().connections, 2);
    assert_eq!(first.families.ipv6, None);
    assert_eq!(report.totals.connections, 4);
    assert_eq!(report.destinations.last().unwrap().key, OTHER);
}

#[test]
fn a_window_without_length_has_no_rates() {
    let context = Context { end: Utc::from_micros(0), ..context() };
    let report = Report::new(&Fold::new(1), GroupBy::Address, context);
    assert_eq!(report.window.start, report.window.end);
    assert_eq!(report.totals.connections_per_minute.mean, None);
    assert_eq!(report.tracer_cpu.user_share, None);
}

#[test]
fn histograms_are_exported_if_asked_for() {
    let with = report(GroupBy::Address);
    let mut fold = Fold::new(2);
    fold.add(&connection("192.0.2.1", 0, 5_000_000));
    let without = Report::new(&fold, GroupBy::Address, Context { hdr: false, ..context() });
    let connect = |report: &Report| report.destinations[0].histograms.connect_us.clone();
    assert!(connect(&with).hdr.is_some());
    assert_eq!(connect(&without).hdr, None);
    assert_eq!(connect(&without).p50, Some(20_000));
}

#[test]
fn every_distribution_has_its_name() {
    let mut fold = Fold::new(1);
    fold.add(&Connection {
        transactions: Some(1),
        ehlo_us: Some(1),
        starttls_us: Some(1),
        tls_handshake_us: Some(1),
        auth_us: Some(1),
        transaction_spans_us: Some(vec![[1, 2]]),
        final_reply_us: Some(vec![1]),
        ..connection("192.0.2.1", 0, 5_000_000)
    });
    let report = Report::new(&fold, GroupBy::Address, context());
    let json = serde_json::to_value(&report.totals.histograms).unwrap();
    for (name, summary) in json.as_object().unwrap() {
        let named = report.totals.histograms.named().find(|(known, _)| known == name);
        assert_eq!(&serde_json::to_value(named.unwrap().1).unwrap(), summary);
    }
}

#[test]
fn what_is_not_known_is_null() {
    let json = serde_json::to_value(report(GroupBy::Address)).unwrap();
    assert_eq!(json["kind"], "report");
    assert_eq!(json["schema"], 1);
    assert_eq!(json["group_by"], "address");
    let first = &json["destinations"][0];
    for name in ["transactions", "reuse_ratio", "unused_connections", "missed_reuse", "idle_limit"]
    {
        assert!(first.get(name).is_some_and(serde_json::Value::is_null), "{name}");
    }
    let unknown = ["ehlo_us", "starttls_us", "tls_handshake_us", "auth_us", "transaction_us"];
    for name in unknown.into_iter().chain(["final_reply_us", "messages_per_connection"]) {
        assert!(first["histograms"].get(name).is_some_and(serde_json::Value::is_null), "{name}");
    }
    assert_eq!(first["endings"]["connect_error"], 1);
    assert_eq!(first["greeting_codes"]["220"], 1);
    assert_eq!(json["verdicts"], serde_json::json!([]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))] // making histograms is slow without optimisation

    #[test]
    fn json_round_trip(all in prop::collection::vec(any_connection(), 0..40), limit in 0..9_usize) {
        let mut fold = Fold::new(limit);
        for connection in &all {
            fold.add(connection);
        }
        for by in GroupBy::ALL {
            let report = Report::new(&fold, by, context());
            let text = serde_json::to_string(&report).unwrap();
            let read = serde_json::from_str::<Report>(&text).unwrap();
            prop_assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
    }

    /// What is not listed is counted, and changes nothing else.
    #[test]
    fn a_short_report_begins_like_the_long_one(
        all in prop::collection::vec(any_connection(), 0..60),
        destinations in 0..6_usize,
        verdicts in 0..4_usize,
    ) {
        let mut fold = Fold::new(5);
        for connection in &all {
            fold.add(connection);
        }
        let most = Listed { destinations, verdicts };
        let mut short = Report::listing(most, &fold, GroupBy::Address, context());
        let long = Report::new(&fold, GroupBy::Address, context());
        prop_assert_eq!(short.destinations_known(), long.destinations_known());
        let named = long.destinations.iter().filter(|one| one.key != OTHER).count();
        prop_assert_eq!(long.destinations_known(), named as u64);
        let unlisted = Unlisted {
            destinations: (long.destinations.len() - short.destinations.len()) as u64,
            verdicts: (long.verdicts.len() - short.verdicts.len()) as u64,
        };
        prop_assert_eq!(short.unlisted, unlisted);
        prop_assert_eq!(short.destinations.len(), destinations.min(long.destinations.len()));
        prop_assert_eq!(short.verdicts.len(), verdicts.min(long.verdicts.len()));
        short.destinations.extend_from_slice(&long.destinations[short.destinations.len()..]);
        short.verdicts.extend_from_slice(&long.verdicts[short.verdicts.len()..]);
        short.unlisted = Unlisted::default();
        prop_assert_eq!(short, long);
    }
}

#[test]
fn one_destination_alone_says_what_the_report_says() {
    let mut fold = Fold::new(10);
    fold.add(&connection("192.0.2.1", 0, 5_000_000));
    fold.add(&failed("192.0.2.1", 1_000_000, 100, "ECONNREFUSED"));
    fold.add(&connection("192.0.2.2", 0, 5_000_000));
    let Context { start, end, .. } = context();
    let report = Report::new(&fold, GroupBy::Address, context());
    for destination in &report.destinations {
        let alone = Destination::of(&fold, GroupBy::Address, &destination.key, start, end);
        assert_eq!(alone.as_ref(), Some(destination));
    }
    assert_eq!(Destination::of(&fold, GroupBy::Address, "192.0.2.9", start, end), None);
    let total = Destination::of(&fold, GroupBy::Address, TOTAL, start, end).unwrap();
    assert_eq!(total.connections, 3);
}
