use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{
    connection::{Connection, EndCause, SeenFrom, TransactionsMethod},
    destination::{
        Aggregate, Counted, Fold, GAVE_UP, Group, GroupBy, HOSTS_PER_ADDRESS, OTHER, SteadyFold,
        sample::{any_connection, connection, failed},
    },
};

fn fold<'a>(limit: usize, connections: impl IntoIterator<Item = &'a Connection>) -> Fold {
    let mut fold = Fold::new(limit);
    connections.into_iter().for_each(|connection| fold.add(connection));
    fold
}

fn keys(fold: &Fold, by: GroupBy) -> Vec<String> {
    fold.groups(by).map(|group| group.key).collect()
}

fn named(dst: &str, host: &str) -> Connection {
    Connection { banner_host: Some(host.to_owned()), ..connection(dst, 0, 1) }
}

/// All that can be known of a fold, in a form that can be compared.
fn views(fold: &Fold) -> Vec<String> {
    let groups = GroupBy::ALL.into_iter().flat_map(|by| fold.groups(by));
    groups.chain([fold.total("total")]).map(|group| view(&group)).collect()
}

fn view(group: &Group) -> String {
    let aggregates =
        [Some(&group.all), group.ipv4.as_ref(), group.ipv6.as_ref()].map(|aggregate| {
            aggregate.cloned().map(|mut rest| {
                let times = std::mem::take(&mut rest.timeline);
                let arrivals = std::mem::take(&mut rest.arrivals);
                let peak = (times.peak(), times.opened_per_minute_peak(), times.opened_count());
                (rest, peak, arrivals.missed_reuse(), arrivals.moments(), arrivals.minutes())
            })
        });
    format!("{} {:?} {aggregates:?}", group.key, group.addresses)
}

#[test]
fn a_failed_connect_is_no_session() {
    let mut all = Aggregate::default();
    all.add(&failed("192.0.2.1", 0, 900, "ECONNREFUSED"));
    all.add(&Connection {
        connect_error: None,
        end_cause: EndCause::LocalFin,
        ..failed("192.0.2.1", 0, 900, "")
    });
    assert_eq!((all.connections, all.connect_failures, all.died), (2, 2, 0));
    assert_eq!(all.failures.get("ECONNREFUSED"), Some(&1));
    assert_eq!(all.failures.get(GAVE_UP), Some(&1));
    assert_eq!((all.endings.len(), all.session_endings().len()), (2, 0));
    assert_eq!(all.lifetime_us.count() + all.connect_us.count() + all.turns.count(), 0);
    assert_eq!(all.timeline.peak().connections, 2, "it was open while it was tried");
}

#[test]
fn unknown_ages_and_open_connections_stay_out_of_lifetimes() {
    let mut all = Aggregate::default();
    let gaps = Some(vec![200_000]);
    all.add(&Connection {
        seen_from: SeenFrom::Midlife,
        idle_gaps_us: gaps.clone(),
        ..connection("192.0.2.1", 0, 900)
    });
    all.add(&Connection {
        end_cause: EndCause::Open,
        idle_gaps_us: gaps,
        ..connection("192.0.2.1", 0, 900)
    });
    assert_eq!((all.midlife, all.open, all.connections), (1, 1, 2));
    assert_eq!((all.lifetime_us.count(), all.turns.count()), (0, 0));
    assert_eq!(all.connect_us.count(), 1, "of the open one");
    assert_eq!(all.idle_us.count(), 2);
    assert_eq!(all.timeline.opened_count(), 1);
}

#[test]
fn unknown_sums_are_unknown() {
    let mut all = Aggregate::default();
    all.add(&Connection { bytes_sent: None, ..connection("192.0.2.1", 0, 1) });
    assert_eq!((all.bytes_sent, all.bytes_received), (None, Some(400)));
    all.add(&connection("192.0.2.1", 0, 1));
    assert_eq!(all.bytes_sent, Some(1_000));
}

