//! What the server said under TLS, as probes on the TLS library saw it. Only the beginning of each line
//! is known; only the number of messages is kept.

use tracer_common::record::{ConnectionState, DecryptedReply, Turn, tls};

use crate::{
    dialogue::replies::{Dialogue, Said, Told},
    smtp::{ReplyParser, Step},
};

/// The decrypted part of the server's stream.
#[derive(Debug, Clone)]
pub(super) struct Decrypted {
    parser: ReplyParser,
    /// Pieces taken.
    pieces: u32,
    /// A piece is missing, or something is no reply.
    broken: bool,
    /// A reply was read.
    spoken: bool,
    /// When the first byte of the reply under way was read.
    begin_ns: u64,
    dialogue: Dialogue,
}

impl Default for Decrypted {
    fn default() -> Self {
        Self {
            parser: ReplyParser::new(),
            pieces: 0,
            broken: false,
            spoken: false,
            begin_ns: 0,
            dialogue: Dialogue::encrypted(),
        }
    }
}

impl Decrypted {
    /// Takes the next piece.
    pub(super) fn piece(&mut self, piece: &DecryptedReply) {
        self.broken |= piece.sequence != self.pieces;
        self.pieces = self.pieces.saturating_add(1);
        for byte in piece.in_use() {
            if self.parser.is_between_replies() {
                self.begin_ns = piece.time_ns;
            }
            match self.parser.feed(*byte) {
                None => {}
                // With implicit TLS the greeting is decrypted too.
                Some(Step::Reply(reply)) if reply.code == 220 && !self.spoken => {
                    self.spoken = true;
                    self.dialogue.greeted(&reply, piece.time_ns);
                }
                Some(Step::Reply(reply)) => {
                    self.spoken = true;
                    self.dialogue.reply(Said::new(&reply, self.begin_ns, piece.time_ns));
                }
                Some(Step::Tls | Step::NotAReply) => self.broken = true,
            }
        }
    }

    /// Takes the next turn. A turn is handed over after the replies to it were read, so those before the
    /// first piece do not matter.
    pub(super) fn turn(&mut self, turn: &Turn) {
        if self.pieces > 0 {
            self.dialogue.turn(turn);
        }
    }

    /// What was told, with a number of messages; `None` unless every reply that was read since the
    /// handshake is known: the handshake went through the probes, nothing was received past them, no
    /// piece was lost. What was said is used up.
    pub(super) fn told(&mut self, state: &ConnectionState, turns_missing: bool) -> Option<Told> {
        let watched = state.tls & (tls::JOINED | tls::GAP) == tls::JOINED;
        if !watched || self.broken || self.pieces != state.tls_pieces {
            return None;
        }
        let told = std::mem::take(self).dialogue.finish(turns_missing);
        told.transactions.is_some().then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    /// Replies as the kernel side cuts their lines, one group per turn.
    const SESSION: [&str; 6] = [
        "250-mx.example.n\n250-PIPELINING\r\n250 CHUNKING\r\n",
        "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data wit\n",
        "250 2.0.0 Ok: qu\n",
        "250 2.0.0 Ok\r\n",
        "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data wit\n",
        "554 5.7.1 Spam\r\n",
    ];

    fn piece(sequence: usize, time_ns: u64, text: &str) -> DecryptedReply {
        let sequence = u32::try_from(sequence).unwrap();
        let mut piece = DecryptedReply { sequence, time_ns, ..DecryptedReply::zeroed() };
        piece.bytes[..text.len()].copy_from_slice(text.as_bytes());
        piece.len = u32::try_from(text.len()).unwrap();
        piece
    }

    fn turn(start_ns: u64) -> Turn {
        Turn { start_ns, first_byte_ns: start_ns + 1, last_ns: start_ns + 1, ..Turn::zeroed() }
    }

    /// What the server said to each turn, in pieces of at most `cut` bytes; without piece `lost`.
    fn decrypted(said: &[&str], cut: usize, lost: Option<usize>) -> (Decrypted, u32) {
        let mut decrypted = Decrypted::default();
        let mut pieces = 0;
        for (at, text) in (1..).zip(said) {
            for part in text.as_bytes().chunks(cut) {
                if lost != Some(pieces) {
                    let part = str::from_utf8(part).unwrap();
                    decrypted.piece(&piece(pieces, at * 1_000 + 500, part));
                }
                pieces += 1;
            }
            decrypted.turn(&turn(at * 1_000));
        }
        (decrypted, u32::try_from(pieces).unwrap())
    }

    fn count(tls: u8, (mut decrypted, tls_pieces): (Decrypted, u32)) -> Option<u32> {
        let state = ConnectionState { tls, tls_pieces, ..ConnectionState::zeroed() };
        let told = decrypted.told(&state, false)?;
        assert!(told.exact);
        told.transactions
    }

    #[test]
    fn messages_are_counted_from_cut_lines() {
        for cut in [5, 16, 50, 128] {
            assert_eq!(count(tls::JOINED, decrypted(&SESSION, cut, None)), Some(2), "{cut}");
        }
    }

    #[test]
    fn greeting_of_implicit_tls_is_no_transaction() {
        let said = [&["220-mx.example.ne\n220 ready\r\n"], &SESSION[..]].concat();
        assert_eq!(count(tls::JOINED, decrypted(&said, 128, None)), Some(2));
    }

    #[test]
    fn nothing_said_after_the_handshake_is_no_message() {
        assert_eq!(count(tls::JOINED, (Decrypted::default(), 0)), Some(0));
    }

    #[test]
    fn no_count_if_anything_went_past_the_probes() {
        assert_eq!(count(0, decrypted(&SESSION, 128, None)), None);
        assert_eq!(count(tls::JOINED | tls::GAP, decrypted(&SESSION, 128, None)), None);
    }

    #[test]
    fn no_count_if_a_piece_is_missing() {
        // In the middle, and at the end, where only the kernel side knows of it.
        for lost in [3, 5] {
            assert_eq!(count(tls::JOINED, decrypted(&SESSION, 128, Some(lost))), None);
        }
    }

    #[test]
    fn no_count_of_another_protocol() {
        assert_eq!(count(tls::JOINED, decrypted(&["HTTP/1.1 200 OK\r\n"], 128, None)), None);
    }
}
