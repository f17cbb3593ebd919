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
                Some(Step::Reply(reply)) if reply.code == 220 => {
                    self.dialogue.greeted(piece.time_ns);
                }
                Some(Step::Reply(reply)) => {
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

    fn piece(sequence: u32, text: &str) -> DecryptedReply {
        let mut piece = DecryptedReply { sequence, ..DecryptedReply::zeroed() };
        piece.bytes[..text.len()].copy_from_slice(text.as_bytes());
        piece.len = u32::try_from(text.len()).unwrap();
        piece
    }

    fn state(tls: u8, tls_pieces: u32) -> ConnectionState {
        ConnectionState { tls, tls_pieces, ..ConnectionState::zeroed() }
    }

    fn decrypted(pieces: &[DecryptedReply]) -> Decrypted {
        let mut decrypted = Decrypted::default();
        for piece in pieces {
            decrypted.piece(piece);
        }
        decrypted
    }

    fn count(mut decrypted: Decrypted, state: &ConnectionState) -> Option<u32> {
        let told = decrypted.told(state, false)?;
        assert!(told.exact);
        told.transactions
    }

    /// Lines as the kernel side cuts them, and where it happens to cut the stream.
    fn session() -> [DecryptedReply; 3] {
        [
            piece(0, "250-mx.example.n\n250-PIPELINING\r\n250 CHUNKING\r\n250 2.1.0 Ok\r\n250 2"),
            piece(1, ".1.5 Ok\r\n354 End data wit\n250 2.0.0 Ok: qu\n250 2.0.0 Ok\r\n"),
            piece(2, "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data wit\n554 5.7.1 Spam\r\n"),
        ]
    }

    #[test]
    fn messages_are_counted_from_cut_lines() {
        assert_eq!(count(decrypted(&session()), &state(tls::JOINED, 3)), Some(2));
    }

    #[test]
    fn greeting_of_implicit_tls_is_no_transaction() {
        let greeting = piece(0, "220-mx.example.ne\n220 ready\r\n");
        let [a, b, c] =
            session().map(|piece| DecryptedReply { sequence: piece.sequence + 1, ..piece });
        let decrypted = decrypted(&[greeting, a, b, c]);
        assert_eq!(count(decrypted, &state(tls::JOINED, 4)), Some(2));
    }

    #[test]
    fn nothing_said_after_the_handshake_is_no_message() {
        assert_eq!(count(Decrypted::default(), &state(tls::JOINED, 0)), Some(0));
    }

    #[test]
    fn no_count_if_anything_went_past_the_probes() {
        let decrypted = decrypted(&session());
        assert_eq!(count(decrypted.clone(), &state(0, 3)), None);
        assert_eq!(count(decrypted, &state(tls::JOINED | tls::GAP, 3)), None);
    }

    #[test]
    fn no_count_if_a_piece_is_missing() {
        let [first, second, third] = session();
        // In the middle, and at the end, where only the kernel side knows of it.
        assert_eq!(count(decrypted(&[first, third]), &state(tls::JOINED, 3)), None);
        assert_eq!(count(decrypted(&[first, second]), &state(tls::JOINED, 3)), None);
    }

    #[test]
    fn no_count_of_another_protocol() {
        let decrypted = decrypted(&[piece(0, "HTTP/1.1 200 OK\r\n")]);
        assert_eq!(count(decrypted, &state(tls::JOINED, 1)), None);
    }
}
