//! How many messages a connection carried, how long its phases took, and how that is known.

use tracer_common::record::{ConnectionState, Turn, flag};

use super::{Tls, TransactionsMethod, owners::comm, table::Entry};
use crate::{
    dialogue::{
        Rest, Standing,
        lengths::Lengths,
        replies::{Told, Transaction},
    },
    mta::Mta,
};

/// The count and the phases of one connection. Durations are in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Messages {
    /// Messages handed over.
    pub(super) transactions: Option<u32>,
    /// How they were counted.
    pub(super) method: Option<TransactionsMethod>,
    /// Whether that is a count and not an inference.
    pub(super) exact: bool,
    /// EHLO in cleartext.
    pub(super) ehlo_us: Option<u64>,
    /// STARTTLS to the 220.
    pub(super) starttls_us: Option<u64>,
    /// TLS handshake, from the `ClientHello` to the client's last part.
    pub(super) tls_handshake_us: Option<u64>,
    /// AUTH in cleartext.
    pub(super) auth_us: Option<u64>,
    /// Begin and end of each transaction since the start of the connection.
    pub(super) spans_us: Option<Vec<[u64; 2]>>,
    /// Transactions beyond those in `spans_us`.
    pub(super) spans_omitted: u32,
    /// Envelope of each transaction in `spans_us`.
    pub(super) envelope_us: Option<Vec<Option<u64>>>,
    /// Body of each.
    pub(super) body_us: Option<Vec<Option<u64>>>,
    /// Wait of each for the final reply.
    pub(super) final_reply_us: Option<Vec<u64>>,
    /// What the pause at the end is; `None` if nobody read or measured the dialogue.
    pub(super) rest: Option<Rest>,
    /// Begins of turns before which somebody waited, in order.
    pub(super) waited_ns: Vec<u64>,
}

/// Counts the messages of an established connection; nothing is known of one that was first seen in the
/// middle of its dialogue. The turns of `state` must have been
/// taken; what the lengths of the turns and the replies said is used up.
pub(super) fn messages(state: &ConnectionState, entry: &mut Entry) -> Messages {
    for turn in last_turns(state) {
        entry.replies.turn(&turn);
        entry.decrypted.turn(&turn);
    }
    if state.flags & flag::MIDSTREAM != 0 {
        return Messages::default(); // what came before is not known
    }
    let turns_missing = entry.turns.seen() != state.turns;
    let told = entry.replies.told(turns_missing);
    let encrypted = matches!(entry.replies.tls(), Some(Tls::Starttls | Tls::Implicit));
    let known = from_replies(state, &told);
    if !encrypted {
        return known;
    }
    let unclear = Rest { before: Standing::Unclear, now: Standing::Unclear, ..Rest::default() };
    let known = Messages { rest: Some(unclear), ..known };
    let inferred = if turns_missing {
        known
    } else {
        from_lengths(state, std::mem::take(&mut entry.lengths), known)
    };
    match entry.decrypted.told(state, turns_missing) {
        Some(told) => from_probes(state, &told, inferred),
        None => inferred,
    }
}

/// The count from decrypted replies instead of the one that the lengths of turns gave, and times from
/// the replies where they tell any.
fn from_probes(state: &ConnectionState, told: &Told, inferred: Messages) -> Messages {
    let decrypted = from_replies(state, told);
    let agreed = inferred.transactions == decrypted.transactions;
    let (spans_us, spans_omitted) = match &decrypted.spans_us {
        Some(_) => (decrypted.spans_us, decrypted.spans_omitted),
        None if agreed => (inferred.spans_us, inferred.spans_omitted),
        None => (None, 0),
    };
    Messages {
        method: Some(TransactionsMethod::TlsProbes),
        ehlo_us: inferred.ehlo_us.or(decrypted.ehlo_us),
        starttls_us: inferred.starttls_us,
        tls_handshake_us: inferred.tls_handshake_us,
        spans_us,
        spans_omitted,
        // What was decrypted came when the process read it.
        rest: decrypted.rest.map(|it| Rest { unasked: None, read: false, ..it }).or(inferred.rest),
        ..decrypted
    }
}

/// The turns that the kernel side still held.
fn last_turns(state: &ConnectionState) -> impl Iterator<Item = Turn> {
    state.batch.in_use().iter().copied().chain(state.turn_under_way())
}

fn since(begin_ns: u64, end_ns: u64) -> u64 {
    end_ns.saturating_sub(begin_ns) / 1_000
}

fn from_replies(state: &ConnectionState, told: &Told) -> Messages {
    let micros = |ns: Option<u64>| ns.map(|ns| ns / 1_000);
    let times = told.times.as_deref();
    let kept = times.map(|times| u32::try_from(times.len()).unwrap_or(u32::MAX));
    Messages {
        transactions: told.transactions,
        method: told.transactions.map(|_| TransactionsMethod::Replies),
        exact: told.exact,
        ehlo_us: micros(told.phases.ehlo_ns),
        starttls_us: micros(told.phases.starttls_ns),
        auth_us: micros(told.phases.auth_ns),
        spans_us: each(times, |it| {
            [since(state.start_ns, it.begin_ns), since(state.start_ns, it.end_ns)]
        }),
        spans_omitted: told.transactions.zip(kept).map_or(0, |(all, kept)| all - kept),
        envelope_us: each(times, |it| it.ready_ns.map(|ready_ns| since(it.begin_ns, ready_ns))),
        body_us: each(times, |it| it.ready_ns.map(|ready_ns| since(ready_ns, it.sent_ns))),
        final_reply_us: each(times, |it| since(it.sent_ns, it.end_ns)),
        rest: told.rest,
        waited_ns: told.waited_ns.clone(),
        ..Messages::default()
    }
}

fn each<T>(times: Option<&[Transaction]>, of: impl Fn(&Transaction) -> T) -> Option<Vec<T>> {
    times.map(|times| times.iter().map(of).collect())
}

/// Adds what the lengths of the turns say to what is `known` from the cleartext before TLS.
fn from_lengths(state: &ConnectionState, mut lengths: Lengths, known: Messages) -> Messages {
    lengths.opened_by(Mta::of(&comm(&state.batch.comm)));
    for turn in last_turns(state) {
        lengths.turn(&turn);
    }
    let inference = lengths.finish();
    let counted = inference.transactions.is_some();
    Messages {
        transactions: inference.transactions,
        method: counted.then_some(TransactionsMethod::TlsLengths),
        exact: inference.exact,
        rest: inference.rest.or(known.rest),
        waited_ns: inference.waited_ns,
        tls_handshake_us: inference.handshake.map(|(begin, end)| since(begin, end)),
        spans_us: counted.then(|| {
            let spans = inference.spans.iter();
            spans.map(|span| span.map(|ns| since(state.start_ns, ns))).collect()
        }),
        spans_omitted: inference.spans_omitted,
        ..known
    }
}
