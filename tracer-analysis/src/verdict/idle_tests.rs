use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    Advice, Code, Confidence, Evidence, IdleDoubt, Severity, Subject, Verdict, is_judged_by_family,
    sort, verdicts,
};
use crate::{
    connection::{Connection, EndCause, EndDuring, EndSuspect},
    destination::{Fold, GroupBy, sample::connection},
    mta::Mta,
    recording::Trust,
};

const SECOND: u64 = 1_000_000;
const V4: &str = "192.0.2.1";
const V6: &str = "2001:db8::1";

fn postfix(dst: &str) -> Connection {
    Connection {
        comm: Some("smtp".to_owned()),
        keepalive: Some(true),
        keepalive_idle_s: Some(7_200),
        ..connection(dst, 0, 1)
    }
}

/// Idled for `gap` seconds, and was answered.
fn alive(dst: &str, gap: u64) -> Connection {
    let gap = gap * SECOND;
    Connection {
        idle_gaps_us: Some(vec![gap]),
        idle_max_survived_us: Some(gap),
        end_during: Some(EndDuring::Dialogue),
        ..postfix(dst)
    }
}

fn ended(dst: &str, gap: u64, cause: EndCause, during: EndDuring) -> Connection {
    let gap = gap * SECOND;
    let reuse = during == EndDuring::Reuse;
    Connection {
        idle_gaps_us: reuse.then(|| vec![gap]),
        end_unanswered_us: reuse.then_some(20 * SECOND),
        end_cause: cause,
        end_during: Some(during),
        end_idle_us: Some(gap),
        ..postfix(dst)
    }
}

fn silent(dst: &str, gap: u64) -> Connection {
    let suspect = Some(EndSuspect::Middlebox);
    Connection { end_suspect: suspect, ..ended(dst, gap, EndCause::Unanswered, EndDuring::Reuse) }
}

/// All verdicts on idling, of destinations and the host.
fn judged(connections: &[Connection]) -> Vec<Verdict> {
    let mut fold = Fold::new(100);
    for connection in connections {
        fold.add(connection);
    }
    let trust = Trust { connections_lost: Some(0), ..Trust::default() };
    let on = |group, is_total| {
        let (group, trust, duration_s) = (&group, &trust, 600.0);
        verdicts(&Subject { group, is_total, duration_s, trust, strictest_us: None })
    };
    let mut all = on(fold.total("total"), true);
    all.extend(fold.groups(GroupBy::Host).flat_map(|group| on(group, false)));
    all.retain(|it| CODES.contains(&it.code));
    sort(&mut all, "total");
    all
}

const CODES: [Code; 6] = [
    Code::IdleKilledByMiddlebox,
    Code::IdleClosedByServer,
    Code::IdleLimitUnknown,
    Code::IdleSurvives,
    Code::DeadOnReuse,
    Code::KeepaliveTooSlow,
];

fn codes(all: &[Verdict]) -> Vec<Code> {
    all.iter().map(|it| it.code).collect()
}

fn nat_gateway() -> Vec<Connection> {
    let mut all: Vec<_> = (0..40).map(|n| alive(V4, 10 + n * 7)).collect();
    all.extend((0..5).map(|n| silent(V4, 352 + n * 20)));
    all
}

