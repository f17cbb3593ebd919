//! The start of TLS: how long the handshake took, and what a record adds to its plaintext.
//!
//! Two witnesses are asked. The client's second flight has few possible lengths, and they tell the
//! version and the cipher. The EHLO sent in cleartext is repeated after the handshake, so its record is
//! longer by exactly the overhead.

use tracer_common::record::Turn;

/// AES-GCM and ChaCha20-Poly1305 of TLS 1.3: header 5, content type 1, tag 16.
const TLS13: u32 = 22;
/// AES-GCM and AES-CCM of TLS 1.2: header 5, nonce 8, tag 16.
const TLS12_GCM: u32 = 29;
/// ChaCha20-Poly1305 of TLS 1.2: header 5, tag 16.
const TLS12_CHACHA: u32 = 21;

/// Finished of TLS 1.3 in its record: 32 or 48 bytes of hash, 4 of header, the overhead; with the
/// `ChangeCipherSpec` that most clients put before it.
const TLS13_FLIGHTS: [u32; 4] = [58, 64, 74, 80];
/// An empty Certificate before it, if the server asked for one: none, in one record, in its own.
const TLS13_CERTIFICATES: [u32; 3] = [0, 8, 30];
/// `ClientKeyExchange` of TLS 1.2 in its record: X25519, X448, P-256, P-384, P-521, and RSA or finite
/// fields of 2048, 3072 and 4096 bits.
const TLS12_KEYS: [u32; 8] = [42, 66, 75, 107, 143, 267, 395, 523];
/// An empty Certificate before it.
const TLS12_CERTIFICATES: [u32; 2] = [0, 12];
/// `ChangeCipherSpec` (6), and Finished (16) in its record.
const TLS12_FINISHED: [(u32, u32); 2] = [(6 + 16 + 29, TLS12_GCM), (6 + 16 + 21, TLS12_CHACHA)];

/// Longest answer to a `ClientHello` that resumes a session of TLS 1.2; that of TLS 1.3 is longer.
const RESUMPTION_BYTES: u32 = 175;

/// Turns after the `ClientHello` in which the handshake must be understood: the server may ask for
/// another hello, and the flight may hold a client certificate of any length.
const TURNS: u32 = 3;

/// The line that asks for TLS: `STARTTLS` and line end.
const STARTTLS_BYTES: u32 = 10;

/// So many bytes the reply to EHLO may be shorter than it was in cleartext: it offers no STARTTLS.
const SHORTER: u32 = 40;

/// How a flight can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flight {
    overhead: u32,
    /// The server finishes after it: a full handshake of TLS 1.2.
    server_finishes: bool,
}

/// What a turn meant for the opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It belongs to the opening.
    More,
    /// It belongs to the opening and was the last.
    Consumed,
    /// The opening was complete before it: it belongs to the dialogue.
    Dialogue,
}

/// The handshake, and the EHLO after it.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    begin_ns: u64,
    end_ns: Option<u64>,
    /// Length of the EHLO; `None` before it is known.
    ehlo: Option<u32>,
    /// Length of the cleartext reply to it; `None` if there was none.
    ehlo_reply: Option<u32>,
    hello_reply: u32,
    turns: u32,
    /// The flight was seen; the EHLO is due, unless the flight held it.
    flight: Option<(Option<Flight>, Option<Flight>)>,
    overhead: Option<u32>,
}

impl Opening {
    /// After the cleartext turns `clear`, `hello` carried the `ClientHello`.
    pub(super) fn new(clear: &[Turn], hello: &Turn) -> Self {
        let ehlo = match clear {
            [.., ehlo, starttls] if starttls.client_bytes == STARTTLS_BYTES => Some(ehlo),
            _ => None,
        };
        Self {
            begin_ns: hello.start_ns,
            end_ns: None,
            ehlo: ehlo.map(|turn| turn.client_bytes),
            ehlo_reply: ehlo.map(|turn| turn.server_bytes),
            hello_reply: hello.server_bytes,
            turns: 0,
            flight: None,
            overhead: None,
        }
    }

    /// Takes the next turn after the hello.
    pub(super) fn turn(&mut self, turn: &Turn) -> Step {
        self.turns = self.turns.saturating_add(1);
        if let Some((alone, with_ehlo)) = self.flight {
            return self.after_flight(turn, alone, with_ehlo);
        }
        if self.turns > TURNS {
            return Step::More;
        }
        let alone = self.flight_alone(turn.client_bytes);
        let with_ehlo = self.flight_with_ehlo(turn.client_bytes);
        match (alone, with_ehlo) {
            (None, None) => self.unknown(turn),
            (None, Some(flight)) => {
                self.end_ns = Some(turn.start_ns);
                self.overhead = Some(flight.overhead);
                Step::Consumed
            }
            (Some(flight), _) => {
                let full = flight.server_finishes && turn.first_byte_ns != 0;
                self.end_ns = Some(if full { turn.first_byte_ns } else { turn.start_ns });
                self.flight = Some((alone, with_ehlo));
                Step::More
            }
        }
    }

