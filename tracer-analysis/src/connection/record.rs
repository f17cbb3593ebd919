//! The `connection` record: one finished (or still open) connection, as it stands in a recording.
//!
//! Field names carry their unit. Unknown is `None` (`null`), never 0. What a field means is part of
//! the recording schema: a change of meaning needs a new [`SCHEMA`] number.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::{mta::Mta, utc::Utc};

/// Version of the recording schema that this build writes. Readers accept it and older ones.
pub const SCHEMA: u32 = 1;

/// Where smtptrace saw the connection from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SeenFrom {
    /// From its SYN.
    Connect,
    /// It was open, or being opened, before tracing began: its age is unknown, and what is counted is
    /// counted from `start` on.
    Midlife,
}

/// Address family on the wire; an IPv4-mapped IPv6 socket is IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4, also from an IPv6 socket with a mapped address.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Whether the session was encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Cleartext to the end.
    None,
    /// Encrypted after STARTTLS.
    Starttls,
    /// Encrypted from the first byte.
    Implicit,
}

/// What ended the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// This host sent the first FIN, or its application gave up the connect.
    LocalFin,
    /// The server sent the first FIN.
    PeerFin,
    /// A reset arrived, with no FIN before it in either direction.
    RstReceived,
    /// This host sent a reset, with no FIN before it in either direction.
    RstSent,
    /// The kernel gave up: retransmissions or keepalive probes went unanswered.
    Timeout,
    /// The application closed while data was being retransmitted without an answer.
    Unanswered,
    /// The connect failed; `connect_error` says how.
    ConnectError,
    /// Still open when tracing ended.
    Open,
}

impl EndCause {
    /// Whether a session that ends so has died: reset by the other side, timed out, or closed without an
    /// answer.
    pub fn is_death(self) -> bool {
        matches!(self, Self::RstReceived | Self::Timeout | Self::Unanswered)
    }
}

/// When in the life of the connection the end came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EndDuring {
    /// Before it was established.
    Connect,
    /// Before a greeting that welcomes (220) was complete, or at once after it.
    Greeting,
    /// Between command and reply, within a reply, or less than 0.1 s after one.
    Dialogue,
    /// While everything was answered, and nobody said anything for 0.1 s or more. A last write that is part of our own close (QUIT
    /// without waiting, `close_notify`) does not end the idle time.
    Idle,
    /// At the first write after an idle gap of 1 s or more, which was never answered.
    Reuse,
}

/// Who is suspected of having ended a connection that its owner did not mean to end. Nobody where an ordinary
/// end is possible, so never after our own FIN, after 221, or where a QUIT may have been under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EndSuspect {
    /// The server itself: it said 421, or spoke unasked into an idle session and closed; or its FIN, or a
    /// reset that acknowledges our data, came with the TTL of its data.
    Peer,
    /// Something on the path: a reset or FIN came with a TTL that the server's data never had; or silence
    /// met the first write after an idle gap of 1 s or more, or keepalive probes. A path that is down is
    /// silent too: many of these at the same time, to one destination, mean a path and not a box.
    Middlebox,
}

/// How `transactions` was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TransactionsMethod {
    /// From the server's replies in cleartext.
    Replies,
    /// From replies decrypted by the TLS library (`--tls-probes`).
    TlsProbes,
    /// Inferred from the lengths of TLS records.
    TlsLengths,
}

/// A process that held the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Owner {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Command name, at most 15 bytes.
    pub comm: String,
    /// First seen, in microseconds since the start of the connection.
    pub first_us: u64,
}

