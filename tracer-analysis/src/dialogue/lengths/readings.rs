//! Every way to read a session that is not yet far worse than the best.

use super::{
    Inference, Reason,
    grammar::{Event, Exchange, Known, Next, State, Style},
    price::Bits,
    words::{self, Words},
};
use crate::{dialogue::Standing, mta::Mta};

/// Readings kept. What does not fit is the most expensive.
const READINGS: usize = 96;
/// Readings this much more expensive than the best are given up.
const WINDOW: Bits = 26;
/// Readings this much more expensive than the best have a say in where the dialogue stands.
const NEAR: Bits = 6;
/// Price of a server that does not speak in the words of its greeting.
const NOT_AS_GREETED: Bits = 8;
/// Price of one certain server, where the greeting does not tell.
const TRIED: Bits = 3;
/// A count stands only if every reading with another count is this much more expensive, by the way in
/// which the best reading hands messages over: lengths tell some ways apart better than others, and a client
/// that never sends BDAT leaves fewer ways.
fn margin(style: Option<Style>, client: Option<Mta>) -> Bits {
    match style {
        Some(Style::Whole) if client == Some(Mta::Exim) => 9,
        _ if client.is_some_and(|client| client != Mta::Exim) => 4,
        Some(Style::Split) => 6,
        Some(Style::Envelope | Style::Single) => 7,
        None | Some(Style::Bdat) => 9,
        Some(Style::Whole) => 13,
    }
}
/// Spans kept, of those that all readings agree on.
const SPANS: usize = 256;
/// Spans kept per reading, of those they do not agree on.
const OPEN_SPANS: usize = 32;

/// One way to read the session.
#[derive(Debug, Clone)]
struct Reading {
    state: State,
    bits: Bits,
    /// When the current transaction began.
    begin_ns: u64,
    spans: Vec<[u64; 2]>,
}

/// The readings of one session.
#[derive(Debug, Clone)]
pub(super) struct Readings {
    known: Known,
    open: Vec<Reading>,
    /// Spans that all readings agree on.
    spans: Vec<[u64; 2]>,
    /// Price, above the best at that time, of the cheapest reading given up for lack of room.
    crowded_out: Option<Bits>,
}

impl Readings {
    /// Of a session of which `known` is known, after the EHLO under TLS. The greeting was in `words`.
    pub(super) fn new(known: Known, words: Option<Words>) -> Self {
        let reading = |words, bits| Reading {
            state: State::new(words),
            bits,
            begin_ns: 0,
            spans: Vec::new(),
        };
        let open = if words.is_some() {
            vec![reading(words, 0), reading(None, NOT_AS_GREETED)]
        } else {
            let tried = words::TRIED.into_iter().map(|it| reading(Some(it), TRIED));
            tried.chain([reading(None, 0)]).collect()
        };
        Self { known, open, spans: Vec::new(), crowded_out: None }
    }

    /// Takes the next turn.
    pub(super) fn exchange(&mut self, exchange: &Exchange) {
        let mut next: Vec<Next> = Vec::new();
        let mut reached: Vec<(State, Bits, Event, usize)> = Vec::new();
        for (from, reading) in self.open.iter().enumerate() {
            reading.state.next(exchange, &self.known, &mut next);
            let steps = next.drain(..);
            reached.extend(steps.map(|(state, bits, event)| {
                (state, reading.bits.saturating_add(bits), event, from)
            }));
        }
        self.prune(&mut reached);
        let best = reached.iter().map(|it| it.1).min().unwrap_or_default();
        self.open = reached
            .into_iter()
            .map(|(state, bits, event, from)| {
                self.open[from].follow(state, bits - best, event, exchange)
            })
            .collect();
        self.settle();
    }

    /// Keeps the cheapest way to each state, and of these the cheapest.
    fn prune(&mut self, reached: &mut Vec<(State, Bits, Event, usize)>) {
        let Some(best) = reached.iter().map(|it| it.1).min() else { return };
        reached.retain(|it| it.1 - best <= WINDOW);
        reached.sort_unstable_by_key(|it| (it.0, it.1, it.3));
        reached.dedup_by_key(|it| it.0);
        if reached.len() > READINGS {
            reached.sort_by_key(|it| it.1);
            let lost = reached[READINGS].1 - best;
            self.crowded_out = Some(self.crowded_out.map_or(lost, |known| known.min(lost)));
            reached.truncate(READINGS);
        }
    }

    /// Moves spans that all readings share out of them, and the oldest of the best if they share none
    /// for long.
    fn settle(&mut self) {
        loop {
            let Some(best) = self.open.iter().min_by_key(|it| it.bits) else { return };
            let Some(span) = best.spans.first().copied() else { return };
            let shared = self.open.iter().all(|it| it.spans.first() == Some(&span));
            if !shared && self.open.iter().all(|it| it.spans.len() < OPEN_SPANS) {
                return;
            }
            for reading in self.open.iter_mut().filter(|it| !it.spans.is_empty()) {
                reading.spans.remove(0);
            }
            if self.spans.len() < SPANS {
                self.spans.push(span);
            }
        }
    }

    /// Where the dialogue stands, by every reading that is not far worse than the best.
    pub(super) fn standing(&self) -> Standing {
        let near = self.open.iter().filter(|it| it.bits <= NEAR);
        Standing::agreed(near.map(|it| it.state.standing()))
    }

    /// Adds the count to what is `known`, or why there is none.
    pub(super) fn finish(mut self, known: Inference) -> Inference {
        for reading in &mut self.open {
            reading.bits += reading.state.end();
        }
        let Some(best) = self.open.iter().min_by_key(|it| it.bits) else {
            return Inference { reason: Some(Reason::DoesNotFit), ..known };
        };
        let count = best.state.transactions;
        let others = self.open.iter().filter(|it| it.state.transactions != count);
        let other = others.map(|it| it.bits - best.bits).min();
        let margin_bits = [other, self.crowded_out].into_iter().flatten().min();
        if margin_bits.is_some_and(|bits| bits < margin(best.state.style, self.known.client)) {
            return Inference { reason: Some(Reason::Ambiguous), margin_bits, ..known };
        }
        let room = SPANS.min(count as usize).saturating_sub(self.spans.len());
        self.spans.extend(best.spans.iter().take(room));
        self.spans.truncate(count as usize);
        let kept = u32::try_from(self.spans.len()).unwrap_or(u32::MAX);
        let spans_omitted = count.saturating_sub(kept);
        Inference {
            transactions: Some(count),
            spans: self.spans,
            spans_omitted,
            margin_bits,
            ..known
        }
    }
}

impl Reading {
    fn follow(&self, state: State, bits: Bits, event: Event, exchange: &Exchange) -> Self {
        let mut next = Self { state, bits, ..self.clone() };
        if matches!(event, Event::Begun | Event::Whole) {
            next.begin_ns = exchange.begin_ns;
        }
        if matches!(event, Event::Ended | Event::Whole) {
            next.spans.push([next.begin_ns, exchange.end_ns]);
        }
        next
    }
}
