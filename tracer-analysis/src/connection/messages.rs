//! How many messages a connection carried, and how that is known.

use tracer_common::record::{ConnectionState, direction};

use super::{Tls, TransactionsMethod, table::Entry};
use crate::dialogue::lengths::Lengths;

/// The count of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Messages {
    /// Messages handed over.
    pub(super) transactions: Option<u32>,
    /// How they were counted.
    pub(super) method: Option<TransactionsMethod>,
    /// Whether that is a count and not an inference.
    pub(super) exact: bool,
    /// TLS handshake, from the `ClientHello` to the client's last part, in microseconds.
    pub(super) tls_handshake_us: Option<u64>,
    /// Begin and end of each transaction since the start of the connection, in microseconds.
    pub(super) spans_us: Option<Vec<[u64; 2]>>,
    /// Transactions beyond those in `spans_us`.
    pub(super) spans_omitted: u32,
}

/// Counts the messages of an established connection. The turns of `state` must have been
/// taken; what the lengths of the turns said is used up.
pub(super) fn messages(state: &ConnectionState, entry: &mut Entry) -> Messages {
    if let Some(transactions) = entry.replies.transactions() {
        return Messages {
            transactions: Some(transactions),
            method: Some(TransactionsMethod::Replies),
            exact: true,
            ..Messages::default()
        };
    }
    let encrypted = matches!(entry.replies.tls(), Some(Tls::Starttls | Tls::Implicit));
    if !encrypted || entry.turns.seen() != state.turns {
        return Messages::default();
    }
    from_lengths(state, std::mem::take(&mut entry.lengths))
}

fn from_lengths(state: &ConnectionState, mut lengths: Lengths) -> Messages {
    for turn in state.batch.in_use() {
        lengths.turn(turn);
    }
    if state.direction != direction::NONE {
        lengths.turn(&state.current);
    }
    let inference = lengths.finish();
    let since_start = |ns: u64| ns.saturating_sub(state.start_ns) / 1_000;
    let known = inference.transactions.is_some();
    Messages {
        transactions: inference.transactions,
        method: known.then_some(TransactionsMethod::TlsLengths),
        exact: inference.exact,
        tls_handshake_us: inference.handshake.map(|(begin, end)| end.saturating_sub(begin) / 1_000),
        spans_us: known.then(|| {
            let spans = inference.spans.iter();
            spans.map(|[begin, end]| [since_start(*begin), since_start(*end)]).collect()
        }),
        spans_omitted: inference.spans_omitted,
    }
}
