use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::context;
use crate::{
    connection::Connection,
    destination::{
        Fold, GroupBy, OTHER, SENDERS, SenderKind,
        sample::{any_connection, connection, failed},
    },
    report::{Report, Sender},
};

const ID: &str = "6df79a0a53f3a1ec1d7a0d0a6d8f3b2c9f5e4d3c2b1a09f8e7d6c5b4a3928170";

fn fold(all: &[Connection]) -> Fold {
    let mut fold = Fold::new(10);
    for connection in all {
        fold.add(connection);
    }
    fold
}

fn report(all: &[Connection]) -> Report {
    Report::new(&fold(all), GroupBy::Address, context())
}

/// A connection that carried `messages`, from a container, a unit, a network namespace and a command.
fn from(
    container: Option<&str>,
    unit: Option<&str>,
    netns_name: Option<&str>,
    comm: Option<&str>,
    messages: u32,
) -> Connection {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Connection {
        container: owned(container),
        unit: owned(unit),
        netns_name: owned(netns_name),
        netns: Some(4_026_531_840),
        comm: owned(comm),
        transactions: Some(messages),
        ..connection("192.0.2.1", 0, 5_000_000)
    }
}

fn only(connection: Connection) -> Sender {
    let mut report = report(&[connection]);
    assert_eq!(report.senders.len(), 1);
    report.senders.remove(0)
}

#[test]
fn the_clearest_name_is_taken() {
    let id = "container 6df79a0a53f3";
    for (container, unit, netns, comm, kind, name) in [
        (
            None,
            Some("postfix@-.service"),
            None,
            Some("smtp"),
            SenderKind::Unit,
            "postfix@-.service",
        ),
        (
            None,
            Some("session-3.scope"),
            None,
            Some("swaks"),
            SenderKind::Command,
            "swaks in session-3.scope",
        ),
        (None, Some("session-3.scope"), None, None, SenderKind::Unit, "session-3.scope"),
        (None, Some("session-.scope"), None, Some("x"), SenderKind::Unit, "session-.scope"),
        (Some(ID), None, None, Some("smtp"), SenderKind::Container, id),
        (Some("mail"), None, None, Some("smtp"), SenderKind::Container, "container mail"),
        (
            Some("mail"),
            Some("exim4.service"),
            None,
            None,
            SenderKind::Container,
            "exim4.service in container mail",
        ),
        (None, None, Some("mail"), Some("smtp"), SenderKind::Netns, "smtp in netns mail"),
        (None, None, Some("mail"), None, SenderKind::Netns, "netns mail"),
        (None, None, None, Some("smtp"), SenderKind::Command, "command smtp"),
        (None, None, None, None, SenderKind::Unknown, "not known"),
    ] {
        let sender = only(from(container, unit, netns, comm, 1));
        assert_eq!((sender.name.as_str(), sender.kind), (name, kind));
        assert_eq!(sender.container.as_deref(), container);
        assert_eq!(sender.unit.as_deref(), unit);
    }
}

#[test]
fn processes_and_namespaces_of_a_unit_are_one_sender() {
    let unit = |comm, netns| Connection {
        netns: Some(netns),
        ..from(None, Some("postfix@-.service"), None, Some(comm), 1)
    };
    assert_eq!(report(&[unit("smtp", 1), unit("lmtp", 2)]).senders.len(), 1);
    let bare = |netns| Connection { netns: Some(netns), ..from(None, None, None, Some("smtp"), 1) };
    let report = report(&[bare(1), bare(2)]);
    assert_eq!(report.senders.iter().map(|it| it.netns).collect::<Vec<_>>(), [Some(1), Some(2)]);
}

#[test]
fn a_users_unit_does_not_pass_for_the_systems() {
    let at = |path: &str| Connection {
        cgroup_path: Some(path.to_owned()),
        // As smtptrace 0.1 recorded it: the innermost.
        ..from(None, Some("postfix.service"), None, Some("smtp"), 1)
    };
    let system = "/system.slice/postfix.service";
    let user = "/user.slice/user-1000.slice/user@1000.service/app.slice/postfix.service";
    let below = "/system.slice/web.service/postfix.service";
    let report = report(&[at(system), at(&format!("{system}/worker")), at(user), at(below)]);
    let found = |it: &Sender| (it.name.clone(), it.user, it.cgroup.clone(), it.connections);
    let mut senders: Vec<_> = report.senders.iter().map(found).collect();
    senders.sort();
    let expected = [
        ("postfix.service", None, system, 2),
        ("postfix.service of user 1000", Some(1000), user, 1),
        ("web.service", None, "/system.slice/web.service", 1),
    ];
    let expected = expected.map(|(name, user, cgroup, connections)| {
        (name.to_owned(), user, Some(cgroup.to_owned()), connections)
    });
    assert_eq!(senders, expected);
}

