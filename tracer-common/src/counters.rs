//! Counters of what could not be handed over, by hook and reason.

/// Hooks that can lose something; the index of a row in the map `DROPS`.
pub mod hook {
    /// `inet_sock_set_state`
    pub const INET_SOCK_SET_STATE: u32 = 0;
    /// `tcp_destroy_sock`
    pub const TCP_DESTROY_SOCK: u32 = 1;
    /// `tcp_probe`
    pub const TCP_PROBE: u32 = 2;
    /// `tcp_sendmsg_locked`
    pub const TCP_SENDMSG_LOCKED: u32 = 3;
    /// `tcp_rcv_space_adjust`
    pub const TCP_RCV_SPACE_ADJUST: u32 = 4;
    /// `tcp_retransmit_skb`
    pub const TCP_RETRANSMIT_SKB: u32 = 5;
    /// The probes on TLS libraries
    pub const TLS_PROBES: u32 = 6;
    /// The iterators that find connections open before the start
    pub const TASK_FILE: u32 = 7;
    /// `skb_copy_datagram_iovec`
    pub const SKB_COPY_DATAGRAM_IOVEC: u32 = 8;
    /// Number of hooks.
    pub const COUNT: u32 = 9;
}

/// Why something was lost; the index of a column in the map `DROPS`.
pub mod reason {
    /// The table of connections was full: the connection is not traced.
    pub const CONNECTIONS_FULL: u32 = 0;
    /// The ring buffer was full at the end of a connection: the connection has no record.
    pub const CLOSED_RING_FULL: u32 = 1;
    /// The ring buffer was full: turns are missing from a record.
    pub const TURNS_RING_FULL: u32 = 2;
    /// The reply buffer was full: replies are missing from a record.
    pub const REPLY_BUFFER_FULL: u32 = 3;
    /// The ring buffer was full: a process is missing among the owners of a record.
    pub const OWNER_RING_FULL: u32 = 4;
    /// The ring buffer was full: a decrypted reply is missing.
    pub const DECRYPTED_RING_FULL: u32 = 5;
    /// A TLS read was longer than what is looked at, or its buffer could not be read: a decrypted reply
    /// is missing.
    pub const DECRYPTED_UNREAD: u32 = 6;
    /// The ring buffer was full: nobody looked for the TLS library of a process.
    pub const OPENED_RING_FULL: u32 = 7;
    /// A raw tracepoint could not read all that it should of a segment: a reply is missing.
    pub const REPLY_UNREAD: u32 = 8;
    /// The kernel skipped a program where a connection changed its state: a time, or who closed, is missing from
    /// its record.
    pub const STATE_UNSEEN: u32 = 9;
    /// The kernel did not remove the entry of a connection that is over at the first attempt.
    pub const ENTRY_STAYS: u32 = 10;
    /// The rest of the table of connections is kept for users that hold less: the connection is not traced.
    pub const OVER_QUOTA: u32 = 11;
    /// Number of reasons.
    pub const COUNT: u32 = 12;
}

/// Entries of the map `DROPS`.
pub const DROPS: u32 = hook::COUNT * reason::COUNT;

/// Index of a counter in the map `DROPS`.
#[inline]
#[must_use]
pub const fn index(hook: u32, reason: u32) -> u32 {
    hook * reason::COUNT + reason
}