#[test]
fn a_box_that_forgets() {
    let all = judged(&nat_gateway());
    let mut found = codes(&all);
    found.sort_unstable();
    assert_eq!(found, [Code::DeadOnReuse, Code::IdleKilledByMiddlebox, Code::KeepaliveTooSlow]);
    let [killed] = &all[..1] else { panic!() };
    assert_eq!((killed.severity, killed.confidence), (Severity::Warning, Confidence::High));
    assert_eq!(
        killed.summary,
        "Idle sessions: alive after 283 s (40 gaps), dead after 352 s (5 of 5): no answer any \
         more; suspect: a box on the path. Known timers in between: 350 s: AWS NAT gateway, AWS \
         Network Load Balancer, AWS Network Firewall, EC2 security groups on Nitro v6."
    );
    let evidence = |name: &str| killed.evidence[name].clone();
    assert_eq!(evidence("survived_s"), Evidence::Number(283.0));
    assert_eq!(evidence("died_s"), Evidence::Number(352.0));
    assert_eq!(evidence("manner"), Evidence::Text("silent".to_owned()));
    assert_eq!(evidence("died"), Evidence::Count(5));
    let settings: Vec<_> = killed.advice.iter().map(|it| (it.mta, it.text.as_str())).collect();
    assert!(
        matches!(settings[..], [(Some(Mta::Postfix), postfix)]
            if postfix.contains("smtp_connection_cache_time_limit")
                && postfix.contains("connection_cache_ttl_limit")
                && postfix.contains("at most 283s")),
        "{settings:?}"
    );
}

#[test]
fn dead_sessions_and_what_they_cost() {
    let all = judged(&nat_gateway());
    let dead = all.iter().find(|it| it.code == Code::DeadOnReuse).unwrap();
    assert_eq!(dead.evidence["dead"], Evidence::Count(5));
    assert_eq!(dead.evidence["cost_seconds"], Evidence::Number(100.0));
    assert!(dead.summary.starts_with("5 of 45 times"), "{}", dead.summary);
    let [Advice { mta: Some(Mta::Postfix), text, .. }] = &dead.advice[..] else {
        panic!("{dead:?}")
    };
    assert!(text.contains("connection_cache_ttl_limit") && text.contains("at most 283s"), "{text}");
}

#[test]
fn where_no_limit_is_sure_advice_is_on_what_a_dead_session_costs() {
    let mut all: Vec<_> = (1..30).map(|n| alive(V4, n)).collect();
    all.push(silent(V4, 60));
    let comms = [
        ("smtp", "smtp_rset_timeout (20s)"),
        ("exim4", "command_timeout"),
        ("smtpd", "session-keepalive"),
        ("sendmail", "confTO_RSET"),
        ("kumod", "rset_timeout (5s)"),
    ];
    for (comm, setting) in comms {
        for connection in &mut all {
            connection.comm = Some(comm.to_owned());
        }
        let found = judged(&all);
        let dead = found.iter().find(|it| it.code == Code::DeadOnReuse).unwrap();
        let [cannot, bound] = &dead.advice[..] else { panic!("{dead:?}") };
        assert!(cannot.text.contains("more sessions used again after gaps that long"), "{dead:?}");
        assert_eq!(bound.mta, Mta::of(comm));
        assert!(bound.text.contains(setting), "{comm}: {}", bound.text);
        assert!(!bound.text.contains("cache_time_limit"), "no limit is set on a hint");
    }
}

#[test]
fn keepalive_is_held_against_the_limit() {
    let all = judged(&nat_gateway());
    let slow = all.iter().find(|it| it.code == Code::KeepaliveTooSlow).unwrap();
    assert!(slow.summary.contains("after 7200 s"), "{}", slow.summary);
    assert_eq!(slow.evidence["ipv4_on"], Evidence::Count(45));
    assert!(slow.advice[0].text.contains("net.ipv4.tcp_keepalive_time=283 "), "{slow:?}");

    let soon = |of: Connection| Connection { keepalive_idle_s: Some(60), ..of };
    let all: Vec<_> = nat_gateway().into_iter().map(soon).collect();
    assert!(!codes(&judged(&all)).contains(&Code::KeepaliveTooSlow));
    let off = |of: Connection| Connection { keepalive: Some(false), keepalive_idle_s: None, ..of };
    let all = judged(&nat_gateway().into_iter().map(off).collect::<Vec<_>>());
    assert!(!codes(&all).contains(&Code::KeepaliveTooSlow));
    let probes = |it: &Advice| it.text.contains("tcp_keepalive_time");
    assert!(!all.iter().flat_map(|it| &it.advice).any(probes), "probes need keepalive");
}

