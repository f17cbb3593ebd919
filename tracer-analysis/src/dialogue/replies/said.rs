//! What is kept of a reply: its code, its times, and what its words say about the command it answers.

use crate::smtp::Reply;

/// What an enhanced status code speaks of (RFC 3463 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// There is no such code.
    Unsaid,
    /// X.1.5: a valid recipient.
    Recipient,
    /// Any other X.1: an address.
    Address,
    /// X.6: the content of a message.
    Content,
    /// Anything else.
    Other,
}

/// A reply of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct Said {
    /// Its first byte arrived, `CLOCK_BOOTTIME`.
    pub(super) begin_ns: u64,
    /// Its last byte arrived.
    pub(super) complete_ns: u64,
    /// Reply code.
    pub(super) code: u16,
    /// What its enhanced status code speaks of.
    pub(super) subject: Subject,
    /// It says that a message was taken: only the reply to a body does.
    pub(super) names_message: bool,
    /// It says how many bytes came: the reply to a chunk does, as a rule.
    pub(super) names_chunk: bool,
    /// It refuses because the server has waited too long for us, by its code or its words.
    pub(super) times_out: bool,
    /// It offers CHUNKING.
    pub(super) offers_chunking: bool,
    /// It offers PIPELINING.
    pub(super) offers_pipelining: bool,
    /// It offers XEXCH50, which has a 354 of its own.
    pub(super) offers_xexch50: bool,
    /// Its first and last line differ.
    pub(super) several_lines: bool,
    /// A hash of its words, without those that have digits in them.
    pub(super) words: u32,
}

impl Said {
    /// A reply whose first and last byte arrived at these times.
    pub(crate) fn new(reply: &Reply, begin_ns: u64, complete_ns: u64) -> Self {
        let about = reply.enhanced().map(|it| (it.subject, it.detail));
        let subject = match about {
            None => Subject::Unsaid,
            Some((1, 5)) => Subject::Recipient,
            Some((1, _)) => Subject::Address,
            Some((6, _)) => Subject::Content,
            Some(_) => Subject::Other,
        };
        let of_address = matches!(subject, Subject::Recipient | Subject::Address);
        let text = &reply.last;
        Self {
            begin_ns,
            complete_ns,
            code: reply.code,
            subject,
            names_message: !of_address && names_message(text),
            names_chunk: !of_address && !reply.offers_chunking && names_chunk(text),
            times_out: reply.is_timeout(),
            offers_chunking: reply.offers_chunking,
            offers_pipelining: reply.offers_pipelining,
            offers_xexch50: reply.offers_xexch50,
            several_lines: reply.first != reply.last,
            words: hash(text),
        }
    }

    /// Whether it speaks of an address: the answer to MAIL or RCPT, never to a body.
    pub(super) fn is_about_address(&self) -> bool {
        matches!(self.subject, Subject::Recipient | Subject::Address)
    }
}

/// `queued as` (Postfix), `Queued mail` (Exchange), `id=` (Exim), `Message accepted` (Sendmail).
fn names_message(text: &[u8]) -> bool {
    let message = |word: &[u8]| is(word, b"message") || is(word, b"mail");
    words(text).any(|word| is(word, b"queued") || word.get(..3).is_some_and(|it| is(it, b"id=")))
        || pairs(text).any(|(word, next)| message(word) && is(next, b"accepted"))
}

/// `1234 byte chunk received` (Exim), `CHUNK received OK, 1234 octets` (Exchange), `Ok: 1234 bytes`
/// (Postfix).
fn names_chunk(text: &[u8]) -> bool {
    let bytes = |word: &[u8]| is(word, b"byte") || is(word, b"bytes") || is(word, b"octets");
    let number = |word: &[u8]| word.iter().all(u8::is_ascii_digit);
    words(text).any(|word| is(word, b"chunk"))
        || pairs(text).any(|(word, next)| number(word) && bytes(next))
}

/// Whether the greeting is that of an LMTP server (RFC 2033 has no other sign of it).
pub(crate) fn names_lmtp(greeting: &Reply) -> bool {
    [&greeting.first, &greeting.last].into_iter().any(|text| words(text).any(|it| is(it, b"lmtp")))
}

/// Whether a word is this one, in capitals or not.
fn is(word: &[u8], this: &[u8]) -> bool {
    word.eq_ignore_ascii_case(this)
}

/// FNV-1a of the words without digits, in lower case.
fn hash(text: &[u8]) -> u32 {
    let plain = words(text).filter(|word| !word.iter().any(u8::is_ascii_digit));
    let bytes = plain.flat_map(|word| word.iter().chain(b" ")).map(u8::to_ascii_lowercase);
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b' ' | b'\t' | b',' | b':' | b'.' | b'(' | b')'))
        .filter(|word| !word.is_empty())
}

/// Each word with the next.
fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    words(text).zip(words(text).skip(1))
}
