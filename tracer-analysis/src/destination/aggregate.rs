//! What the connections of one set have in common.

use std::collections::BTreeMap;

use crate::{
    connection::{Connection, EndCause, SeenFrom},
    destination::{
        Ages, Arrivals, Cost, Course, Distribution, Few, IdleGaps, Messages, Throttling, Timeline,
    },
    mta::Mta,
};

/// Distinct names of connect failures that are counted apart; others count as [`OTHER_FAILURE`].
pub const FAILURE_NAMES: usize = 32;
/// Distinct greeting codes that are counted apart; others count as [`OTHER_CODE`].
pub const GREETING_CODES: usize = 32;
/// Name of a failed connect without an errno: the application gave up, or the socket was closed.
pub const GAVE_UP: &str = "gave_up";
/// Name under which failures beyond [`FAILURE_NAMES`] are counted.
pub const OTHER_FAILURE: &str = "other";
/// Code under which greetings beyond [`GREETING_CODES`] are counted.
pub const OTHER_CODE: u16 = 0;

/// Counts and distributions of a set of connections.
///
/// Adding is commutative: as long as no documented limit is reached, [`Self::merge`] of two
/// aggregates is the same as one over all their connections, in any order.
#[derive(Debug, Clone, Default)]
pub struct Aggregate {
    /// All connections, also failed and open ones.
    pub connections: u64,
    /// Those that were never established, although they ended.
    pub connect_failures: u64,
    /// Those of them that ended on this side ([`Connection::connect_ended_here`]).
    pub connects_ended_here: u64,
    /// All of them by name of the error (`ECONNREFUSED`, ...), or [`GAVE_UP`].
    pub failures: Few<String, u64>,
    /// Established ones that died: reset, timed out, or closed without an answer.
    pub died: u64,
    /// Still open when tracing ended.
    pub open: u64,
    /// Open before tracing began: of unknown age, and in no distribution but `idle_us`.
    pub midlife: u64,
    /// SYN to established, in microseconds.
    pub connect_us: Distribution,
    /// Established to the first byte of the greeting, in microseconds.
    pub banner_us: Distribution,
    /// Established to the end of the greeting, in microseconds.
    pub greeting_us: Distribution,
    /// EHLO in cleartext, from its write to the end of the reply, in microseconds.
    pub ehlo_us: Distribution,
    /// STARTTLS, from its write to the end of the 220, in microseconds.
    pub starttls_us: Distribution,
    /// TLS handshake, from the `ClientHello` to the client's last part, in microseconds.
    pub tls_handshake_us: Distribution,
    /// AUTH in cleartext, from its command to the end of the reply that decided it, in microseconds.
    pub auth_us: Distribution,
    /// Transactions whose begin and end are known, from the first write of the envelope to the final
    /// reply, in microseconds.
    pub transaction_us: Distribution,
    /// Of these in cleartext, from the begin of the last write of the body to the final reply, in
    /// microseconds.
    pub final_reply_us: Distribution,
    /// SYN to CLOSE of established and finished connections, in microseconds.
    pub lifetime_us: Distribution,
    /// Idle gaps that ended in another turn, in microseconds.
    pub idle_us: Distribution,
    /// The same and the last gap of each connection, by what became of it; `None` if nothing was
    /// established.
    pub idle: Option<Box<IdleGaps>>,
    /// Turns of established and finished connections.
    pub turns: Distribution,
    /// Messages.
    pub messages: Messages,
    /// Payload bytes sent; `None` if no connection knows.
    pub bytes_sent: Option<u64>,
    /// Payload bytes received; `None` if no connection knows.
    pub bytes_received: Option<u64>,
    /// Segments retransmitted; `None` if no connection knows.
    pub retransmits: Option<u64>,
    /// Connections by what ended them.
    pub endings: Few<EndCause, u64>,
    /// Those of them that QUIT had ended before.
    pub after_quit: Few<EndCause, u64>,
    /// All of them that were never established.
    pub failed_endings: Few<EndCause, u64>,
    /// Connections by the mail server that opened them, as far as that is known.
    pub mtas: Few<Mta, u64>,
    /// Greetings by reply code.
    pub greeting_codes: Few<u16, u64>,
    /// How the servers received them.
    pub throttling: Throttling,
    /// How old sessions were when they ended.
    pub ages: Ages,
    /// What was spent without use.
    pub cost: Cost,
    /// When the connections existed.
    pub timeline: Timeline,
    /// When 421 replies came. Like `timeline`, only in the sum over all families.
    pub replies_421: Course,
    /// When they arrived and stood idle. Like `timeline`, only in the sum over all families.
    pub arrivals: Arrivals,
}

impl Aggregate {
    /// Adds one connection.
    pub fn add(&mut self, connection: &Connection) {
        self.connections += 1;
        *self.endings.of(&connection.end_cause) += 1;
        if connection.ended_by_quit() {
            *self.after_quit.of(&connection.end_cause) += 1;
        }
        self.add_ending(connection);
        if let Some(code) = connection.banner_code {
            count(&mut self.greeting_codes, &code, 1, GREETING_CODES, &OTHER_CODE);
        }
        if let Some(mta) = connection.mta() {
            *self.mtas.of(&mta) += 1;
        }
        sum(&mut self.bytes_sent, connection.bytes_sent);
        sum(&mut self.bytes_received, connection.bytes_received);
        sum(&mut self.retransmits, connection.retransmits.map(u64::from));
        self.idle_us.extend(connection.idle_gaps_us.iter().flatten().copied());
        if connection.established() {
            self.idle.get_or_insert_default().add(connection);
        }
        self.messages.add(connection);
        self.throttling.add(connection);
        self.ages.add(connection);
        self.cost.add(connection);
        self.timeline.add(connection);
        self.replies_421.add_replies_421(connection);
        self.arrivals.add(connection);
        match connection.seen_from {
            SeenFrom::Midlife => self.midlife += 1,
            SeenFrom::Connect => self.add_measures(connection),
        }
    }

