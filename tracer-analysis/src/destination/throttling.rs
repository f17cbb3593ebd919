//! Counts that say whether a server turns us away, and with what words.

use crate::{
    connection::{Connection, EndCause, Refusal, Tls},
    destination::{
        Few, Reception,
        reception::{later_refusal, refusal},
    },
    smtp::Reason,
};

/// Distinct replies that are counted apart; others count under the code 0.
const REPLIES: usize = 32;
/// Distinct numbers of messages that are counted apart; connections with others are left out.
const NUMBERS: usize = 256;

/// How many connections ended after a number of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    /// The server closed or reset, within a second of the last data, and we had not said QUIT.
    pub by_server: u64,
    /// The same under TLS, where a QUIT cannot be seen.
    pub by_server_or_quit: u64,
    /// It ended otherwise, or is open.
    pub otherwise: u64,
    /// Those of all of them in which the server said that these were enough for one session.
    pub told: u64,
}

/// Refusals and closes of the servers of a set of connections.
#[derive(Debug, Clone, Default)]
pub struct Throttling {
    /// Connections by how they were received, in the order of [`Reception`].
    received: [u64; 5],
    /// Accepted connections that the server refused to go on with later, as a rule after a message.
    pub refused_later: u64,
    /// Replies that turned connections away, as `421 4.7.0`, in place of the greeting or later: at most one
    /// of each connection.
    pub replies: Few<String, u64>,
    /// The same replies by the reason that they gave.
    pub reasons: Few<Reason, u64>,
    /// Connections whose server is this host itself.
    pub to_ourselves: u64,
    /// Connections by their number of messages, if that is known.
    pub ends: Few<u32, Ends>,
    /// Connections left out of `ends`.
    pub ends_omitted: u64,
}

impl Throttling {
    /// Adds one connection.
    pub fn add(&mut self, connection: &Connection) {
        let reception = Reception::of(connection);
        self.received[reception as usize] += 1;
        self.to_ourselves += u64::from(connection.is_to_ourselves());
        let told = match reception {
            Reception::Accepted => later_refusal(connection).map(|it| (it.code, Some(it))),
            _ => refusal(connection).filter(|_| reception.is_refusal()),
        };
        if let Some((code, refusal)) = told {
            self.refused_later += u64::from(reception == Reception::Accepted);
            let name = match refusal.and_then(|it| it.enhanced) {
                Some(enhanced) => format!("{code} {enhanced}"),
                None => code.to_string(),
            };
            self.count_reply(&name, 1);
            if let Some(reason) = refusal.and_then(|it| it.reason) {
                *self.reasons.of(&reason) += 1;
            }
        }
        if let Some(messages) = connection.messages() {
            self.count_end(messages, end(connection));
        }
    }

    /// Adds all connections of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (sum, n) in self.received.iter_mut().zip(other.received) {
            *sum += n;
        }
        self.refused_later += other.refused_later;
        for (reply, n) in other.replies.iter() {
            self.count_reply(reply, *n);
        }
        for (reason, n) in other.reasons.iter() {
            *self.reasons.of(reason) += n;
        }
        self.to_ourselves += other.to_ourselves;
        for (messages, ends) in other.ends.iter() {
            self.count_end(*messages, *ends);
        }
        self.ends_omitted += other.ends_omitted;
    }

    /// Connections that were received in one way.
    pub const fn count(&self, reception: Reception) -> u64 {
        self.received[reception as usize]
    }

    /// Connections that were turned away, refused or not answered.
    pub fn refusals(&self) -> u64 {
        [Reception::Refused, Reception::ConnectRefused, Reception::Unanswered]
            .map(|reception| self.count(reception))
            .iter()
            .sum()
    }

    fn count_reply(&mut self, name: &str, n: u64) {
        let is_kept = self.replies.len() < REPLIES || self.replies.contains_key(name);
        *self.replies.of(if is_kept { name } else { "0" }) += n;
    }

    fn count_end(&mut self, messages: u32, ends: Ends) {
        if self.ends.len() >= NUMBERS && !self.ends.contains_key(&messages) {
            self.ends_omitted += ends.by_server + ends.by_server_or_quit + ends.otherwise;
            return;
        }
        let sum = self.ends.of(&messages);
        sum.by_server += ends.by_server;
        sum.by_server_or_quit += ends.by_server_or_quit;
        sum.otherwise += ends.otherwise;
        sum.told += ends.told;
    }
}

fn end(connection: &Connection) -> Ends {
    let prompt = connection.end_idle_us.is_some_and(|idle| idle < 1_000_000);
    let said_idle =
        connection.refusals.iter().flatten().any(|it| it.code == 421 && !it.is_throttling());
    let closed = match connection.end_cause {
        EndCause::PeerFin => true,
        // A command that was under way when the server closed has it answer with a reset. After one
        // message that may as well be a session that died in the cache.
        EndCause::RstReceived => connection.transactions.is_some_and(|messages| messages > 1),
        _ => false,
    };
    let by_peer = closed && prompt && !said_idle;
    let no_quit = connection.tls == Some(Tls::None)
        && connection.replies.as_ref().is_some_and(|replies| !replies.contains_key(&221));
    let encrypted = !matches!(connection.tls, Some(Tls::None) | None);
    // It may leave the close to us.
    let told = connection.refusals.iter().flatten().any(Refusal::is_message_limit);
    let by_server = by_peer && no_quit || told;
    let unclear = by_peer && encrypted && !told;
    Ends {
        by_server: by_server.into(),
        by_server_or_quit: unclear.into(),
        otherwise: u64::from(!by_server && !unclear),
        told: told.into(),
    }
}
