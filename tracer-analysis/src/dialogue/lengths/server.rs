//! What is known of the server before TLS begins: what it offers, and in whose words it speaks.

use super::words::{self, Words};
use crate::smtp::Reply;

/// `250-STARTTLS` and line end, which the reply to the EHLO after the handshake no longer has.
const STARTTLS_LINE: u32 = 14;

/// What the server said in cleartext. Nothing, with implicit TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    greeted: bool,
    /// In whose words it speaks, if the greeting tells.
    words: Option<Words>,
    ehlo: Option<Offers>,
}

/// What an EHLO reply offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offers {
    pipelining: bool,
    chunking: bool,
    auth: bool,
    bytes: u32,
}

/// What a client may do, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed {
    /// The server said so in cleartext.
    pub(super) seen: bool,
    /// Several commands in one turn (RFC 2920).
    pub(super) pipelining: bool,
    /// BDAT (RFC 3030).
    pub(super) chunking: bool,
    /// AUTH (RFC 4954).
    pub(super) auth: Auth,
}

/// Whether the client may prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Auth {
    /// The server does not offer it.
    No,
    /// The server may offer it.
    Unknown,
    /// The server offers it.
    Offered,
    /// A port for users, where most do: TLS from the start.
    Usual,
}

impl Server {
    /// Takes the next reply of the cleartext part, from the greeting on.
    pub fn reply(&mut self, reply: &Reply) {
        if !self.greeted {
            self.greeted = true;
            self.words = words::of_greeting(reply);
        } else if reply.code == 250 && self.ehlo.is_none_or(|_| reply.first != reply.last) {
            self.ehlo = Some(Offers {
                pipelining: reply.offers_pipelining,
                chunking: reply.offers_chunking,
                auth: reply.offers_auth,
                bytes: reply.bytes,
            });
        }
    }

    /// In whose words the server speaks, if its greeting tells.
    pub(super) fn words(&self) -> Option<Words> {
        self.words
    }

    /// What the client may do. `ehlo_reply` is the length of the second EHLO reply, if it is known.
    pub(super) fn allows(&self, ehlo_reply: Option<u32>) -> Allowed {
        let Some(offers) = self.ehlo else {
            return Allowed { seen: false, pipelining: true, chunking: true, auth: Auth::Usual };
        };
        let second = ehlo_reply.map(|bytes| bytes.saturating_add(STARTTLS_LINE));
        let auth = match second {
            _ if offers.auth => Auth::Offered,
            Some(bytes) if bytes == offers.bytes => Auth::No,
            _ => Auth::Unknown,
        };
        Allowed { seen: true, pipelining: offers.pipelining, chunking: offers.chunking, auth }
    }
}
