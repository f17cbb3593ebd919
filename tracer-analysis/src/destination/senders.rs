//! Senders: what the connections that one service, container or command opened have in common.

use crate::{
    connection::{Connection, EndCause},
    destination::{
        Reception, SenderKind,
        busiest::{Busiest, Place},
        messages::reuse_ratio,
        who::Who,
    },
    utc::Utc,
};

/// Senders that are kept apart; the connections of further ones are added up.
pub const SENDERS: usize = 1_000;

/// Counts of the connections of one sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// All connections, also failed and open ones.
    pub connections: u64,
    /// Those that were never established, although they ended.
    pub connect_failures: u64,
    /// Established ones that died: reset, timed out, or closed without an answer.
    pub died: u64,
    /// Still open when tracing ended.
    pub open: u64,
    /// Those that the server turned away ([`Reception::Refused`]).
    pub turned_away: u64,
    /// Established ones whose messages are known.
    pub counted: u64,
    /// Those of them that carried a message.
    pub carrying: u64,
    /// Messages handed over.
    pub transactions: u64,
    /// Connections whose replies in cleartext are known.
    pub read: u64,
    /// Replies 421 of these.
    pub replies_421: u64,
    /// Replies 400 to 499, 421 included.
    pub replies_4xx: u64,
    /// Replies 500 to 599.
    pub replies_5xx: u64,
}

impl Sent {
    fn add(&mut self, connection: &Connection) {
        self.connections += 1;
        self.connect_failures += u64::from(connection.failed());
        self.died += u64::from(connection.died());
        self.open += u64::from(connection.end_cause == EndCause::Open);
        self.turned_away += u64::from(Reception::of(connection) == Reception::Refused);
        if let Some(messages) = connection.messages() {
            self.counted += 1;
            self.carrying += u64::from(messages > 0);
            self.transactions += u64::from(messages);
        }
        if let Some(replies) = &connection.replies {
            let sum = |codes| replies.range(codes).map(|(_, n)| u64::from(*n)).sum::<u64>();
            self.read += 1;
            self.replies_421 += sum(421..=421);
            self.replies_4xx += sum(400..=499);
            self.replies_5xx += sum(500..=599);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.connections += other.connections;
        self.connect_failures += other.connect_failures;
        self.died += other.died;
        self.open += other.open;
        self.turned_away += other.turned_away;
        self.counted += other.counted;
        self.carrying += other.carrying;
        self.transactions += other.transactions;
        self.read += other.read;
        self.replies_421 += other.replies_421;
        self.replies_4xx += other.replies_4xx;
        self.replies_5xx += other.replies_5xx;
    }

    /// Share of messages that needed no new connection, 0 to 1. `None` without messages.
    pub fn reuse_ratio(&self) -> Option<f64> {
        reuse_ratio(self.carrying, self.transactions)
    }

    /// Connections that failed, died or were turned away.
    pub const fn bad(&self) -> u64 {
        self.connect_failures + self.died + self.turned_away
    }
}

/// Senders of one user that are kept apart: a program is called what it likes to be called, and a user names the
/// units and containers of their own manager.
const OF_ONE_USER: usize = SENDERS / 8;

/// All senders so far: the busiest [`SENDERS`] apart, the others together.
#[derive(Debug, Clone)]
pub struct Senders {
    /// In the order of `Who`.
    known: Vec<(Who<Box<str>>, Sent)>,
    /// Which ones are; commands by the user who ran them, units and containers by the user whose manager runs them.
    busiest: Busiest<Who<Box<str>>, u32>,
    others: Sent,
}

impl Default for Senders {
    fn default() -> Self {
        let busiest = Busiest::new(SENDERS, OF_ONE_USER);
        Self { known: Vec::new(), busiest, others: Sent::default() }
    }
}

impl Senders {
    /// Adds one connection. Takes memory only for a sender that is new.
    pub fn add(&mut self, connection: &Connection) {
        let who = Who::of(connection);
        let is_claim = matches!(who.kind(), SenderKind::Command | SenderKind::Netns);
        let owner = who.user.or(connection.uid.filter(|_| is_claim));
        self.of(who, owner, 1, connection.end()).add(connection);
    }

    /// Adds all connections of `other`; the last one ended at `end`.
    pub fn merge(&mut self, other: &Self, end: Utc) {
        for (who, sent) in &other.known {
            self.of(who.as_ref(), who.user, sent.connections, end).merge(sent);
        }
        self.others.merge(&other.others);
    }

    /// Those that are kept apart, in no order that means anything.
    pub fn known(&self) -> impl Iterator<Item = (Who<&str>, &Sent)> {
        self.known.iter().map(|(who, sent)| (who.as_ref(), sent))
    }

    /// The connections of all others.
    pub const fn others(&self) -> &Sent {
        &self.others
    }

    fn of(&mut self, who: Who<&str>, owner: Option<u32>, n: u64, at: Utc) -> &mut Sent {
        let find = |other: &Who<Box<str>>| other.as_ref().cmp(&who);
        match self.busiest.place(find, || who.to_owned(), owner, n, at) {
            Place::Own => {}
            Place::Instead(gone) => {
                if let Ok(at) = self.find(gone.as_ref()) {
                    let (_, sent) = self.known.remove(at);
                    self.others.merge(&sent);
                }
            }
            Place::Others => return &mut self.others,
        }
        let at = self.find(who).unwrap_or_else(|at| {
            self.known.insert(at, (who.to_owned(), Sent::default()));
            at
        });
        &mut self.known[at].1
    }

    fn find(&self, who: Who<&str>) -> Result<usize, usize> {
        self.known.binary_search_by(|(known, _)| known.as_ref().cmp(&who))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::sample::connection;

    const MANAGER: &str = "/user.slice/user-1000.slice/user@1000.service";

    fn of_cgroup(path: String) -> Connection {
        Connection { cgroup_path: Some(path), ..connection("192.0.2.1", 0, 1) }
    }

    #[test]
    fn one_user_does_not_take_the_places_of_all_senders() {
        let mut senders = Senders::default();
        for n in 0..SENDERS {
            senders.add(&of_cgroup(format!("{MANAGER}/app.slice/app{n}.service")));
            senders.add(&of_cgroup(format!("{MANAGER}/user.slice/libpod-{n:064x}.scope")));
            let comm = Some(format!("command{n}"));
            senders.add(&Connection { comm, uid: Some(1000), ..connection("192.0.2.1", 0, 1) });
        }
        assert_eq!(senders.known().count(), OF_ONE_USER);
        // Units of the system have no share.
        let mut all = Senders::default();
        for n in 0..SENDERS / 2 {
            all.add(&of_cgroup(format!("/system.slice/own{n}.service")));
        }
        assert_eq!(all.known().count(), SENDERS / 2);
        all.merge(&senders, Utc::from_micros(0));
        assert_eq!(all.known().count(), SENDERS / 2 + OF_ONE_USER);
    }
}
