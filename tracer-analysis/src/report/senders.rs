//! Senders as a report shows them.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::{
    destination::{OTHER, SENDERS, SenderKind, Senders, Sent, Who},
    report::build::rounded,
};

/// One sender: a service, container or command that opened connections. The counts of all senders add up to those
/// of `totals`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sender {
    /// A name for people: of the unit, or of the container, or else of the command with its network
    /// namespace. Two senders may share one; they differ in the fields that follow.
    pub name: String,
    /// What it is the name of.
    pub kind: SenderKind,
    /// The host that recorded it; `null` for `~other`.
    pub host: Option<String>,
    /// The container; `null` outside of containers.
    pub container: Option<String>,
    /// The systemd unit, of the host or within the container; `null` if it is not known.
    pub unit: Option<String>,
    /// The user whose systemd manager runs the unit or container, and who named it; `null` if it is the
    /// manager of the system, or if it is not known.
    #[serde(default)]
    pub user: Option<u32>,
    /// The path of the cgroup of the unit or container; `null` if it is not known.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// Name of the network namespace, where neither unit nor container is known.
    pub netns_name: Option<String>,
    /// Inode number of the network namespace, where neither unit nor container is known.
    pub netns: Option<u32>,
    /// The command, where neither container nor unit is known, or the unit is the session of a user.
    pub comm: Option<String>,
    /// All connections, also failed and open ones.
    pub connections: u64,
    /// Those that were never established, although they ended.
    pub connect_failures: u64,
    /// Established ones that ended in a reset, in a timeout or without an answer.
    pub died: u64,
    /// Connections that were open when tracing ended.
    pub open: u64,
    /// Established ones that the server turned away before they had carried a message: by a greeting other
    /// than 220, by a 421 or another reply that means "not now", or by closing without a word.
    pub turned_away: u64,
    /// Established connections whose messages could be counted.
    pub counted_connections: u64,
    /// Messages handed over by these; `null` if there are none.
    pub transactions: Option<u64>,
    /// Messages per counted connection, on average.
    pub messages_per_connection: Option<f64>,
    /// Share of messages that needed no new connection, 0 to 1.
    pub reuse_ratio: Option<f64>,
    /// Connections whose replies could be read: those in cleartext, and what was said before TLS.
    pub read_connections: u64,
    /// Replies 421 in these, greetings included; `null` if no replies could be read.
    pub replies_421: Option<u64>,
    /// Replies 400 to 499, 421 included.
    pub replies_4xx: Option<u64>,
    /// Replies 500 to 599.
    pub replies_5xx: Option<u64>,
}

/// What went to the sender `~other` because the number of senders is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SendersOmitted {
    /// Senders that are kept at most, the busiest.
    pub limit: u64,
    /// Connections in `~other`.
    pub connections: u64,
}

impl SendersOmitted {
    pub(super) fn new(senders: &Senders) -> Self {
        Self { limit: SENDERS as u64, connections: senders.others().connections }
    }
}

impl Sender {
    /// All senders, worst first.
    pub(super) fn all(senders: &Senders) -> Vec<Self> {
        let mut known: Vec<_> = senders.known().collect();
        known.sort_by_key(|(who, sent)| (Reverse(sent.bad()), Reverse(sent.connections), *who));
        let mut all: Vec<_> = known.into_iter().map(|(who, sent)| Self::of(&who, sent)).collect();
        let others = senders.others();
        if others.connections > 0 {
            let other = Self::of(&Who::default(), others);
            let (name, kind) = (OTHER.to_owned(), SenderKind::Other);
            all.push(Self { name, kind, host: None, ..other });
        }
        all
    }

    fn of(who: &Who<&str>, sent: &Sent) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let counted = Some(sent).filter(|it| it.counted > 0);
        let read = Some(sent).filter(|it| it.read > 0);
        Self {
            name: who.name(),
            kind: who.kind(),
            host: Some(who.host.to_owned()),
            container: owned(who.container),
            unit: owned(who.unit),
            user: who.user,
            cgroup: owned(who.cgroup),
            netns_name: owned(who.netns_name),
            netns: who.netns,
            comm: owned(who.comm),
            connections: sent.connections,
            connect_failures: sent.connect_failures,
            died: sent.died,
            open: sent.open,
            turned_away: sent.turned_away,
            counted_connections: sent.counted,
            transactions: counted.map(|it| it.transactions),
            messages_per_connection: counted
                .map(|it| rounded(it.transactions as f64 / it.counted as f64, 1e3)),
            reuse_ratio: sent.reuse_ratio().map(|it| rounded(it, 1e6)),
            read_connections: sent.read,
            replies_421: read.map(|it| it.replies_421),
            replies_4xx: read.map(|it| it.replies_4xx),
            replies_5xx: read.map(|it| it.replies_5xx),
        }
    }
}
