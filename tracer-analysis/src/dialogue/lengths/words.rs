//! The words of well-known servers, by their lengths: a reply as long as theirs is likely theirs.
//!
//! Which server speaks is read from its greeting, or, with implicit TLS and behind a greeting that tells
//! nothing, tried: a reading assumes one of them or none, and the replies decide. Lengths include the line
//! end. The texts are those of the servers' sources and of recorded sessions; a server may be configured to
//! say something else, so a reply of another length is dear and not impossible.

use std::ops::RangeInclusive;

use super::{
    grammar::{Kind, SHORT_COMMAND},
    price::{Bits, SHORTEST_REPLY},
};
use crate::smtp::Reply;

/// A server whose words are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Words {
    /// `250 2.1.0 Ok`, `354 End data with <CR><LF>.<CR><LF>`.
    Postfix,
    /// `250 OK`, `250 Accepted`, `354 Enter message, ending with "." on a line by itself`.
    Exim,
    /// `250 2.1.0 OK` and an identifier of so many bytes, ` - gsmtp` included.
    Google(u16),
    /// `250 2.1.0 Sender OK`, `354 Start mail input; end with <CRLF>.<CRLF>`.
    Microsoft,
    /// `250 2.1.0 <sender>... Sender ok`, `354 Enter mail, end with "." on a line by itself`.
    Sendmail,
    /// `250 2.1.5 Destination address valid: Recipient ok`.
    OpenSmtpd,
}

/// Those that can be told by their lengths alone.
pub(super) const TRIED: [Words; 5] =
    [Words::Postfix, Words::Exim, Words::Microsoft, Words::Sendmail, Words::OpenSmtpd];

/// Identifiers of one Google session differ by so many digits.
const GOOGLE_DIGITS: u32 = 2;

/// `250 2.1.0 <a>... Sender ok` is so much longer than `MAIL FROM:<a>`.
const SENDMAIL_MAIL: u32 = 13;
/// `250 2.1.5 <a>... Recipient ok` is so much longer than `RCPT TO:<a>`.
const SENDMAIL_RCPT: u32 = 18;
/// Replies to two last chunks differ by so many bytes at most.
const VARIES: u32 = 4;
/// Bytes of parameters that a command may have and its reply does not repeat.
const ECHO_LESS: u32 = 40;
/// Recipients of one message that are tried.
const RECIPIENTS: u32 = 200;

/// Price of a reply that is not in the words of the server.
pub(super) const OTHER_WORDS: Bits = 10;
/// Price of a reply of one certain length.
const SAME: Bits = 1;
/// Price of a reply whose length varies.
const LOOSE: Bits = 4;

/// In whose words the greeting is.
pub(super) fn of_greeting(reply: &Reply) -> Option<Words> {
    let text = String::from_utf8_lossy(&reply.last);
    let mut words = text.split([' ', '/', ';']).skip(1);
    let named = words.find_map(|word| match word {
        "Postfix" => Some(Words::Postfix),
        "Exim" => Some(Words::Exim),
        "Microsoft" => Some(Words::Microsoft),
        "Sendmail" => Some(Words::Sendmail),
        "OpenSMTPD" => Some(Words::OpenSmtpd),
        _ => None,
    });
    named.or_else(|| {
        let google = text.strip_suffix(" - gsmtp")?;
        let identifier = google.rsplit(' ').next()?;
        let bytes = identifier.len().checked_add(" - gsmtp".len())?;
        u16::try_from(bytes).ok().map(Words::Google)
    })
}