#[test]
fn counts_of_each() {
    let unit = |messages| from(None, Some("exim4.service"), None, None, messages);
    let refused = Connection {
        banner_code: Some(421),
        transactions: Some(0),
        replies: Some(BTreeMap::from([(421, 1)])),
        container: Some(ID.to_owned()),
        ..connection("192.0.2.1", 0, 1)
    };
    let put_off = Connection {
        replies: Some(BTreeMap::from([(220, 1), (450, 2), (550, 3)])),
        container: Some(ID.to_owned()),
        ..connection("192.0.2.1", 0, 1)
    };
    let vain = Connection {
        container: Some(ID.to_owned()),
        ..failed("192.0.2.2", 0, 100, "ECONNREFUSED")
    };
    let report = report(&[unit(3), unit(1), refused, put_off, vain]);
    let [bad, good] = &report.senders[..] else { panic!("{:?}", report.senders) };
    assert_eq!(bad.container.as_deref(), Some(ID), "the worst comes first");
    assert_eq!((bad.connections, bad.connect_failures, bad.turned_away), (3, 1, 1));
    assert_eq!((bad.counted_connections, bad.transactions, bad.reuse_ratio), (1, Some(0), None));
    let replies = (bad.read_connections, bad.replies_421, bad.replies_4xx, bad.replies_5xx);
    assert_eq!(replies, (2, Some(1), Some(3), Some(3)));
    assert_eq!((good.connections, good.transactions, good.reuse_ratio), (2, Some(4), Some(0.5)));
    assert_eq!(good.messages_per_connection, Some(2.0));
    assert_eq!((good.read_connections, good.replies_4xx), (0, None), "not read is not 0");
}

#[test]
fn the_number_of_senders_is_bounded() {
    let one = |n: usize| from(Some(&format!("c{n}")), None, None, None, 1);
    let all: Vec<_> = (0..SENDERS + 20).map(one).chain([one(0)]).collect();
    let report = report(&all);
    assert_eq!(report.senders.len(), SENDERS + 1);
    let other = report.senders.last().unwrap();
    assert_eq!((other.name.as_str(), other.kind, &other.host), (OTHER, SenderKind::Other, &None));
    assert_eq!((other.connections, report.senders_omitted.connections), (20, 20));
    assert_eq!(report.senders_omitted.limit, SENDERS as u64);
    assert_eq!(report.senders[0].connections, 2, "one that is known is still added to");
}

#[test]
fn a_user_of_a_thousand_commands_does_not_hide_the_others() {
    let command =
        |name: String, uid| Connection { uid: Some(uid), ..from(None, None, None, Some(&name), 1) };
    let claims = (0..2 * SENDERS).map(|n| command(format!("claim{n}"), 1000));
    let others = (0..9).map(|n| command(format!("other{n}"), 1001));
    let report = report(&claims.chain(others).collect::<Vec<_>>());
    assert_eq!(report.senders.len(), SENDERS / 8 + 9 + 1);
    let of_others = report.senders.iter().filter(|it| it.name.starts_with("command other"));
    assert_eq!(of_others.count(), 9);
    // Services that were there first make room for a busy one.
    let early = (0..SENDERS).map(|n| from(Some(&format!("c{n}")), None, None, None, 1));
    let busy = (0..20).map(|_| from(None, Some("busy.service"), None, None, 1));
    let report = self::report(&early.chain(busy).collect::<Vec<_>>());
    assert!(report.senders.iter().any(|it| it.name == "busy.service"), "{:?}", report.senders[0]);
    assert_eq!(report.senders.iter().map(|it| it.connections).sum::<u64>(), SENDERS as u64 + 20);
}

fn any_sender() -> impl Strategy<Value = Connection> {
    let text = || prop::option::of("[abc]");
    (any_connection(), text(), text(), text(), text(), 0..2_u8).prop_map(
        |(connection, container, unit, netns_name, comm, host)| Connection {
            container,
            unit,
            netns_name,
            comm,
            host: format!("mx{host}"),
            ..connection
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn they_add_up_to_the_totals(all in prop::collection::vec(any_sender(), 0..60), at in 0..60_usize) {
        let whole = report(&all);
        let sum = |of: fn(&Sender) -> u64| whole.senders.iter().map(of).sum::<u64>();
        let totals = &whole.totals;
        prop_assert_eq!(sum(|it| it.connections), totals.connections);
        prop_assert_eq!(sum(|it| it.connect_failures), totals.connect_failures);
        prop_assert_eq!(sum(|it| it.died), totals.died);
        prop_assert_eq!(sum(|it| it.open), totals.open);
        prop_assert_eq!(sum(|it| it.counted_connections), totals.counted_connections);
        prop_assert_eq!(sum(|it| it.transactions.unwrap_or(0)), totals.transactions.unwrap_or(0));
        // Two parts of a recording, in either order, are the whole.
        let (first, second) = all.split_at(at.min(all.len()));
        let mut merged = Fold::new(10);
        for part in [second, first] {
            merged.merge(&fold(part));
        }
        prop_assert_eq!(Report::new(&merged, GroupBy::Address, context()).senders, whole.senders);
    }
}
