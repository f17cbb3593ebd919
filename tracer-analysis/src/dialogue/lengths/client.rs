//! What the mail server at this end never says: a reading that has it say so is of another program.
//!
//! From their sources (Postfix `smtp_proto.c`, Exim `transport.c` and `transports/smtp.c`, `OpenSMTPD`
//! `mta_session.c`, `KumoMTA` `rfc5321/src/client.rs`) and, for Sendmail, recorded sessions.

use super::price::Bits;
use crate::mta::Mta;

/// Price of what the client never says. Its process may have the name and be another program.
const FOREIGN: Bits = 10;
/// Price of RSET where Exim needs none, and of NOOP, which no known client sends. Unlike others, these come
/// again and again where they come at all.
const UNNEEDED: Bits = 14;
/// Price of chunks that grow, for clients that are not known to do that.
const GROWING_CHUNKS: Bits = 8;

/// Exim collects a message in so many bytes. What is longer goes as a first chunk of headers, and the rest as
/// the last.
const EXIM_BUFFER: u32 = 8_192;
/// Bytes of commands for each byte of the replies to them.
const COMMANDS: u32 = 8;
/// Shortest MAIL, RCPT and two BDAT: what two turns have besides the message.
const LEAST_COMMANDS: u32 = 43;
/// Headers that fill Exim's buffer go in chunks of at least so many bytes.
const FULL: u32 = 7_000;

/// Clients that never speak as a reading says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Never(u8);

/// BDAT.
pub(super) const CHUNKS: Never =
    Never::any(&[Mta::Postfix, Mta::Opensmtpd, Mta::Sendmail, Mta::Kumomta]);
/// MAIL, RCPT and DATA in one turn.
pub(super) const ENVELOPE: Never = Never::any(&[Mta::Opensmtpd, Mta::Sendmail]);
/// MAIL, then RCPT and DATA in one turn.
pub(super) const SPLIT: Never =
    Never::any(&[Mta::Postfix, Mta::Exim, Mta::Opensmtpd, Mta::Kumomta]);
/// A message without RSET after the one before.
pub(super) const NO_RESET: Never = Never::any(&[Mta::Postfix, Mta::Sendmail]);
/// A message without RSET after one that was refused.
pub(super) const NO_RESET_AFTER_REFUSAL: Never =
    Never::any(&[Mta::Postfix, Mta::Exim, Mta::Sendmail]);
/// MAIL alone, to a server that offers PIPELINING.
pub(super) const MAIL_ALONE: Never = Never::any(&[Mta::Postfix, Mta::Exim, Mta::Kumomta]);
/// DATA, to a server that offers CHUNKING.
pub(super) const NO_CHUNKS: Never = Never::any(&[Mta::Exim]);
/// A chunk longer than the one before.
pub(super) const GROWING: Never = Never(1 << 7);

impl Never {
    const fn any(mtas: &[Mta]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < mtas.len() {
            bits |= 1 << mtas[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    fn exim(never: bool) -> Self {
        if never { Self::any(&[Mta::Exim]) } else { Self::default() }
    }

    /// These and those.
    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What a reading that has such things costs more if the client is `mta`.
    pub(super) fn price(self, mta: Option<Mta>) -> Bits {
        let foreign = mta.is_some_and(|mta| self.0 & (1 << mta as u8) != 0);
        let growing = mta != Some(Mta::Exim) && self.0 & GROWING.0 != 0;
        u32::from(foreign) * FOREIGN + u32::from(growing) * GROWING_CHUNKS
    }
}

/// The price of RSET after a message: Exim sends it only if no recipient was accepted.
pub(super) fn reset_after_message(client: Option<Mta>) -> Bits {
    if client == Some(Mta::Exim) { UNNEEDED } else { 0 }
}

/// The price of NOOP.
pub(super) fn noop(client: Option<Mta>) -> Bits {
    if client.is_some() { UNNEEDED } else { 4 }
}

/// Of a first chunk that came with its envelope in `client` bytes, to which the replies had `server`.
pub(super) fn first_chunk(client: u32, server: u32) -> Never {
    let most = EXIM_BUFFER.saturating_add(server.saturating_mul(COMMANDS));
    CHUNKS.and(Never::exim(client > most))
}

/// Of the last chunk, of `client` bytes, after one of `before` bytes, 0 for none.
pub(super) fn last_chunk(client: u32, before: u32) -> Never {
    let short = client.saturating_add(before) <= EXIM_BUFFER + LEAST_COMMANDS;
    let never = if before == 0 { client > EXIM_BUFFER + LEAST_COMMANDS } else { short };
    CHUNKS.and(Never::exim(never))
}

/// Of a chunk of `client` bytes, not the last, after one of `before` bytes, 0 for none.
pub(super) fn further_chunk(client: u32, before: u32) -> Never {
    let full = before == 0 || before >= FULL;
    CHUNKS.and(Never::exim(!full || client > EXIM_BUFFER + LEAST_COMMANDS))
}