/// Tag of this kind of line in a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The only value.
    #[default]
    Connection,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Connection {
    /// Always `connection`.
    #[serde(default)]
    pub kind: Kind,
    /// Schema number of this line.
    pub schema: u32,
    /// Identity within a recording: 16 hexadecimal digits, never used twice.
    pub id: String,
    /// Host that recorded it.
    pub host: String,
    /// When the SYN was sent; for `midlife`, when smtptrace first saw it.
    pub start: Utc,
    /// From where in its life it was seen.
    pub seen_from: SeenFrom,
    /// Address family on the wire.
    pub family: Family,
    /// Local address.
    pub src: IpAddr,
    /// Local port; `None` if the connect failed before one was known.
    pub sport: Option<u16>,
    /// Server address.
    pub dst: IpAddr,
    /// Server port.
    pub dport: u16,
    /// Whether the server's address is one of this host, or rather of the connection's network namespace:
    /// the kernel sends to it over its loopback device. `None` if there was no route, and in records of
    /// versions that did not note it.
    #[serde(default)]
    pub dst_is_own: Option<bool>,
    /// Inode number of the network namespace.
    pub netns: Option<u32>,
    /// Its name, if `ip netns` gave it one.
    #[serde(default)]
    pub netns_name: Option<String>,
    /// Cgroup v2 id of the connecting process.
    pub cgroup: Option<u64>,
    /// Path of that cgroup from the root of the hierarchy; `None` if it was gone before it could be looked
    /// up, and if the hierarchy cannot be seen.
    #[serde(default)]
    pub cgroup_path: Option<String>,
    /// Container of the connecting process, as the path tells: an id of 64 hexadecimal digits, or a name.
    /// `None` also where the path is unknown.
    #[serde(default)]
    pub container: Option<String>,
    /// Its systemd unit, of the host or within the container, as the path tells.
    #[serde(default)]
    pub unit: Option<String>,
    /// Connecting process; for `midlife`, of those that held it at `start` the one with the lowest id.
    /// `None` if none was found.
    pub pid: Option<u32>,
    /// Its command name.
    pub comm: Option<String>,
    /// Its user id.
    pub uid: Option<u32>,
    /// Processes that held the connection, in order; `None` if not recorded.
    pub owners: Option<Vec<Owner>>,
    /// SYN to established; `None` for `midlife`.
    pub connect_us: Option<u64>,
    /// Name of the error that ended the connect, for example `ECONNREFUSED`.
    pub connect_error: Option<String>,
    /// Established to the first payload byte of the server.
    pub banner_us: Option<u64>,
    /// Established to the end of the complete greeting.
    pub greeting_us: Option<u64>,
    /// Reply code of the greeting.
    pub banner_code: Option<u16>,
    /// Host name in the greeting: letters, digits, dots, hyphens and underscores only; or an address literal
    /// as RFC 5321 section 4.1.3 writes it, in lower case.
    pub banner_host: Option<String>,
    /// Whether the session was encrypted; `None` if unknown.
    pub tls: Option<Tls>,
    /// EHLO in cleartext (HELO if that was accepted instead), from its write to the end of the reply.
    pub ehlo_us: Option<u64>,
    /// STARTTLS, from its write to the end of the 220; `None` if TLS did not follow.
    pub starttls_us: Option<u64>,
    /// TLS handshake.
    pub tls_handshake_us: Option<u64>,
    /// The last AUTH in cleartext, from its command to the end of the reply that accepted or refused it.
    pub auth_us: Option<u64>,
    /// SYN to the kernel's CLOSE; for a failed connect, until it failed; for an open one, until the
    /// end of the trace. `None` if the start was not seen.
    pub lifetime_us: Option<u64>,
    /// When it ended, or when tracing did; `None` in records of versions that did not note it.
    #[serde(default)]
    pub end: Option<Utc>,
    /// SYN to the begin of the end: the first FIN or reset in either direction, or the kernel's CLOSE if that was
    /// first. The age at which a server closes: `lifetime_us` runs on until this host has closed, too.
    /// `None` if the start was not seen, if it is open, and in records of versions that did not note it.
    #[serde(default)]
    pub end_began_us: Option<u64>,
    /// Payload bytes sent, retransmissions included (`tcpi_bytes_sent`); for `midlife`, since `start`.
    pub bytes_sent: Option<u64>,
    /// Payload bytes received in order (`tcpi_bytes_received`); for `midlife`, since `start`.
    pub bytes_received: Option<u64>,
    /// Segments retransmitted, SYNs included (`tcpi_total_retrans`); for `midlife`, since `start`.
    pub retransmits: Option<u32>,
    /// Smoothed round-trip time at the last data from the server.
    pub srtt_us: Option<u32>,
    /// Client writes after server data; the greeting is not a turn. For `midlife`, since `start`.
    pub turns: Option<u32>,
    /// Messages handed over: DATA or BDAT transactions that got a final reply. `None` for `midlife`, unless
    /// the server had not spoken by `start`.
    pub transactions: Option<u32>,
    /// How `transactions` was counted.
    pub transactions_method: Option<TransactionsMethod>,
    /// Whether `transactions` is a count and not an inference.
    pub transactions_exact: bool,
    /// Replies by code (cleartext only); for `midlife`, since `start`.
    pub replies: Option<BTreeMap<u16, u32>>,
    /// Replies in cleartext that may turn us away, at most [`Refusal::KEPT`]; `None` if no reply was
    /// read, and in records of versions that did not note them.
    #[serde(default)]
    pub refusals: Option<Vec<Refusal>>,
    /// Begin (first write of the turn with MAIL) and end (first byte of the final reply) of each
    /// transaction since `start`; the first 256.
    pub transaction_spans_us: Option<Vec<[u64; 2]>>,
    /// Transactions left out of `transaction_spans_us`.
    #[serde(default)]
    pub transaction_spans_omitted: u32,
    /// The envelope of each of these transactions: from its begin to the first byte of the 354, or to
    /// the first write of BDAT. `None` within if the body was written with the envelope.
    pub envelope_us: Option<Vec<Option<u64>>>,
    /// The body of each: from the end of the envelope to the begin of the last write.
    pub body_us: Option<Vec<Option<u64>>>,
    /// The wait of each for the final reply: from the begin of the last write to its first byte.
    pub final_reply_us: Option<Vec<u64>>,
    /// Idle gaps of 0.1 s or more that ended in another turn, in order; bounded. A pause in which somebody waits
    /// for an answer, or for the rest of what was asked for, does not count. For `midlife`, the first may
    /// have begun before `start`: it is known to a tick of the kernel's timer.
    pub idle_gaps_us: Option<Vec<u64>>,
    /// Gaps left out of `idle_gaps_us`.
    #[serde(default)]
    pub idle_gaps_omitted: u32,
    /// Longest idle gap that ended in another turn with an answer.
    pub idle_max_survived_us: Option<u64>,
    /// What ended it.
    pub end_cause: EndCause,
    /// When in its life; `None` for `midlife` if a FIN had come or gone before `start`, and if it cannot be told
    /// whether somebody waited for an answer.
    pub end_during: Option<EndDuring>,
    /// Whether QUIT had ended the session: its 221 was read, or it was the last write, with our own close at once
    /// after it. `None` if that cannot be told, and in records of versions that did not note it.
    #[serde(default)]
    pub end_quit: Option<bool>,
    /// Time without data in either direction when it ended. For `reuse` the idle gap before the write that
    /// found it dead, which is then also the last in `idle_gaps_us`.
    pub end_idle_us: Option<u64>,
    /// How long the last write had waited for an answer when the connection ended or the application gave
    /// it up; for `reuse` what the dead session cost the delivery. `None` if it was answered.
    pub end_unanswered_us: Option<u64>,
    /// Who is suspected.
    pub end_suspect: Option<EndSuspect>,
    /// TTL or hop limit of the reset that ended it.
    pub reset_ttl: Option<u8>,
    /// Whether that reset acknowledged our data: its sender knew the connection. A host that has forgotten
    /// it answers with a reset that does not (RFC 9293 section 3.10.7.1).
    pub reset_ack: Option<bool>,
    /// TTL or hop limit of the server's FIN, if that ended it.
    pub fin_ttl: Option<u8>,
    /// TTL or hop limit of the server's last data.
    pub peer_ttl: Option<u8>,
    /// Whether `SO_KEEPALIVE` was on when it ended.
    pub keepalive: Option<bool>,
    /// Idle time before the first keepalive probe; `None` if there are none.
    pub keepalive_idle_s: Option<u32>,
}