#[test]
fn names_of_failures_are_bounded() {
    let mut all = Aggregate::default();
    for n in 0..100 {
        all.add(&failed("192.0.2.1", 0, 1, &format!("E{n}")));
        all.add(&Connection { banner_code: Some(200 + n), ..connection("192.0.2.1", 0, 1) });
    }
    assert_eq!((all.failures.len(), all.greeting_codes.len()), (33, 33));
    assert_eq!(all.failures.get("other"), Some(&68));
    assert_eq!(all.greeting_codes.get(&0), Some(&68));
}

#[test]
fn a_failed_connect_belongs_to_the_host_of_its_address() {
    let all = [
        named("192.0.2.1", "MX2.Example.ORG."),
        named("192.0.2.1", "mx1.example.org"),
        failed("192.0.2.1", 0, 1, "ECONNREFUSED"),
        failed("2001:db8::1", 0, 1, "ECONNREFUSED"),
    ];
    let fold = fold(10, &all);
    let groups: Vec<Group> = fold.groups(GroupBy::Host).collect();
    assert_eq!(
        groups.iter().map(|group| group.key.as_str()).collect::<Vec<_>>(),
        ["[IPv6:2001:db8::1]", "mx1.example.org", "mx2.example.org"]
    );
    assert_eq!(groups[1].all.connections, 2, "as often as mx2, but first in the alphabet");
    assert_eq!(keys(&fold, GroupBy::Provider), ["[IPv6:2001:db8::1]", "example.org"]);
}

/// Products and short names would make one destination of servers that have nothing in common.
#[test]
fn a_word_that_is_no_domain_names_no_server() {
    let all = [
        named("192.0.2.1", "product"),
        named("192.0.2.2", "product"),
        named("192.0.2.3", "mail."),
        named("2001:db8::1", "a..b"),
        named("192.0.2.4", "mx.example.org"),
        named("192.0.2.5", "MX.example.org."),
        named("192.0.2.6", "product"),
        named("192.0.2.6", "mx6.example.net"),
        named("192.0.2.7", "[192.0.2.77]"),
    ];
    let hosts = [
        "[192.0.2.1]",
        "[192.0.2.2]",
        "[192.0.2.3]",
        "[192.0.2.77]",
        "[IPv6:2001:db8::1]",
        "mx.example.org",
        "mx6.example.net",
    ];
    let fold = fold(100, &all);
    let mut groups = keys(&fold, GroupBy::Host);
    groups.sort_unstable();
    assert_eq!(groups, hosts);
    assert_eq!(fold.key(GroupBy::Provider, all[1].dst, Some("product")), "[192.0.2.2]");
    assert_eq!(fold.usual_host(all[0].dst), None);
    let mut steady = SteadyFold::new(GroupBy::Host, 100);
    let steadily = |it| steady.add(it, fold.usual_host(it.dst));
    let of_each: Vec<String> = all.iter().map(steadily).collect();
    assert_eq!(&of_each[..2], ["[192.0.2.1]", "[192.0.2.2]"]);
    assert_eq!(of_each[6], "mx6.example.net", "the name that others of that address showed");
}

#[test]
fn families_are_kept_apart_and_together() {
    let all = [
        named("192.0.2.1", "mx.example.org"),
        named("192.0.2.2", "mx.example.org"),
        named("2001:db8::1", "mx.example.org"),
        named("::ffff:192.0.2.1", "mx.example.org"),
    ];
    let group = fold(10, &all).groups(GroupBy::Host).next().unwrap();
    assert_eq!((group.all.connections, group.addresses), (4, Some(3)));
    assert_eq!(group.ipv4.unwrap().connections, 3);
    assert_eq!(group.ipv6.unwrap().connections, 1);
}

#[test]
fn the_worst_destination_comes_first() {
    let died = |dst| Connection { end_cause: EndCause::Timeout, ..connection(dst, 0, 1) };
    let mut all = vec![failed("192.0.2.1", 0, 1, "E"), died("192.0.2.1"), died("192.0.2.2")];
    all.extend((0..9).map(|_| connection("192.0.2.2", 0, 1)));
    all.extend([died("192.0.2.3"), connection("192.0.2.4", 0, 1), connection("192.0.2.5", 0, 1)]);
    all.push(connection("192.0.2.5", 0, 1));
    let expected = ["192.0.2.1", "192.0.2.3", "192.0.2.2", "192.0.2.5", "192.0.2.4"];
    assert_eq!(keys(&fold(10, &all), GroupBy::Address), expected);
}

