//! What it costs to believe that a reply was a certain one: as long as the words of the server make it, or as
//! it was before.

use super::{
    grammar::Kind,
    price::{self, Bits},
    steps::Steps,
    words::{OTHER_WORDS, Priced},
};

/// Price of a refused body, where the words of the server are known.
const BODY_REFUSED: Bits = 9;
/// Price of one refused like another before.
const BODY_REFUSED_AGAIN: Bits = 4;
/// Price of a reply to QUIT that came with the one to the body.
const WITH_QUIT: Bits = 3;
/// Price, besides that of a reply of any length, of an envelope that was accepted for a part of its
/// recipients.
const SOME_REFUSED: Bits = 4;
/// Most that commands cost by their length, if their replies are as long as expected.
const EXPECTED_LINES: Bits = 5;

/// Replies to several commands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) bits: Bits,
    /// They are as long as the words of the server make them.
    pub(super) expected: bool,
    /// Bytes of the reply to the last chunk among them, 0 for none.
    pub(super) last: u32,
}

impl Group {
    /// With commands that have a price of `lines` by their own length.
    pub(super) fn with(self, lines: Bits) -> Bits {
        self.bits + if self.expected { lines.min(EXPECTED_LINES) } else { lines }
    }
}

impl Steps<'_> {
    /// The price of a positive reply of `server` bytes to one command.
    pub(super) fn accepted(&self, server: u32, kind: Kind) -> Option<Bits> {
        let unworded = self.unworded(server, 1, kind)?;
        let Some(words) = self.from.words else { return Some(unworded) };
        let is_final = matches!(kind, Kind::Final | Kind::Last);
        Some(match words.price(kind, self.x.client, server) {
            // Unlike the words, the last such reply tells its length.
            Priced::Like(bits) if is_final || kind == Kind::Chunk => bits.min(unworded),
            Priced::Like(bits) => bits,
            Priced::Unknown | Priced::Group { .. } => unworded,
            Priced::Other if is_final => self.refused_or_quit(server, kind),
            Priced::Other => unworded + OTHER_WORDS,
        })
    }

    /// Which kind of reply the final one of `server` bytes is: positive, or a refusal, where the words of the
    /// server tell them apart.
    pub(super) fn final_kind(&self, server: u32, kind: Kind) -> Kind {
        let words = self.from.words.map(|words| words.price(kind, self.x.client, server));
        if words == Some(Priced::Other) { Kind::RefusedBody } else { kind }
    }

    /// A body got another reply than usual: the reply to QUIT came with it, or it was refused.
    pub(super) fn refused_or_quit(&self, server: u32, kind: Kind) -> Bits {
        let Some(words) = self.from.words else { return BODY_REFUSED };
        let with_quit = words.quit().any(|quit| {
            [0, self.x.overhead, 2 + 2 * self.x.overhead].into_iter().any(|records| {
                let rest = server.saturating_sub(quit + records);
                matches!(words.price(kind, self.x.client, rest), Priced::Like(_))
            })
        });
        let refused_before = self.from.replies[Kind::RefusedBody as usize];
        match server {
            _ if with_quit => WITH_QUIT,
            _ if server == refused_before => BODY_REFUSED_AGAIN,
            _ => BODY_REFUSED,
        }
    }

    /// The price of positive replies of `server` bytes to `kinds` and at most `most` RCPT; whether they are
    /// as long as expected, and what the reply to a last chunk among them had.
    pub(super) fn group(
        &self,
        server: u32,
        kind: Kind,
        kinds: &[Kind],
        most: u32,
    ) -> Option<Group> {
        let replies = u32::try_from(kinds.len()).unwrap_or(u32::MAX).saturating_add(1);
        let unworded = self.unworded(server, replies, kind)?;
        let other = |bits| Group { bits, expected: false, last: 0 };
        let Some(words) = self.from.words else { return Some(other(unworded)) };
        let last = self.from.replies[Kind::Last as usize];
        let with_body = kinds.iter().any(|kind| matches!(kind, Kind::Last | Kind::Chunk));
        Some(match words.group(kinds, most, self.x.client, server, self.x.overhead, last) {
            Priced::Group { bits, last, recipients } => {
                let long = if with_body { 0 } else { price::long_lines(self.x.client, recipients) };
                // The same replies again have the same length.
                Group { bits: bits.min(unworded) + long, expected: true, last }
            }
            Priced::Like(_) | Priced::Unknown => other(unworded),
            // A part of the recipients was refused.
            Priced::Other => other(unworded + SOME_REFUSED),
        })
    }

    /// The price of a refusal of `server` bytes to one command of `kind`.
    pub(super) fn refused(&self, server: u32, kind: Kind) -> Option<Bits> {
        let accepted = self.from.replies[kind as usize];
        let before = self.from.replies[Kind::Refused as usize];
        let bits = price::refused(server, 1, accepted, before)?;
        let words = self.from.words.map(|words| words.price(kind, self.x.client, server));
        Some(match words {
            Some(Priced::Like(_)) => bits + OTHER_WORDS,
            _ => bits,
        })
    }

    /// The price of an envelope of which nothing was accepted, `kinds` besides its recipients.
    pub(super) fn refused_envelope(&self, server: u32, kinds: &[Kind], most: u32) -> Option<Bits> {
        let accepted = self.from.replies[Kind::Envelope as usize];
        let before = self.from.replies[Kind::RefusedEnvelope as usize];
        let bits = price::refused(server, 3, accepted, before)?;
        let words = self.from.words;
        let words =
            words.map(|words| words.group(kinds, most, self.x.client, server, self.x.overhead, 0));
        Some(match words {
            Some(Priced::Group { recipients: ..=2, .. }) => bits + OTHER_WORDS,
            // Some number of recipients fits nearly any length.
            Some(Priced::Group { .. }) => bits + 1,
            Some(Priced::Other) => bits.min(price::REFUSED + SOME_REFUSED),
            _ => bits,
        })
    }

    /// The price of positive replies, whoever may speak.
    pub(super) fn unworded(&self, server: u32, replies: u32, kind: Kind) -> Option<Bits> {
        let last = self.from.replies[kind as usize];
        let bits = price::accepted(server, replies, last, self.x.overhead)?;
        let line = match kind {
            Kind::Mail => self.from.lines[0],
            Kind::Rcpt => self.from.lines[1],
            _ => 0,
        };
        // A reply that repeats the address differs from the last as the commands do.
        if line != 0 && server.wrapping_sub(last) == self.x.client.wrapping_sub(line) {
            return Some(bits.min(2));
        }
        Some(match kind {
            // The same words each time.
            Kind::Data if replies == 1 && bits >= price::NEW_LENGTH => bits + 5,
            // 354 says more than 250, and is another reply than that to RSET.
            Kind::Data if replies == 1 && last == 0 => {
                let as_reset = server == self.from.replies[Kind::Reset as usize];
                bits + if server < 17 { 4 } else { 0 } + if as_reset { 6 } else { 0 }
            }
            Kind::Reset if server == self.from.replies[Kind::Data as usize] => bits + 6,
            // One reply as long as the three before it: a coincidence.
            Kind::Final if last == 0 && server == self.from.replies[Kind::Envelope as usize] => {
                bits + 5
            }
            // The reply to a QUIT in the same turn.
            Kind::Final if last != 0 && (9..=70).contains(&server.saturating_sub(last)) => {
                bits.min(4)
            }
            _ => bits,
        })
    }
}
