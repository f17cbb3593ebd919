//! Records that the kernel side hands to user space.
//!
//! All times are nanoseconds of `CLOCK_BOOTTIME` (it goes on during suspend), 0 for "did not
//! happen". Addresses are IPv6, with IPv4 as `::ffff:a.b.c.d`.

use bytemuck::{Pod, Zeroable};

/// Turns kept in the kernel before they are handed over in one record. A power of two.
pub const TURN_BATCH: u32 = 8;

/// Most bytes of one inbound segment (TCP header included) that are handed over as a reply.
pub const REPLY_SEGMENT_BYTES: u32 = 2048;

/// Most bytes of a line of a decrypted reply that are handed over, its line feed not counted: code,
/// enhanced status code, and the keyword `CHUNKING` of an answer to EHLO.
pub const DECRYPTED_LINE_BYTES: u32 = 16;

/// Decrypted bytes that go into one [`DecryptedReply`] before lines are cut.
pub const DECRYPTED_PIECE_BYTES: u32 = 128;

/// Most bytes of one TLS read that are looked at.
pub const DECRYPTED_READ_BYTES: u32 = 4096;

/// Shortest time without data that counts as idle.
pub const IDLE_NS: u64 = 100_000_000;

/// What a record in the ring buffer is; the first word of each.
pub mod kind {
    /// A [`super::ConnectionState`], at the end of the connection.
    pub const CLOSED: u32 = 1;
    /// A [`super::TurnBatch`], when it is full.
    pub const TURNS: u32 = 2;
    /// An [`super::OwnerChange`], when another process uses the connection.
    pub const OWNER: u32 = 3;
    /// An [`super::Opened`], when a connection is opened: the first of a cgroup; with TLS probes, each.
    pub const OPENED: u32 = 4;
    /// A [`super::DecryptedReply`], when a process has read from a TLS session (only with TLS probes).
    pub const DECRYPTED: u32 = 5;
}

/// Who sent data last; see [`ConnectionState::direction`].
pub mod direction {
    /// Nobody yet.
    pub const NONE: u8 = 0;
    /// This host: a turn is under way and not yet answered.
    pub const CLIENT: u8 = 1;
    /// The server.
    pub const SERVER: u8 = 2;
    /// One of both: it was before the connection was first seen.
    pub const UNKNOWN: u8 = 3;
}

/// Bits of [`ConnectionState::flags`].
pub mod flag {
    /// Cleartext reply bytes are handed over.
    pub const REPLIES: u8 = 1;
    /// The close came while segments were being retransmitted without an answer.
    pub const CLOSED_UNANSWERED: u8 = 2;
    /// The SYN was not seen: it was sent before the hooks were attached.
    pub const MIDLIFE: u8 = 4;
    /// `SO_KEEPALIVE` was on when the connection closed.
    pub const KEEPALIVE: u8 = 8;
    /// The last reset seen while ESTABLISHED had the flag ACK: its sender knew the connection. One that
    /// does not answers a segment with a reset without it (RFC 9293 section 3.10.7.1).
    pub const RESET_ACK: u8 = 16;
    /// The server had sent something before the connection was first seen.
    pub const MIDSTREAM: u8 = 32;
    /// The first turn is one that was over or under way when the connection was first seen: only its last
    /// data is known.
    pub const EARLIER_TURN: u8 = 64;
}

/// Bits of [`ConnectionState::tls`].
pub mod tls {
    /// A probed TLS session was seen to receive from this connection.
    pub const JOINED: u8 = 1;
    /// Something was received from it past the probes: before the first probed receive of the session
    /// there was no probed handshake, or a receive was outside of every probed call.
    pub const GAP: u8 = 2;
}

/// Client bytes, then server bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Turn {
    /// First client write.
    pub start_ns: u64,
    /// First server byte after it; 0 if none came.
    pub first_byte_ns: u64,
    /// Last client write before the server's answer: when it began, or, on a kernel without a hook for
    /// writes, when its last segment left.
    pub last_write_ns: u64,
    /// Last data in either direction.
    pub last_ns: u64,
    /// Bytes the client wrote.
    pub client_bytes: u32,
    /// Bytes the server sent.
    pub server_bytes: u32,
}

/// Turns of one connection, oldest first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TurnBatch {
    /// [`kind::TURNS`].
    pub kind: u32,
    /// Turns in use, at most [`TURN_BATCH`].
    pub count: u32,
    /// Connection that they belong to.
    pub id: u64,
    /// Command name of the process that connected, padded with zeros: what turns can mean depends on who
    /// speaks.
    pub comm: [u8; 16],
    /// The turns.
    pub turns: [Turn; TURN_BATCH as usize],
}