impl Connection {
    /// The mail server that opened it, if its process has a known name.
    pub fn mta(&self) -> Option<Mta> {
        Mta::of(self.comm.as_deref()?)
    }

    /// Whether the server is this host itself. Records of versions that did not note it leave only the
    /// addresses to tell it by.
    pub fn is_to_ourselves(&self) -> bool {
        self.dst_is_own.unwrap_or(self.dst.is_loopback() || self.dst == self.src)
    }

    /// When the connection ended, or when tracing did; `start` if that is unknown.
    pub fn end(&self) -> Utc {
        self.known_end().unwrap_or(self.start)
    }

    /// The same; `None` if it is unknown: of a connection that was open before tracing began, in records
    /// of versions that did not note it.
    pub fn known_end(&self) -> Option<Utc> {
        let end = self.lifetime_us.map(|lifetime| self.start.plus_micros(lifetime));
        end.or(self.end.map(|end| end.max(self.start)))
    }

    /// Whether it ended without ever having been established.
    pub fn failed(&self) -> bool {
        match self.end_cause {
            EndCause::Open => false,
            EndCause::ConnectError => true,
            _ => !self.established(),
        }
    }

    /// Whether the connect ended on this side, so that it says nothing about the server or the path: no
    /// source port was free, or this host lacked something else; or the application gave up before an answer
    /// had time to come. Clients that try both families at once give the slower one up after 250 ms (RFC 8305
    /// section 5), which is shorter than many a path.
    pub fn connect_ended_here(&self) -> bool {
        /// TCP itself gives an answer 1 s before it sends the SYN again, because hardly any path takes longer
        /// (RFC 6298 appendix A); half a second for clients with a timeout of just that.
        const PATIENCE_US: u64 = 1_500_000;
        if !self.failed() {
            return false;
        }
        match (self.end_cause, self.connect_error.as_deref()) {
            (_, Some("EADDRNOTAVAIL" | "EADDRINUSE" | "EPERM" | "ENOBUFS" | "ENOMEM")) => true,
            (EndCause::LocalFin, None) => self.lifetime_us.is_none_or(|us| us < PATIENCE_US),
            _ => false,
        }
    }