impl Words {
    /// Lengths of the positive reply to one command in a turn of `client` bytes; `None` if any.
    #[expect(clippy::match_same_arms, reason = "a table, one server after the other")]
    fn lengths(self, kind: Kind, client: u32) -> Option<RangeInclusive<u32>> {
        let exact = |bytes| Some(bytes..=bytes);
        let digits = digits(client);
        let between = |low: u32, high: u32| Some(low + digits.start()..=high + digits.end());
        match (self, kind) {
            (Self::Postfix, Kind::Mail | Kind::Rcpt | Kind::Reset | Kind::Noop) => exact(14),
            (Self::Postfix, Kind::Data) => exact(37),
            (Self::Postfix, Kind::Final) => Some(34..=42),
            // 250 2.0.0 Ok: 1234 bytes queued as ID
            (Self::Postfix, Kind::Last) => between(42, 49),
            (Self::Postfix, Kind::Chunk) => between(22, 22),
            (Self::Postfix, Kind::Quit) => exact(15),
            (Self::Postfix | Self::Microsoft, Kind::Auth) => exact(37),
            (Self::Exim, Kind::Auth) => exact(30),
            (Self::Google(_), Kind::Auth) => exact(20),
            (Self::Sendmail, Kind::Auth) => exact(28),
            (Self::OpenSmtpd, Kind::Auth) => exact(36),
            (Self::Exim, Kind::Mail | Kind::Noop) => exact(8),
            (Self::Exim, Kind::Rcpt | Kind::Reset) => exact(14),
            (Self::Exim, Kind::Data) => exact(56),
            (Self::Exim, Kind::Final) => Some(28..=35),
            // 250- 1234 byte chunk, total 1234, and 250 OK id=ID
            (Self::Exim, Kind::Last) => Some(54 + 2 * digits.start()..=64 + 2 * digits.end()),
            (Self::Exim, Kind::Chunk) => between(26, 26),
            (Self::Google(identifier), kind) => google(u32::from(identifier), kind),
            (Self::Microsoft, Kind::Mail | Kind::Reset) => exact(21),
            (Self::Microsoft, Kind::Rcpt) => exact(24),
            (Self::Microsoft, Kind::Data) => exact(46),
            (Self::Microsoft, Kind::Noop) => exact(14),
            (Self::Microsoft, Kind::Final | Kind::Last) => Some(90..=320),
            (Self::Microsoft, Kind::Chunk) => Some(18..=50),
            (Self::Microsoft, Kind::Quit) => exact(48),
            (Self::Sendmail, Kind::Data) => exact(50),
            (Self::Sendmail, Kind::Reset) => exact(23),
            (Self::Sendmail, Kind::Noop) => exact(14),
            (Self::Sendmail, Kind::Final | Kind::Last) => Some(50..=60),
            (Self::OpenSmtpd, Kind::Mail | Kind::Noop) => Some(14..=15),
            (Self::OpenSmtpd, Kind::Rcpt | Kind::Data) => exact(50),
            (Self::OpenSmtpd, Kind::Reset) => Some(23..=24),
            (Self::OpenSmtpd, Kind::Final) => Some(50..=51),
            (Self::OpenSmtpd, Kind::Quit) => Some(15..=16),
            _ => None,
        }
    }

    /// The price of a positive reply of `server` bytes to one command of `client` bytes.
    pub(super) fn price(self, kind: Kind, client: u32, server: u32) -> Priced {
        if self == Self::Sendmail && matches!(kind, Kind::Mail | Kind::Rcpt) {
            let longer = if kind == Kind::Mail { SENDMAIL_MAIL } else { SENDMAIL_RCPT };
            return echoed(client + longer, server);
        }
        let Some(lengths) = self.lengths(kind, client) else { return Priced::Unknown };
        if !lengths.contains(&server) {
            return Priced::Other;
        }
        Priced::Like(spread(lengths.end() - lengths.start()))
    }

    /// Whether this server offers PIPELINING.
    pub(super) fn pipelines(self) -> bool {
        self != Self::OpenSmtpd
    }

    /// Whether this server offers CHUNKING.
    pub(super) fn chunks(self) -> bool {
        !matches!(self, Self::Sendmail | Self::OpenSmtpd)
    }

    /// The longest and the shortest reply to QUIT, as far as known.
    pub(super) fn quit(self) -> RangeInclusive<u32> {
        self.lengths(Kind::Quit, 0).unwrap_or(9..=70)
    }