impl TurnBatch {
    /// The turns in use, oldest first.
    #[must_use]
    pub fn in_use(&self) -> &[Turn] {
        self.turns.get(..self.count as usize).unwrap_or(&self.turns)
    }
}

/// Everything the kernel side knows of one connection: the value of its map entry while it lives, the
/// record that is handed over when it ends.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ConnectionState {
    /// [`kind::CLOSED`].
    pub kind: u32,
    /// Turns begun so far.
    pub turns: u32,
    /// Identity, never used twice; written last when the entry is made, 0 until then.
    pub id: u64,
    /// SYN sent; with [`flag::MIDLIFE`] when the connection was first seen.
    pub start_ns: u64,
    /// Handshake complete; `start_ns` if that was before.
    pub established_ns: u64,
    /// First payload byte of the server.
    pub first_byte_ns: u64,
    /// Last data in either direction.
    pub last_data_ns: u64,
    /// Last data before the server spoke unasked after an idle gap; 0 if it did not, or if the client
    /// has written since.
    pub idle_from_ns: u64,
    /// When it spoke.
    pub idle_until_ns: u64,
    /// This host began to close.
    pub local_fin_ns: u64,
    /// The server's FIN arrived. `start_ns` for this and the one before if it was earlier.
    pub peer_fin_ns: u64,
    /// A reset arrived.
    pub rst_received_ns: u64,
    /// This host sent a reset.
    pub rst_sent_ns: u64,
    /// Last retransmission.
    pub last_retransmit_ns: u64,
    /// The kernel's state became CLOSE.
    pub closed_ns: u64,
    /// Payload bytes sent since `start_ns`, retransmissions included.
    pub bytes_sent: u64,
    /// Payload bytes received in order since then.
    pub bytes_received: u64,
    /// Cgroup v2 id of the connecting process.
    pub cgroup: u64,
    /// Local address.
    pub src: [u8; 16],
    /// Server address.
    pub dst: [u8; 16],
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Connecting process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Segments retransmitted since `start_ns`, SYNs included.
    pub retransmits: u32,
    /// Smoothed round-trip time at the last data from the server, in microseconds.
    pub srtt_us: u32,
    /// Error number that ended the connection, 0 for none. Until it ends, of a close that was not answered:
    /// what the path has said about it.
    pub errno: u32,
    /// Bytes not acknowledged when this host began to close.
    pub unacked: u32,
    /// `write_seq` when the current turn began.
    pub turn_write_seq: u32,
    /// `rcv_nxt` when the current turn began.
    pub turn_rcv_nxt: u32,
    /// `rcv_nxt` when the connection was established or first seen: the server's next byte.
    pub first_rcv_nxt: u32,
    /// Process that used the connection last.
    pub owner: u32,
    /// Idle time before the first keepalive probe, in seconds; 0 if `SO_KEEPALIVE` was off, or if it is
    /// not known.
    pub keepalive_idle_s: u32,
    /// Local port, host byte order; 0 until known.
    pub sport: u16,
    /// Server port, host byte order.
    pub dport: u16,
    /// See [`direction`].
    pub direction: u8,
    /// See [`flag`].
    pub flags: u8,
    /// TTL or hop limit of the server's last data; 0 if none came, or if it is not known.
    pub peer_ttl: u8,
    /// Least TTL of the server's data.
    pub peer_ttl_min: u8,
    /// Greatest TTL of the server's data.
    pub peer_ttl_max: u8,
    /// TTL or hop limit of the last FIN or reset that came while ESTABLISHED; 0 if none did.
    pub closing_ttl: u8,
    /// See [`tls`].
    pub tls: u8,
    /// Where in its line the next decrypted byte stands, at most [`DECRYPTED_LINE_BYTES`].
    pub tls_column: u8,
    /// Pieces of decrypted replies, also those that could not be handed over.
    pub tls_pieces: u32,
    /// The socket's count of bytes sent when it was first seen; 0 if that was at the SYN.
    pub bytes_sent_before: u64,
    /// Its count of bytes received.
    pub bytes_received_before: u64,
    /// Its count of segments retransmitted.
    pub retransmits_before: u32,
    /// Lower half of the flags (`IFF_*` of `linux/if.h`) of the device by which packets left when the
    /// connection was established, first seen, or refused; 0 if there was no route.
    pub device_flags: u16,
    /// State of the socket (`TCP_*` of `net/tcp_states.h`) that was recorded last; 0 if none was since the
    /// connection was first seen.
    pub tcp_state: u8,
    /// Zero.
    pub padding: u8,
    /// Behind the last byte of the server that was handed over, once this host has sent its FIN.
    pub heard_seq: u32,
    /// Zero.
    pub padding2: u32,
    /// The turn under way, if `direction` is not [`direction::NONE`].
    pub current: Turn,
    /// Turns not yet handed over.
    pub batch: TurnBatch,
}