    /// The turn after the flight is the EHLO, or the flight held it.
    fn after_flight(
        &mut self,
        turn: &Turn,
        alone: Option<Flight>,
        with_ehlo: Option<Flight>,
    ) -> Step {
        let confirmed = alone.filter(|flight| match self.ehlo {
            Some(ehlo) => turn.client_bytes == ehlo.saturating_add(flight.overhead),
            None => is_ehlo(turn.client_bytes.saturating_sub(flight.overhead)),
        });
        // The lengths fit both ways: the reply to an EHLO is about as long as it was in cleartext.
        let is_reply = |flight: &Flight| {
            let reply = turn.server_bytes.saturating_sub(flight.overhead);
            self.ehlo_reply.is_none_or(|clear| reply.saturating_add(SHORTER) >= clear)
        };
        let confirmed = confirmed.filter(|flight| with_ehlo.is_none() || is_reply(flight));
        match (confirmed, with_ehlo) {
            (Some(flight), _) => {
                self.overhead = Some(flight.overhead);
                self.ehlo = Some(turn.client_bytes - flight.overhead);
                Step::Consumed
            }
            (None, Some(flight)) => {
                self.overhead = Some(flight.overhead);
                Step::Dialogue
            }
            (None, None) => Step::More,
        }
    }

    /// A second hello, a flight of unknown length, or the EHLO after one.
    fn unknown(&mut self, turn: &Turn) -> Step {
        self.hello_reply = turn.server_bytes;
        let Some(ehlo) = self.ehlo.filter(|_| self.turns > 1) else { return Step::More };
        let known = [TLS13, TLS12_GCM, TLS12_CHACHA];
        self.overhead =
            known.into_iter().find(|overhead| turn.client_bytes == ehlo.saturating_add(*overhead));
        if self.overhead.is_none() {
            return Step::More;
        }
        self.end_ns = Some(turn.start_ns);
        Step::Consumed
    }

    fn flight_alone(&self, bytes: u32) -> Option<Flight> {
        let of = |overhead, server_finishes| Flight { overhead, server_finishes };
        if tls13_flights().any(|flight| flight == bytes) {
            return Some(of(TLS13, false));
        }
        for (finished, overhead) in TLS12_FINISHED {
            let full = |key: &u32| TLS12_CERTIFICATES.iter().any(|it| it + key + finished == bytes);
            if TLS12_KEYS.iter().any(full) {
                return Some(of(overhead, true));
            }
            if finished == bytes && self.hello_reply < RESUMPTION_BYTES {
                return Some(of(overhead, false));
            }
        }
        None
    }

    fn flight_with_ehlo(&self, bytes: u32) -> Option<Flight> {
        let ehlo = self.ehlo?;
        let of = |overhead| Flight { overhead, server_finishes: false };
        let resumed =
            |(finished, overhead): &(u32, u32)| ehlo.saturating_add(finished + overhead) == bytes;
        if self.hello_reply < RESUMPTION_BYTES {
            return TLS12_FINISHED.iter().find(|it| resumed(it)).map(|it| of(it.1));
        }
        tls13_flights()
            .any(|flight| ehlo.saturating_add(flight + TLS13) == bytes)
            .then(|| of(TLS13))
    }

    /// Bytes that a record adds, once known.
    pub(super) fn overhead(&self) -> Option<u32> {
        self.overhead
    }

    /// Length of the EHLO in plaintext, once known.
    pub(super) fn ehlo_bytes(&self) -> Option<u32> {
        self.ehlo
    }

    /// Begin and end of the handshake.
    pub(super) fn handshake(&self) -> Option<(u64, u64)> {
        self.end_ns.map(|end_ns| (self.begin_ns, end_ns))
    }
}

fn tls13_flights() -> impl Iterator<Item = u32> {
    let sum = |flight| TLS13_CERTIFICATES.into_iter().map(move |it| it + flight);
    TLS13_FLIGHTS.into_iter().flat_map(sum)
}

/// `EHLO x` and line end, up to the longest host name.
fn is_ehlo(bytes: u32) -> bool {
    (8..=262).contains(&bytes)
}