    /// Whether it was established and died: reset by the other side, timed out, or closed without an
    /// answer. A reset after QUIT is an ordinary end.
    pub fn died(&self) -> bool {
        !self.failed() && self.end_cause.is_death() && !self.ended_by_quit()
    }

    /// Whether QUIT had ended the session, and a close or reset followed, by whomever. Under TLS a QUIT cannot
    /// be seen: a server that closes or resets within a second of its last answer, with nobody suspected, is
    /// taken to have been asked to.
    pub fn ended_by_quit(&self) -> bool {
        const PROMPT_US: u64 = 1_000_000;
        let by_server = match self.end_cause {
            EndCause::PeerFin | EndCause::RstReceived => true,
            EndCause::LocalFin | EndCause::RstSent => false,
            _ => return false,
        };
        let prompt = self.end_idle_us.is_some_and(|idle| idle < PROMPT_US);
        let dialogue = self.end_during == Some(EndDuring::Dialogue)
            && self.end_suspect.is_none()
            && self.end_unanswered_us.is_none();
        self.established()
            && self.end_quit.unwrap_or_else(|| match self.tls {
                Some(Tls::None) => self.replies.as_ref().is_some_and(|it| it.contains_key(&221)),
                Some(_) => by_server && prompt && dialogue,
                None => false,
            })
    }

    /// Messages that it carried, if it was established and they are known.
    pub fn messages(&self) -> Option<u32> {
        self.transactions.filter(|_| self.established())
    }

    /// Whether the TCP handshake was completed.
    pub fn established(&self) -> bool {
        match self.seen_from {
            SeenFrom::Connect => self.connect_us.is_some(),
            SeenFrom::Midlife => {
                self.connect_error.is_none() && self.end_during != Some(EndDuring::Connect)
            }
        }
    }
}