impl ConnectionState {
    /// The turn under way, as far as it has come. While the connection is open, the kernel side counts what the
    /// server has sent in all, and not yet by turn.
    #[must_use]
    pub fn turn_under_way(&self) -> Option<Turn> {
        if self.direction == direction::NONE {
            return None;
        }
        let mut turn = self.current;
        if self.closed_ns == 0 && self.direction == direction::SERVER {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "sequence numbers wrap around as well"
            )]
            let received = self.bytes_received as u32;
            let next = self.first_rcv_nxt.wrapping_add(received);
            turn.server_bytes = next.wrapping_sub(self.turn_rcv_nxt);
        }
        Some(turn)
    }
}

/// Another process uses the connection: its descriptor was passed on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct OwnerChange {
    /// [`kind::OWNER`].
    pub kind: u32,
    /// The process.
    pub pid: u32,
    /// Connection.
    pub id: u64,
    /// First seen.
    pub time_ns: u64,
    /// Command name of the process, padded with zeros.
    pub comm: [u8; 16],
}

/// A process that has a socket among its open files.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Holder {
    /// Cgroup v2 id; 0 if unknown.
    pub cgroup: u64,
    /// Process id; 0 if unknown.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Command name of its main thread, padded with zeros.
    pub comm: [u8; 16],
}

/// A connection is opened, by a process in a cgroup that may be gone soon, and that may map a TLS library.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Opened {
    /// [`kind::OPENED`].
    pub kind: u32,
    /// The process.
    pub pid: u32,
    /// Connection.
    pub id: u64,
    /// Cgroup v2 id of the process.
    pub cgroup: u64,
}

/// A piece of what a process read from the TLS session of a connection. Of each line only the first
/// [`DECRYPTED_LINE_BYTES`] and the line feed are in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct DecryptedReply {
    /// [`kind::DECRYPTED`].
    pub kind: u32,
    /// Bytes in use, at most [`DECRYPTED_PIECE_BYTES`].
    pub len: u32,
    /// Connection.
    pub id: u64,
    /// When the read returned.
    pub time_ns: u64,
    /// Pieces of this connection before this one.
    pub sequence: u32,
    /// Zero.
    pub padding: u32,
    /// The bytes.
    pub bytes: [u8; DECRYPTED_PIECE_BYTES as usize],
}

impl DecryptedReply {
    /// The bytes in use.
    #[must_use]
    pub fn in_use(&self) -> &[u8] {
        self.bytes.get(..self.len as usize).unwrap_or(&self.bytes)
    }
}

/// Stands before the bytes of one inbound segment in the reply buffer. The segment starts with its
/// TCP header, unless [`WITHOUT_HEADER`] is set.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ReplySegment {
    /// Connection it belongs to.
    pub id: u64,
    /// When it arrived.
    pub time_ns: u64,
    /// Where its first payload byte stands in the server's stream.
    pub offset: u32,
    /// Payload length on the wire.
    pub payload: u32,
    /// Bytes of the segment that follow.
    pub captured: u32,
    /// [`flag::MIDSTREAM`] if the stream was not seen from its beginning; [`WITHOUT_HEADER`].
    pub flags: u32,
}

/// Bit of [`ReplySegment::flags`]: the kernel has taken the TCP header off already.
pub const WITHOUT_HEADER: u32 = 1 << 8;

const _: () = {
    assert!(TURN_BATCH.is_power_of_two());
    assert!(size_of::<Turn>() == 40);
    assert!(size_of::<TurnBatch>() == 32 + 40 * TURN_BATCH as usize);
    assert!(size_of::<ConnectionState>() == 656);
    assert!(core::mem::offset_of!(ConnectionState, id) == 8);
    assert!(core::mem::offset_of!(ConnectionState, src) == 136);
    assert!(core::mem::offset_of!(ConnectionState, netns) == 168);
    assert!(core::mem::offset_of!(ConnectionState, sport) == 216);
    assert!(core::mem::offset_of!(ConnectionState, direction) == 220);
    assert!(core::mem::offset_of!(ConnectionState, batch) % 8 == 0);
    assert!(core::mem::offset_of!(ConnectionState, tls_pieces) == 228);
    assert!(size_of::<OwnerChange>() == 40);
    assert!(size_of::<Holder>() == 32);
    assert!(size_of::<Opened>() == 24);
    assert!(size_of::<DecryptedReply>() == 160);
    assert!(DECRYPTED_LINE_BYTES < 32);
    assert!(DECRYPTED_PIECE_BYTES.is_power_of_two());
    assert!(DECRYPTED_READ_BYTES.is_multiple_of(DECRYPTED_PIECE_BYTES));
    assert!(size_of::<ReplySegment>() == 32);
};
