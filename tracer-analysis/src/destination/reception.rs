//! How a server received a connection.

use crate::connection::{Connection, EndCause, EndDuring, Refusal, SeenFrom};

/// How the server received a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reception {
    /// It was served, or at least greeted.
    Accepted,
    /// It was turned away by a reply before it had carried a message, or closed without a word.
    Refused,
    /// The connect was refused.
    ConnectRefused,
    /// The connect, or the connection, was never answered.
    Unanswered,
    /// It failed for a reason that says nothing about the server.
    Unknown,
}

impl Reception {
    /// How `connection` was received.
    pub fn of(connection: &Connection) -> Self {
        if !connection.established() {
            return match (connection.end_cause, connection.connect_error.as_deref()) {
                (EndCause::Open, _) => Self::Unknown,
                _ if connection.connect_ended_here() => Self::Unknown,
                (_, Some("ECONNREFUSED" | "ECONNRESET")) => Self::ConnectRefused,
                (_, Some("ETIMEDOUT") | None) => Self::Unanswered,
                _ => Self::Unknown,
            };
        }
        if connection.seen_from == SeenFrom::Midlife {
            return Self::Accepted;
        }
        let carried = connection.transactions.is_some_and(|messages| messages > 0);
        if !carried && refusal(connection).is_some() {
            return Self::Refused;
        }
        let silent = connection.banner_us.is_none() && connection.bytes_received == Some(0);
        match connection.end_cause {
            EndCause::PeerFin | EndCause::RstReceived if silent => Self::Refused,
            EndCause::LocalFin | EndCause::Unanswered | EndCause::Timeout if silent => {
                Self::Unanswered
            }
            _ => Self::Accepted,
        }
    }

    /// Whether the server had no room for it, as far as that can be seen.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::Refused | Self::ConnectRefused | Self::Unanswered)
    }
}

/// The reply that turned `connection` away.
pub(super) fn refusal(connection: &Connection) -> Option<(u16, Option<&Refusal>)> {
    match &connection.refusals {
        Some(refusals) => {
            let refusal = refusals.iter().find(|refusal| refusal.is_throttling())?;
            Some((refusal.code, Some(refusal)))
        }
        None => connection.banner_code.filter(|code| *code >= 400).map(|code| (code, None)),
    }
}

/// The reply by which the server had enough of `connection` after it had accepted it. A 421 into an idle
/// session is the server's timeout, also where it does not say so: records of versions that did not note the
/// moment of a reply have only that of the end.
pub(super) fn later_refusal(connection: &Connection) -> Option<&Refusal> {
    let timed_out =
        connection.end_cause == EndCause::PeerFin && connection.end_during == Some(EndDuring::Idle);
    let farewell = |it: &Refusal| timed_out && it.code == 421 && it.reason.is_none();
    let mut refusals = connection.refusals.iter().flatten();
    refusals.find(|it| it.is_throttling() && !farewell(it))
}