    /// The price of positive replies of `server` bytes to `kinds` and between one and `most` RCPT, in a turn
    /// of `client` bytes. Each reply may be a record of its own, longer by `overhead`. The last chunk before
    /// was answered with `last` bytes, 0 for none.
    pub(super) fn group(
        self,
        kinds: &[Kind],
        most: u32,
        client: u32,
        server: u32,
        overhead: u32,
        last: u32,
    ) -> Priced {
        let of = |kind: &Kind| match (self, kind) {
            (_, Kind::Last) if last != 0 => Some(last.saturating_sub(VARIES)..=last + VARIES),
            (Self::Sendmail, Kind::Mail) => Some(SENDMAIL_MAIL..=SENDMAIL_MAIL),
            (Self::Sendmail, Kind::Rcpt) => Some(SENDMAIL_RCPT..=SENDMAIL_RCPT),
            _ => self.lengths(*kind, client),
        };
        let Some(rcpt) = of(&Kind::Rcpt) else { return Priced::Unknown };
        let (mut shortest, mut longest) = (0, 0);
        for kind in kinds {
            let Some(lengths) = of(kind) else { return Priced::Unknown };
            shortest += lengths.start();
            longest += lengths.end();
        }
        // Where the reply to the last chunk is known, the same length again is likelier than others.
        let known_last = last != 0 && kinds.contains(&Kind::Last);
        let expected_last = if known_last { VARIES } else { u32::MAX / 2 };
        let least_last = of(&Kind::Last).map_or(0, |lengths| *lengths.start());
        let commands = kinds.iter().filter(|kind| matches!(kind, Kind::Data | Kind::Reset)).count();
        let others = u32::try_from(kinds.len()).unwrap_or(u32::MAX);
        for recipients in 1..=most.clamp(1, RECIPIENTS) {
            let (low, high) =
                (shortest + recipients * rcpt.start(), longest + recipients * rcpt.end());
            if low > server {
                break;
            }
            let records = (recipients + others).saturating_sub(1) * overhead;
            for server in [Some(server), server.checked_sub(records)].into_iter().flatten() {
                let fits = if self == Self::Sendmail {
                    let commands = u32::try_from(commands).unwrap_or_default() * SHORT_COMMAND;
                    echoed(client.saturating_sub(commands) + low, server)
                } else if (low..=high).contains(&server) {
                    Priced::Like(spread(high - low))
                } else {
                    Priced::Other
                };
                if let Priced::Like(bits) = fits {
                    let bits =
                        if server == low.saturating_add(expected_last) { SAME } else { bits };
                    let rest = server.saturating_sub(low) + least_last;
                    return Priced::Group {
                        bits: bits + several(recipients),
                        last: rest,
                        recipients,
                    };
                }
            }
        }
        Priced::Other
    }
}

/// Replies that repeat the addresses of their commands: `expected` bytes, less what the commands say
/// besides (`SIZE=`, `BODY=`).
fn echoed(expected: u32, server: u32) -> Priced {
    match expected.checked_sub(server) {
        Some(0) => Priced::Like(SAME),
        Some(1..=ECHO_LESS) => Priced::Like(LOOSE),
        _ => Priced::Other,
    }
}

fn google(identifier: u32, kind: Kind) -> Option<RangeInclusive<u32>> {
    let text = match kind {
        Kind::Mail | Kind::Rcpt | Kind::Data | Kind::Noop | Kind::Chunk => 13,
        Kind::Reset => 18,
        Kind::Final | Kind::Last => 25,
        Kind::Quit => 29,
        _ => return None,
    };
    // A space stands before the identifier, the line end after it.
    let bytes = text + identifier + 2;
    Some(bytes.saturating_sub(GOOGLE_DIGITS).max(SHORTEST_REPLY)..=bytes + GOOGLE_DIGITS)
}

/// The price of a message for so many recipients.
fn several(recipients: u32) -> Bits {
    match recipients {
        ..=1 => 0,
        2..=3 => 2,
        4..=20 => 4,
        _ => 6,
    }
}

/// The price of one length among `width` more that are as likely.
fn spread(width: u32) -> Bits {
    SAME + width.saturating_add(1).ilog2()
}

/// How many digits the size of a chunk may have that came in a turn of `client` bytes, with its envelope or
/// after other chunks.
fn digits(client: u32) -> RangeInclusive<u32> {
    let of = |bytes: u32| bytes.checked_ilog10().unwrap_or_default() + 1;
    of(client.saturating_sub(200))..=of(client)
}

/// How a reply compares with the words of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priced {
    /// As long as expected, at this price.
    Like(Bits),
    /// Several replies as long as expected in sum; the one to the last chunk, if there was one, had
    /// `last` bytes.
    Group {
        /// The price.
        bits: Bits,
        /// Bytes.
        last: u32,
        /// Recipients.
        recipients: u32,
    },
    /// Of another length.
    Other,
    /// Nothing is known of such replies.
    Unknown,
}