#[test]
fn families_with_different_limits_are_told_apart() {
    let server = |mut of: Connection| {
        of.banner_host = Some("mx.example.org".to_owned());
        of
    };
    let mut all = nat_gateway();
    all.extend((0..40).map(|n| alive(V6, 10 + n * 15)));
    let all = judged(&all.into_iter().map(server).collect::<Vec<_>>());
    let of_host = all.iter().find(|it| it.destination == "mx.example.org").unwrap();
    assert_eq!(of_host.code, Code::IdleKilledByMiddlebox);
    assert!(of_host.summary.starts_with("Idle sessions over IPv4: alive"), "{}", of_host.summary);
    assert_eq!(of_host.evidence["family"], Evidence::Text("IPv4".to_owned()));
}

#[test]
fn resets_by_the_server_are_its_own() {
    let mut all: Vec<_> = (1..20).map(|n| alive(V4, n)).collect();
    let suspect = Some(EndSuspect::Peer);
    all.extend((0..5).map(|n| Connection {
        end_suspect: suspect,
        ..ended(V4, 60 + n, EndCause::RstReceived, EndDuring::Reuse)
    }));
    let all = judged(&all);
    assert!(codes(&all).contains(&Code::IdleClosedByServer));
    assert!(!codes(&all).contains(&Code::IdleKilledByMiddlebox));
}

#[test]
fn a_server_that_times_out() {
    let said_421: BTreeMap<u16, u32> = [(220, 1), (421, 1)].into();
    let fin = |replies: Option<&BTreeMap<u16, u32>>| Connection {
        replies: replies.cloned(),
        ..ended(V4, 300, EndCause::PeerFin, EndDuring::Idle)
    };
    let all = judged(&[fin(Some(&said_421)), fin(Some(&said_421)), fin(None)]);
    assert_eq!(codes(&all), [Code::IdleClosedByServer, Code::IdleSurvives]);
    let [closed, _] = &all[..] else { panic!() };
    assert_eq!((closed.severity, closed.confidence), (Severity::Info, Confidence::High));
    assert_eq!(
        closed.summary,
        "The server closes sessions that idle for about 300 s (3 sessions, 2 with a 421)."
    );
    assert!(closed.advice[0].text.contains("at most 299s"), "{:?}", closed.advice);
    assert_eq!(codes(&judged(&[fin(None)])), [Code::IdleSurvives], "one FIN is no timer");
}

#[test]
fn short_gaps_tell_nothing() {
    let closed = ended(V4, 2, EndCause::LocalFin, EndDuring::Idle);
    let all = judged(&[alive(V4, 1), closed]);
    assert_eq!(codes(&all), [Code::IdleLimitUnknown]);
    assert_eq!(
        all[0].summary,
        "Sessions idle for at most 2.0 s here (2 gaps); no known middlebox timer is that short."
    );
    assert_eq!((all[0].severity, all[0].confidence), (Severity::Info, Confidence::Low));
    assert_eq!(all[0].evidence["longest_gap_s"], Evidence::Number(2.0));
    assert_eq!(all[0].destination, "total");
    assert_eq!(all[0].evidence["needed"], Evidence::Unknown(()));
    assert_eq!(all[0].advice[0].text, "Nothing has to be done.");
    assert_eq!(judged(&[connection(V4, 0, 1)]), [], "no gap, nothing to say");
}

#[test]
fn deaths_that_no_limit_explains() {
    let mut all: Vec<_> = (0..200).map(|n| alive(V4, 1 + n % 60)).collect();
    all.extend([silent(V4, 2), silent(V4, 30)]);
    let all = judged(&all);
    assert_eq!(codes(&all), [Code::IdleLimitUnknown, Code::DeadOnReuse]);
    let said = "Cannot tell: 2 sessions died idle, but others survived gaps as long;";
    assert!(all[0].summary.starts_with(said), "{}", all[0].summary);
}