    fn add_ending(&mut self, connection: &Connection) {
        if connection.end_cause == EndCause::Open {
            self.open += 1;
        } else if connection.failed() {
            self.connect_failures += 1;
            self.connects_ended_here += u64::from(connection.connect_ended_here());
            *self.failed_endings.of(&connection.end_cause) += 1;
            let name = connection.connect_error.as_deref().unwrap_or(GAVE_UP);
            count(&mut self.failures, name, 1, FAILURE_NAMES, OTHER_FAILURE);
        } else if connection.died() {
            self.died += 1;
        }
    }

    /// Distributions of a connection that was seen from its SYN.
    fn add_measures(&mut self, connection: &Connection) {
        let measured = [
            (&mut self.connect_us, connection.connect_us),
            (&mut self.banner_us, connection.banner_us),
            (&mut self.greeting_us, connection.greeting_us),
            (&mut self.ehlo_us, connection.ehlo_us),
            (&mut self.starttls_us, connection.starttls_us),
            (&mut self.tls_handshake_us, connection.tls_handshake_us),
            (&mut self.auth_us, connection.auth_us),
        ];
        for (distribution, value) in measured {
            distribution.extend(value);
        }
        let spans = connection.transaction_spans_us.iter().flatten();
        self.transaction_us.extend(spans.map(|[begin, end]| end.saturating_sub(*begin)));
        self.final_reply_us.extend(connection.final_reply_us.iter().flatten().copied());
        if connection.end_cause == EndCause::Open || connection.failed() {
            return;
        }
        self.lifetime_us.extend(connection.lifetime_us);
        self.turns.extend(connection.turns.map(u64::from));
    }

    /// Adds all connections of `other`. Call `timeline.shrink()` on a result that is kept.
    pub fn merge(&mut self, other: &Self) {
        self.merge_counts(other);
        self.timeline.merge(&other.timeline);
        self.replies_421.merge(&other.replies_421);
        self.arrivals.merge(&other.arrivals);
    }

    /// Adds all connections of `other`, except for when they existed and arrived.
    pub(super) fn merge_counts(&mut self, other: &Self) {
        self.connections += other.connections;
        self.connect_failures += other.connect_failures;
        self.connects_ended_here += other.connects_ended_here;
        self.died += other.died;
        self.open += other.open;
        self.midlife += other.midlife;
        for (name, &n) in other.failures.iter() {
            count(&mut self.failures, name.as_str(), n, FAILURE_NAMES, OTHER_FAILURE);
        }
        for (code, &n) in other.greeting_codes.iter() {
            count(&mut self.greeting_codes, code, n, GREETING_CODES, &OTHER_CODE);
        }
        for (mta, &n) in other.mtas.iter() {
            *self.mtas.of(mta) += n;
        }
        for (cause, &n) in other.endings.iter() {
            *self.endings.of(cause) += n;
        }
        for (cause, &n) in other.after_quit.iter() {
            *self.after_quit.of(cause) += n;
        }
        for (cause, &n) in other.failed_endings.iter() {
            *self.failed_endings.of(cause) += n;
        }
        self.connect_us.merge(&other.connect_us);
        self.banner_us.merge(&other.banner_us);
        self.greeting_us.merge(&other.greeting_us);
        self.ehlo_us.merge(&other.ehlo_us);
        self.starttls_us.merge(&other.starttls_us);
        self.tls_handshake_us.merge(&other.tls_handshake_us);
        self.auth_us.merge(&other.auth_us);
        self.transaction_us.merge(&other.transaction_us);
        self.final_reply_us.merge(&other.final_reply_us);
        self.lifetime_us.merge(&other.lifetime_us);
        self.idle_us.merge(&other.idle_us);
        if let Some(theirs) = &other.idle {
            self.idle.get_or_insert_default().merge(theirs);
        }
        self.turns.merge(&other.turns);
        self.messages.merge(&other.messages);
        self.throttling.merge(&other.throttling);
        self.ages.merge(&other.ages);
        self.cost.merge(&other.cost);
        sum(&mut self.bytes_sent, other.bytes_sent);
        sum(&mut self.bytes_received, other.bytes_received);
        sum(&mut self.retransmits, other.retransmits);
    }
}

impl Aggregate {
    /// Established connections, or those still open, by what ended them.
    pub fn session_endings(&self) -> BTreeMap<EndCause, u64> {
        let failed = |cause: &EndCause| self.failed_endings.get(cause).copied().unwrap_or(0);
        let sessions = self.endings.iter().map(|(cause, n)| (*cause, n - failed(cause)));
        sessions.filter(|&(_, n)| n > 0).collect()
    }
}

/// Adds to a sum that is unknown until the first known value.
fn sum(total: &mut Option<u64>, value: Option<u64>) {
    if let Some(value) = value {
        *total = Some(total.unwrap_or(0).saturating_add(value));
    }
}

/// Adds to the count of `key`, or of `other` if there are `limit` keys already.
fn count<K, Q>(counts: &mut Few<K, u64>, key: &Q, n: u64, limit: usize, other: &Q)
where
    K: Ord + std::borrow::Borrow<Q>,
    Q: Ord + ToOwned<Owned = K> + ?Sized,
{
    let is_kept = counts.len() < limit || counts.contains_key(key);
    *counts.of(if is_kept { key } else { other }) += n;
}
