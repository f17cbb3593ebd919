//! How old sessions were when their server closed them.

use crate::{
    connection::{Connection, EndCause, EndDuring, Refusal, SeenFrom, Tls},
    destination::{Distribution, Reception, reception::later_refusal},
};

/// Ages at which sessions ended, in microseconds since their SYN. Adding is commutative.
#[derive(Debug, Clone, Default)]
pub struct Ages {
    /// Of those that the server closed of its own accord, and not because of a refusal.
    pub closed_us: Distribution,
    /// How long these had been quiet by then.
    pub quiet_us: Distribution,
    /// Of all others: they could have been older.
    pub others_us: Distribution,
}

impl Ages {
    /// Adds one connection.
    pub fn add(&mut self, connection: &Connection) {
        if connection.seen_from != SeenFrom::Connect || !connection.established() {
            return;
        }
        let began = connection.end_began_us;
        if let (Some(age_us), true) = (began, closed_by_server(connection)) {
            self.closed_us.record(age_us);
            self.quiet_us.record(connection.end_idle_us.unwrap_or(0));
        } else if let Some(age_us) = began.or(connection.lifetime_us) {
            self.others_us.record(age_us);
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.closed_us.merge(&other.closed_us);
        self.quiet_us.merge(&other.quiet_us);
        self.others_us.merge(&other.others_us);
    }
}

/// Whether the server closed a session that it had accepted, not because we said QUIT and not to refuse it.
/// Under TLS a QUIT cannot be seen; a server that answers one closes at once, so there the close must come
/// into a quiet session.
fn closed_by_server(connection: &Connection) -> bool {
    let said = |code| connection.replies.as_ref().is_some_and(|it| it.contains_key(&code));
    let no_quit = match connection.tls {
        Some(Tls::None) => connection.replies.is_some() && !said(221),
        Some(_) => connection.end_during == Some(EndDuring::Idle),
        None => false,
    };
    // A farewell that does not speak of a timeout may be one of age: the verdict weighs both.
    let of_timeout =
        |it: &Refusal| it.enhanced.is_some_and(|it| it.subject == 4 && matches!(it.detail, 1 | 2));
    let timed_out = connection
        .refusals
        .iter()
        .flatten()
        .any(|it| it.code == 421 && of_timeout(it) && !it.is_throttling());
    connection.end_cause == EndCause::PeerFin
        && no_quit
        && !timed_out
        && later_refusal(connection).is_none()
        && Reception::of(connection) == Reception::Accepted
}