#[test]
fn a_path_that_kills_busy_sessions_too_is_no_sure_limit() {
    let mut all = nat_gateway();
    all.extend((0..5).map(|_| ended(V4, 0, EndCause::Timeout, EndDuring::Dialogue)));
    let all = judged(&all);
    let killed = all.iter().find(|it| it.code == Code::IdleKilledByMiddlebox).unwrap();
    assert_eq!((killed.severity, killed.confidence), (Severity::Info, Confidence::Low));
}

#[test]
fn one_session_that_fell_silent_is_no_limit() {
    let mut all: Vec<_> = (1..30).map(|n| alive(V4, n)).collect();
    all.push(silent(V4, 60));
    let found = judged(&all);
    assert_eq!(codes(&found), [Code::IdleLimitUnknown, Code::DeadOnReuse]);
    let said = "Cannot tell: 1 session died idle, too few to be sure of a limit; longest gap 60";
    assert!(found[0].summary.starts_with(said), "{}", found[0].summary);
    // A reset that the server did not send is proof of a box, whatever the number.
    let reset = ended(V4, 60, EndCause::RstReceived, EndDuring::Idle);
    all.pop();
    all.push(Connection { end_suspect: Some(EndSuspect::Middlebox), ..reset });
    let all = judged(&all);
    assert_eq!(codes(&all), [Code::IdleLimitUnknown, Code::IdleKilledByMiddlebox]);
    assert_eq!((all[1].severity, all[1].confidence), (Severity::Info, Confidence::Low));
    let [Advice { mta: None, text, .. }] = &all[1].advice[..] else { panic!("{all:?}") };
    assert!(text.starts_with("To be sure: a longer trace, with more sessions used"), "{text}");
}

#[test]
fn the_host_is_judged_where_several_servers_are_behind_one_box() {
    let mut all = Vec::new();
    for n in 0..5 {
        let dst = format!("192.0.2.{n}");
        all.extend((1..9).map(|gap| alive(&dst, gap * 10)));
        all.extend([silent(&dst, 120 + n)]);
    }
    let all = judged(&all);
    let host: Vec<_> = all.iter().filter(|it| it.destination == "total").collect();
    let [killed] = host[..] else { panic!("{all:?}") };
    assert_eq!(killed.code, Code::IdleKilledByMiddlebox);
    assert_eq!((killed.severity, killed.confidence), (Severity::Warning, Confidence::High));
}

#[test]
fn every_mail_server_gets_its_own_setting() {
    let mut all = nat_gateway();
    let comms = ["smtp", "exim4", "smtpd", "sendmail", "kumod"];
    for (n, connection) in all.iter_mut().enumerate() {
        connection.comm = Some(comms[n % comms.len()].to_owned());
    }
    let all = judged(&all);
    let killed = all.iter().find(|it| it.code == Code::IdleKilledByMiddlebox).unwrap();
    for setting in [
        "connection_cache_ttl_limit",
        "connection_max_messages",
        "mta limit session-keepalive 283",
        "confMCI_CACHE_TIMEOUT",
        "idle_timeout = '283s'",
    ] {
        assert!(killed.advice.iter().any(|it| it.text.contains(setting)), "{setting}");
    }
}

/// What the report says of one destination: why it cannot be told, and of which family.
fn doubts(all: &[Connection]) -> (Option<IdleDoubt>, bool, [Option<IdleDoubt>; 2]) {
    let mut fold = Fold::new(100);
    for connection in all {
        fold.add(connection);
    }
    let group = fold.groups(GroupBy::Provider).next().unwrap();
    let family = |of: &Option<crate::destination::Aggregate>| {
        IdleDoubt::of_gaps(of.as_ref()?.idle.as_deref()?)
    };
    let families = [family(&group.ipv4), family(&group.ipv6)];
    (IdleDoubt::of(&group), is_judged_by_family(&group), families)
}

