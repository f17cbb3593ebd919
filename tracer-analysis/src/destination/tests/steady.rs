//! Counters that are read while connections come in.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{Fold, GroupBy, OTHER, SteadyFold, sample};

/// All counts, by destination and name.
fn counts(fold: &SteadyFold) -> BTreeMap<(String, String), u64> {
    let mut counts = BTreeMap::new();
    for one in fold.destinations() {
        let all = &one.group.all;
        let mut put = |name: String, n: u64| counts.insert((one.group.key.clone(), name), n);
        put("connections".into(), all.connections);
        put("failures".into(), all.connect_failures);
        put("died".into(), all.died);
        put("messages".into(), all.messages.transactions);
        for (name, of) in [("connect", &all.connect_us), ("idle", &all.idle_us)] {
            put(format!("{name} sum"), of.sum());
            for edge in [0, 1_000, 5_000, 20_000, 1_000_000, 9_000_000, u64::MAX] {
                put(format!("{name} {edge}"), of.at_most(edge));
            }
        }
        for (key, n) in &one.tallies.endings {
            put(format!("{key:?}"), *n);
        }
        for (key, carried) in &one.tallies.carried {
            put(format!("{key:?}"), carried.messages);
        }
    }
    counts
}

/// The same of all destinations together.
fn sums(counts: &BTreeMap<(String, String), u64>) -> BTreeMap<&str, u64> {
    let mut sums = BTreeMap::new();
    for ((_, name), n) in counts {
        *sums.entry(name.as_str()).or_default() += n;
    }
    sums
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever comes in whatever order, in any grouping and with any bound: no count becomes smaller while its
    /// destination is named, nor any sum over all, and nothing is lost.
    #[test]
    fn no_count_becomes_smaller(
        connections in prop::collection::vec(sample::any_connection(), 1..300),
        limit in 0..8_usize,
        by in prop::sample::select(&GroupBy::ALL[..]),
    ) {
        let (mut fold, mut steady) = (Fold::new(8), SteadyFold::new(by, limit));
        let (mut before, mut replaced) = (BTreeMap::<(String, String), u64>::new(), 0);
        for (added, connection) in connections.iter().enumerate() {
            fold.add(connection);
            let host = fold.usual_host(connection.dst).map(str::to_owned);
            let key = steady.add(connection, host.as_deref());
            let now = if added % 16 == 0 { counts(&steady) } else { continue };
            prop_assert!(now.contains_key(&(key, "connections".into())));
            for (name, n) in &before {
                let is_replaced = name.0 != OTHER && steady.replaced() > replaced;
                let smaller = now.get(name).is_none_or(|now| now < n);
                prop_assert!(is_replaced || !smaller, "{name:?} {n} {now:?}");
            }
            let (sums_before, sums_now) = (sums(&before), sums(&now));
            for (name, n) in &sums_before {
                prop_assert!(sums_now.get(name).is_some_and(|now| now >= n), "{name} {n}");
            }
            (before, replaced) = (now, steady.replaced());
        }
        let sum: u64 = steady.destinations().map(|one| one.group.all.connections).sum();
        prop_assert_eq!(sum, connections.len() as u64);
        prop_assert_eq!(steady.total("total").all.connections, sum);
        prop_assert!(steady.named() <= limit);
    }
}

#[test]
fn a_destination_beyond_the_bound_stays_with_the_others() {
    let mut steady = SteadyFold::new(GroupBy::Address, 1);
    let first = sample::connection("192.0.2.1", 0, 1_000);
    let second = sample::connection("192.0.2.2", 0, 1_000);
    assert_eq!(steady.add(&first, None), "192.0.2.1");
    for _ in 0..3 {
        assert_eq!(steady.add(&second, None), OTHER);
    }
    assert_eq!(steady.add(&first, None), "192.0.2.1");
    let keys: Vec<(String, u64)> = steady
        .destinations()
        .map(|one| (one.group.key.clone(), one.group.all.connections))
        .collect();
    assert_eq!(keys, [("192.0.2.1".to_owned(), 2), (OTHER.to_owned(), 3)]);
}

#[test]
fn a_server_that_gets_a_name_takes_nothing_back() {
    let (mut fold, mut steady) = (Fold::new(8), SteadyFold::new(GroupBy::Provider, 8));
    let mut add = |connection: &crate::connection::Connection| {
        fold.add(connection);
        let host = fold.usual_host(connection.dst).map(str::to_owned);
        steady.add(connection, host.as_deref())
    };
    let refused = sample::failed("192.0.2.1", 0, 1_000, "ECONNREFUSED");
    let mut greeted = sample::connection("192.0.2.1", 0, 1_000);
    greeted.banner_host = Some("MX1.Example.co.uk.".into());
    assert_eq!(add(&refused), "[192.0.2.1]");
    assert_eq!(add(&greeted), "example.co.uk");
    assert_eq!(add(&refused), "example.co.uk", "now its name is known");
    let counted = |key: &str| {
        let of = steady.destinations().find(|one| one.group.key == key);
        of.map(|one| one.group.all.connections)
    };
    assert_eq!((counted("[192.0.2.1]"), counted("example.co.uk")), (Some(1), Some(2)));
}

/// A server that greets with a hundred names, and ninety-nine that were there first.
#[test]
fn named_destinations_cannot_be_taken_for_good() {
    let mut steady = SteadyFold::new(GroupBy::Host, 100);
    let named = |dst: &str, host: String| crate::connection::Connection {
        banner_host: Some(host),
        ..sample::connection(dst, 0, 1_000)
    };
    let claims = (0..200).map(|n| named("192.0.2.66", format!("claim{n}.example")));
    claims.for_each(|it| drop(steady.add(&it, None)));
    assert_eq!(steady.named(), 13, "an eighth");
    for n in 0..99 {
        steady.add(&named(&format!("198.51.100.{n}"), format!("early{n}.example")), None);
    }
    assert_eq!(steady.named(), 100);
    let late = named("203.0.113.1", "late.example".into());
    let keys: Vec<String> = (0..12).map(|_| steady.add(&late, None)).collect();
    assert_eq!((keys[0].as_str(), keys[11].as_str()), (OTHER, "late.example"));
    assert_eq!((steady.named(), steady.replaced()), (100, 1));
    assert_eq!(steady.total("total").all.connections, 200 + 99 + 12);
}