#[test]
fn what_is_over_the_limit_is_other() {
    let all = [
        connection("192.0.2.1", 0, 1),
        named("192.0.2.2", "a.example"),
        named("2001:db8::1", "b.example"),
    ];
    let fold = fold(1, &all);
    assert_eq!(keys(&fold, GroupBy::Address), ["192.0.2.1", OTHER]);
    let other = fold.groups(GroupBy::Host).last().unwrap();
    assert_eq!((other.all.connections, other.addresses), (2, None));
    assert_eq!((other.ipv4.unwrap().connections, other.ipv6.unwrap().connections), (1, 1));
    assert_eq!(fold.total("total").addresses, None);
}

#[test]
fn a_server_that_keeps_changing_its_name_takes_no_more_memory() {
    let all: Vec<_> = (0..100).map(|n| named("192.0.2.1", &format!("mx{n:03}.example"))).collect();
    let fold = fold(1000, &all);
    let groups: Vec<_> = fold.groups(GroupBy::Host).collect();
    assert_eq!(groups.len(), HOSTS_PER_ADDRESS);
    assert_eq!(groups.iter().map(|group| group.all.connections).sum::<u64>(), 100);
}

/// Those who came first, and a server that shows many names, make room for whom most connections go to.
#[test]
fn what_is_kept_is_the_busiest() {
    let early = (0..40).map(|n| named(&format!("192.0.2.{n}"), &format!("mx{n}.example")));
    let claims = (0..100).map(|n| named("192.0.2.1", &format!("claim{n}.example")));
    let late = (0..12).map(|_| named("198.51.100.1", "late.example"));
    let all: Vec<_> = early.chain(claims).chain(late).collect();
    let fold = fold(40, &all);
    let groups: Vec<Group> = fold.groups(GroupBy::Address).collect();
    assert_eq!(groups.len(), 41);
    assert_eq!((groups[1].key.as_str(), groups[1].all.connections), ("198.51.100.1", 2));
    let hosts = keys(&fold, GroupBy::Host);
    assert!(hosts.contains(&"late.example".into()), "{hosts:?}");
    assert_eq!(groups.iter().map(|group| group.all.connections).sum::<u64>(), 152);
    assert_eq!(fold.usual_host("198.51.100.1".parse().unwrap()), Some("late.example"));
}

/// A count from replies may be inexact, as one from lengths always is.
#[test]
fn messages_by_how_they_were_counted() {
    let carried = |transactions, method, exact| Connection {
        transactions,
        transactions_method: method,
        transactions_exact: exact,
        ..connection("192.0.2.1", 0, 1)
    };
    let replies = Some(TransactionsMethod::Replies);
    let lengths = Some(TransactionsMethod::TlsLengths);
    let all = [
        carried(Some(5), replies, true),
        carried(Some(2), replies, false),
        carried(Some(0), replies, false),
        carried(Some(3), lengths, false),
        carried(None, None, false),
    ];
    let messages = fold(9, &all).total("total").all.messages;
    assert_eq!((messages.counted, messages.exact, messages.unused), (4, 1, 1));
    assert_eq!((messages.transactions, messages.carrying), (10, 3));
    assert_eq!(messages.reuse_ratio(), Some(0.7));
    assert_eq!(messages.per_connection.max(), Some(5));
    let counted = |connections, exact_connections, transactions| Counted {
        connections,
        exact_connections,
        transactions,
    };
    let by_method = [
        (TransactionsMethod::Replies, counted(3, 1, 7)),
        (TransactionsMethod::TlsLengths, counted(1, 0, 3)),
    ];
    assert_eq!(BTreeMap::from(messages.by_method.clone()), by_method.into());
}