#[test]
fn each_destination_says_why_it_cannot_tell() {
    let one = |all: &[Connection]| doubts(all).0;
    let fin = |gap| ended(V4, gap, EndCause::PeerFin, EndDuring::Idle);
    let held = |gap| ended(V4, gap, EndCause::LocalFin, EndDuring::Idle);
    assert_eq!(one(&[alive(V4, 2)]), Some(IdleDoubt::GapsTooShort));
    assert_eq!(one(&[alive(V4, 2), held(239)]), Some(IdleDoubt::GapsTooShort));
    assert_eq!(one(&[alive(V4, 2), held(241)]), Some(IdleDoubt::NotTested));
    assert_eq!(one(&[fin(5), fin(5), alive(V4, 2)]), Some(IdleDoubt::ServerClosesFirst));
    assert_eq!(one(&[fin(5), fin(5), alive(V4, 9)]), Some(IdleDoubt::GapsTooShort));
    assert_eq!(one(&[alive(V4, 240)]), None, "it survives");
    assert_eq!(one(&[fin(300), fin(300)]), None, "it was alive when the server closed");
    assert_eq!(one(&nat_gateway()), None, "the limit is known");
    assert_eq!(one(&[alive(V4, 2), silent(V4, 9)]), Some(IdleDoubt::TooFewDied));
    let mixed: Vec<_> = (0..200).map(|n| alive(V4, 1 + n % 60)).collect();
    let mixed: Vec<_> = mixed.into_iter().chain([silent(V4, 2), silent(V4, 30)]).collect();
    assert_eq!(one(&mixed), Some(IdleDoubt::NoPattern));
    let mut busy = nat_gateway();
    busy.extend((0..5).map(|_| ended(V4, 0, EndCause::Timeout, EndDuring::Dialogue)));
    assert_eq!(one(&busy), Some(IdleDoubt::DieInUse));
    assert_eq!(one(&[connection(V4, 0, 1)]), None, "no gap, nothing to say");
}

#[test]
fn families_apart_are_doubted_apart() {
    let named = |mut of: Connection| {
        of.banner_host = Some("mx.example.org".to_owned());
        of
    };
    let of = |v6: Vec<Connection>| -> Vec<_> {
        let v4 = (0..40).map(|n| alive(V4, 10 + n)).chain((0..5).map(|n| silent(V4, 60 + n)));
        v4.chain(v6).map(named).collect()
    };
    let too_short = Some(IdleDoubt::GapsTooShort);
    assert_eq!(doubts(&of(vec![alive(V6, 5)])), (None, false, [None, too_short]), "one limit fits");
    assert_eq!(doubts(&of(vec![alive(V6, 90)])), (None, true, [None, too_short]));
    assert_eq!(doubts(&of(vec![alive(V6, 900)])), (None, true, [None, None]));
}

fn any_session() -> impl Strategy<Value = Connection> {
    (0..4_u8, prop::bool::ANY, 1..700_u64).prop_map(|(kind, v6, gap)| {
        let dst = if v6 { V6 } else { V4 };
        match kind {
            0 | 1 => alive(dst, gap),
            2 => silent(dst, gap),
            _ => ended(dst, gap, EndCause::PeerFin, EndDuring::Idle),
        }
    })
}

proptest! {
    #[test]
    fn the_order_of_connections_makes_no_difference(
        (all, shuffled) in prop::collection::vec(any_session(), 0..40)
            .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        prop_assert_eq!(judged(&all), judged(&shuffled));
    }

    #[test]
    fn nobody_is_accused_where_nothing_died(gaps in prop::collection::vec(1..900_u64, 1..40)) {
        let all: Vec<_> = gaps.iter().map(|&gap| alive(V4, gap)).collect();
        let found = codes(&judged(&all));
        prop_assert!(found == [Code::IdleSurvives] || found == [Code::IdleLimitUnknown], "{:?}", found);
    }
}
