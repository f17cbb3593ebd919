//! The steps of the grammar that hand a message over: envelope, DATA or BDAT, body.

use super::{
    client::{self, Never},
    grammar::{Event, Kind, Phase, SHORT_COMMAND, State, Style},
    price::{self, Bits},
    steps::{BDAT, MAIL, RCPT, Steps},
};

/// Price of a write that ends with a full record by chance.
const CUT_WRITE: Bits = 20;
/// Messages of about the same size differ by so many bytes, their addresses included.
const AS_LONG: u32 = 24;
/// How much cheaper a message is that is about as long as the one before.
const SAME_SIZE: Bits = 4;

impl Steps<'_> {
    /// MAIL, RCPT and DATA, or MAIL and RCPT only.
    pub(super) fn envelope(&mut self, server: u32, late: Bits) {
        if !self.pipelines() {
            return;
        }
        let (client, last) = (self.x.client, self.from.lines[2]);
        let never = if self.offers_chunking() { client::NO_CHUNKS } else { Never::default() };
        let never = never.and(client::ENVELOPE);
        let all = MAIL + RCPT + SHORT_COMMAND;
        if let Some(lines) = price::commands(client, all, server, last) {
            let most = (client - MAIL - SHORT_COMMAND) / RCPT;
            let kinds = &[Kind::Mail, Kind::Data];
            let accepted = self.group(server, Kind::Envelope, kinds, most);
            let with_reset = &[Kind::Reset, Kind::Mail, Kind::Data];
            let reset = self.group(server, Kind::Envelope, with_reset, most);
            let reset = reset.filter(|it| it.expected).map(|it| it.with(lines) + 2);
            let accepted = accepted.map(|it| it.with(lines));
            let accepted = [accepted, reset].into_iter().flatten().min();
            self.push(accepted.map(|bits| bits + late), Event::Begun, |state| {
                state.phase = Phase::Body;
                state.replies[Kind::Envelope as usize] = server;
                state.lines[2] = client;
                state.not_of(never);
            });
            let refused = self.refused_envelope(server, &[Kind::Mail, Kind::Data], most);
            self.push(refused.map(|bits| bits + lines + late), Event::Nothing, |state| {
                state.phase = Phase::Refused;
                state.replies[Kind::RefusedEnvelope as usize] = server;
                state.not_of(never);
            });
        }
        if let Some(lines) = price::commands(client, MAIL + RCPT, server, last) {
            let most = (client - MAIL) / RCPT;
            let accepted = self.group(server, Kind::Envelope, &[Kind::Mail], most);
            let bits = accepted.map(|it| it.with(lines) + late + 3);
            self.push(bits, Event::Begun, |state| {
                state.phase = Phase::Rcpt;
                state.replies[Kind::Envelope as usize] = server;
                state.lines[2] = client;
            });
        }
    }

    /// Envelope, BDAT and body in one turn.
    pub(super) fn whole(&mut self, server: u32, late: Bits) {
        if !self.pipelines() || !self.chunks() {
            return;
        }
        let price = price::commands_and_body(self.x.client, MAIL + RCPT + BDAT);
        let Some(lines) = price else { return };
        let as_long = self.x.client.abs_diff(self.from.lines[4]) <= AS_LONG;
        let style = self.style(Style::Whole);
        let most = (self.x.client - MAIL - BDAT) / RCPT;
        let answer = |then| {
            let kind = if then == Kind::Last { Kind::Whole } else { Kind::Begun };
            let group = self.group(server, kind, &[Kind::Mail, then], most)?;
            Some((group.bits + lines + late + style, group.last))
        };
        let (last, chunk) = (answer(Kind::Last), answer(Kind::Chunk).map(|it| it.0));
        let last_bytes = last.map_or(0, |it| it.1);
        let last = last.map(|it| if as_long { it.0 - lines.min(SAME_SIZE) } else { it.0 });
        if self.x.is_cut() {
            let envelope = self.group(server, Kind::Envelope, &[Kind::Mail], most);
            let bits = envelope.map(|it| it.bits + lines + late + style);
            self.push(bits, Event::Begun, |state| {
                state.style = Some(Style::Whole);
                state.phase = Phase::Writing;
                state.lines[3] = u32::MAX;
                state.not_of(client::CHUNKS);
            });
        }
        let size = self.x.client;
        let learn = |state: &mut State, kind: Kind| {
            state.style = Some(Style::Whole);
            state.replies[kind as usize] = server;
            state.not_of(client::first_chunk(size, server));
        };
        let cut = if self.x.is_cut() { CUT_WRITE } else { 0 };
        self.push(last.map(|bits| bits + cut), Event::Whole, |state| {
            learn(state, Kind::Whole);
            state.lines[4] = size;
            if last_bytes != 0 {
                state.replies[Kind::Last as usize] = last_bytes;
            }
            state.handed_over(Phase::Ready);
        });
        let refused = self.refused_envelope(server, &[Kind::Mail, Kind::Last], most);
        self.push(refused.map(|bits| bits + lines + late + style), Event::Nothing, |state| {
            learn(state, Kind::RefusedEnvelope);
            state.phase = Phase::Refused;
        });
        self.push(chunk.map(|bits| bits + 4), Event::Begun, |state| {
            learn(state, Kind::Begun);
            state.phase = Phase::Chunk;
            state.lines[3] = size;
        });
    }

    /// What was left of a chunk when its envelope was answered.
    pub(super) fn rest_of_chunk(&mut self, server: u32) {
        let last = self.accepted(server, Kind::Last);
        let learned = self.final_kind(server, Kind::Last);
        self.push(last, Event::Ended, |state| {
            state.replies[learned as usize] = server;
            state.handed_over(Phase::Ready);
        });
        let chunk = self.accepted(server, Kind::Chunk).map(|bits| bits + 2);
        self.push(chunk, Event::Nothing, |state| {
            state.replies[Kind::Chunk as usize] = server;
            state.phase = Phase::Chunk;
        });
    }

    /// RCPT alone, or with DATA or BDAT after it.
    pub(super) fn recipients(&mut self, server: u32) {
        let (client, last) = (self.x.client, self.from.lines[1]);
        if let Some(line) = price::address_line(client, RCPT, last) {
            let accepted = self.accepted(server, Kind::Rcpt);
            let refused = self.refused(server, Kind::Rcpt);
            self.push(accepted.map(|bits| bits + line), Event::Nothing, |state| {
                state.phase = Phase::Rcpt;
                state.replies[Kind::Rcpt as usize] = server;
                state.lines[1] = client;
            });
            self.push(refused.map(|bits| bits + line), Event::Nothing, |state| {
                state.replies[Kind::Refused as usize] = server;
                if state.phase == Phase::Mail {
                    state.phase = Phase::NoRcpt;
                }
            });
        }
        if !self.pipelines() {
            return;
        }
        if let Some(lines) = price::commands(client, RCPT + SHORT_COMMAND, server, last) {
            let style = self.style(Style::Split);
            let most = (client - SHORT_COMMAND) / RCPT;
            let accepted = self.group(server, Kind::Data, &[Kind::Data], most);
            let accepted = accepted.map(|it| it.with(lines) + style);
            let accepted_before = self.from.replies[Kind::Data as usize];
            let refused = price::refused(server, 2, accepted_before, 0);
            self.push(accepted, Event::Nothing, |state| {
                state.style = Some(Style::Split);
                state.not_of(client::SPLIT);
                state.phase = Phase::Body;
                state.replies[Kind::Data as usize] = server;
                state.lines[1] = client;
            });
            self.push(refused.map(|bits| bits + lines), Event::Nothing, |state| {
                state.phase = Phase::Refused;
                state.not_of(client::SPLIT);
            });
        }
    }

    /// DATA alone.
    pub(super) fn data(&mut self, server: u32, late: Bits) {
        if self.x.client != SHORT_COMMAND {
            return;
        }
        let style = self.style(Style::Single);
        let accepted = self.accepted(server, Kind::Data).map(|bits| bits + style + late);
        let refused = self.refused(server, Kind::Data);
        self.push(accepted, Event::Nothing, |state| {
            state.style = Some(Style::Single);
            state.phase = Phase::Body;
            state.replies[Kind::Data as usize] = server;
        });
        let refused = refused.map(|bits| bits + late);
        self.push(refused, Event::Nothing, |state| state.phase = Phase::Refused);
    }

    /// A chunk with its BDAT, after the envelope or after another chunk.
    pub(super) fn bdat(&mut self, server: u32, after: Phase) {
        if !self.chunks() {
            return;
        }
        let (client, size) = (self.x.client, self.from.lines[3]);
        let Some(lines) = price::commands_and_body(client, BDAT) else { return };
        let first = after == Phase::Rcpt;
        let style = if first { self.style(Style::Bdat) } else { 0 };
        // Chunks are as long as the first, the last one shorter; and that first one was answered
        // together with its envelope, or alone.
        let before = if first { 0 } else { size };
        let grows = !first && client > size.saturating_add(16);
        let growing = if grows { client::GROWING } else { Never::default() };
        let whole = self.from.replies[Kind::Begun as usize];
        let with_envelope = self.from.style == Some(Style::Whole);
        let answer_too_long = !first
            && with_envelope
            && self.from.words.is_none()
            && server.saturating_add(2 * price::SHORTEST_REPLY) > whole;
        let unlikely = if answer_too_long { 6 } else { 0 };
        let mark = |state: &mut State| {
            if first {
                state.style = Some(Style::Bdat);
            }
        };
        let last = self.accepted(server, Kind::Last);
        let learned = self.final_kind(server, Kind::Last);
        self.push(last.map(|bits| bits + lines + style + unlikely), Event::Ended, |state| {
            mark(state);
            state.not_of(client::last_chunk(client, before).and(growing));
            state.replies[learned as usize] = server;
            state.handed_over(Phase::Ready);
        });
        // One of many as long as the last.
        let lines = if client == size { 0 } else { lines + 2 };
        let lines = lines + style + unlikely;
        let more = self.accepted(server, Kind::Chunk);
        self.push(more.map(|bits| bits + lines), Event::Nothing, |state| {
            mark(state);
            state.not_of(client::further_chunk(client, before).and(growing));
            state.replies[Kind::Chunk as usize] = server;
            state.lines[3] = client;
            state.phase = Phase::Chunk;
        });
    }

    /// The body, with its final dot, and QUIT after it or not.
    pub(super) fn body(&mut self, server: u32) {
        let style = match self.from.style {
            Some(Style::Single | Style::Split) => 0,
            _ => self.style(Style::Envelope),
        };
        let answer = self.accepted(server, Kind::Final);
        let learned = self.final_kind(server, Kind::Final);
        let bits = answer.zip(price::body(self.x.client)).map(|(a, b)| a + b + style);
        self.push(bits, Event::Ended, |state| {
            state.style = state.style.filter(|_| style == 0).or(Some(Style::Envelope));
            state.replies[learned as usize] = server;
            state.handed_over(Phase::Ready);
        });
    }
}