proptest! {
    #[test]
    fn order_makes_no_difference(
        (all, shuffled) in prop::collection::vec(any_connection(), 0..60)
            .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        prop_assert_eq!(views(&fold(100, &all)), views(&fold(100, &shuffled)));
    }

    #[test]
    fn merging_is_folding_over_both(
        all in prop::collection::vec((any_connection(), any::<bool>()), 0..60),
    ) {
        let part = |left| fold(100, all.iter().filter(|(_, l)| *l == left).map(|(c, _)| c));
        let both = views(&fold(100, all.iter().map(|(c, _)| c)));
        let (mut forwards, mut backwards) = (part(true), part(false));
        forwards.merge(&part(false));
        backwards.merge(&part(true));
        prop_assert_eq!(&views(&forwards), &both);
        prop_assert_eq!(&views(&backwards), &both);
    }

    #[test]
    fn every_connection_is_in_exactly_one_destination(
        all in prop::collection::vec(any_connection(), 0..60),
        extra in prop::collection::vec(any_connection(), 0..20),
        limit in 0..9_usize,
    ) {
        let mut fold = fold(limit, &all);
        fold.merge(&self::fold(9 - limit, &extra));
        let records = (all.len() + extra.len()) as u64;
        prop_assert_eq!(fold.total("total").all.connections, records);
        for by in GroupBy::ALL {
            let groups: Vec<Group> = fold.groups(by).collect();
            prop_assert_eq!(groups.iter().map(|group| group.all.connections).sum::<u64>(), records);
            let kept = groups.iter().filter(|group| group.key != OTHER).count();
            prop_assert!(kept <= limit);
            for group in groups {
                let families = [&group.ipv4, &group.ipv6].map(|f| f.as_ref().map_or(0, |f| f.connections));
                prop_assert_eq!(families.iter().sum::<u64>(), group.all.connections);
                prop_assert_eq!(group.all.endings.values().sum::<u64>(), group.all.connections);
                prop_assert_eq!(group.all.failures.values().sum::<u64>(), group.all.connect_failures);
            }
        }
    }
}

proptest! {
    /// A connection that is looked up is found where it was counted.
    #[test]
    fn key_of_a_connection_is_that_of_its_group(
        connections in prop::collection::vec(any_connection(), 1..30),
    ) {
        let fold = fold(100, &connections);
        for by in GroupBy::ALL {
            let mut counts = BTreeMap::<String, u64>::new();
            for it in &connections {
                *counts.entry(fold.key(by, it.dst, it.banner_host.as_deref())).or_default() += 1;
            }
            let groups = fold.groups(by).map(|group| (group.key, group.all.connections));
            prop_assert_eq!(counts, groups.collect());
        }
    }
}

#[test]
fn one_group_can_be_asked_for() {
    let all = [connection("192.0.2.1", 0, 1), connection("192.0.2.2", 0, 1)];
    let fold = fold(2, &all);
    let group = fold.groups(GroupBy::Address).named("192.0.2.2").unwrap();
    assert_eq!((group.key.as_str(), group.all.connections), ("192.0.2.2", 1));
    assert!(fold.groups(GroupBy::Address).named("192.0.2.3").is_none());
    assert_eq!(fold.key(GroupBy::Address, "192.0.2.3".parse().unwrap(), None), OTHER);
}

#[test]
fn destinations_that_were_given_up_come_back() {
    let all: Vec<_> =
        (0..100).map(|n| named(&format!("192.0.2.{n}"), &format!("mx{n}.example.net"))).collect();
    let mut fold = fold(100, &all);
    while fold.max_destinations() > Fold::FEWEST {
        fold.keep_fewer();
    }
    fold.add(&all[0]);
    assert_eq!(keys(&fold, GroupBy::Host).len(), Fold::FEWEST + 1);
    assert_eq!(fold.keep_all(), 100);
    for connection in &all {
        fold.add(connection);
    }
    let mut keys = keys(&fold, GroupBy::Host);
    assert_eq!((keys.len(), keys.pop().as_deref()), (101, Some(OTHER)));
    assert!(keys.iter().all(|key| key.starts_with("mx")), "{keys:?}");
    let connections: u64 = fold.groups(GroupBy::Host).map(|group| group.all.connections).sum();
    assert_eq!(connections, 201);
}
