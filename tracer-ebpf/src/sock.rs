//! Reads a `struct sock` and what is built on it, through offsets from the running kernel's BTF.

use core::{ffi::c_void, marker::PhantomData};

use tracer_common::config::Offsets;

use crate::{
    config::offset,
    load::{Load, Probed, load_field},
};

/// A socket of any kind.
#[derive(Clone, Copy)]
pub(crate) struct Sock<L> {
    ptr: *const c_void,
    load: PhantomData<L>,
}

/// A socket known to be a full TCP socket.
#[derive(Clone, Copy)]
pub(crate) struct TcpSock<L> {
    ptr: *const c_void,
    load: PhantomData<L>,
}

impl<L: Load> Sock<L> {
    /// `ptr` is an argument that the kernel passed as `struct sock *`, not null.
    #[inline(always)]
    pub(crate) fn new(ptr: *const c_void) -> Self {
        Self { ptr, load: PhantomData }
    }

    /// Key of the socket in the map of connections.
    #[inline(always)]
    pub(crate) fn key(self) -> u64 {
        self.ptr as u64
    }

    #[inline(always)]
    fn field<T: Copy + Default>(self, field: fn(&Offsets) -> &u32) -> T {
        // SAFETY: `ptr` is a sock, and callers pick fields of a sock.
        unsafe { load_field::<L, T>(self.ptr, field) }
    }

    /// Whether it is a socket of MPTCP, which is none of TCP.
    #[inline(always)]
    pub(crate) fn is_mptcp(self) -> bool {
        const IPPROTO_MPTCP: u16 = 262; // include/uapi/linux/in.h
        self.field::<u16>(|o| &o.sk_protocol) == IPPROTO_MPTCP
    }

    /// Destination port, host byte order.
    #[inline(always)]
    pub(crate) fn dport(self) -> u16 {
        u16::from_be(self.field(|o| &o.skc_dport))
    }

    /// Address family.
    #[inline(always)]
    pub(crate) fn family(self) -> u16 {
        self.field(|o| &o.skc_family)
    }

    /// TCP state; see [`state`].
    #[inline(always)]
    pub(crate) fn state(self) -> u8 {
        self.field(|o| &o.skc_state)
    }

    /// `sk_err`.
    #[inline(always)]
    pub(crate) fn error(self) -> u32 {
        self.field(|o| &o.sk_err)
    }

    /// Whether the kernel takes data to send: `tcp_sendmsg_locked` refuses it where there is an error, and where
    /// this host has closed.
    #[inline(always)]
    pub(crate) fn takes_data(self) -> bool {
        matches!(self.state(), state::ESTABLISHED | state::CLOSE_WAIT) && self.error() == 0
    }

    /// Whether a process holds the socket (`lock_sock`). In softirq none does.
    #[inline(always)]
    pub(crate) fn is_held(self) -> bool {
        self.field::<u32>(|o| &o.sk_lock_owned) != 0
    }

    /// Error number of the last ICMP error in the error queue: until somebody takes it from there, it outlasts
    /// `getsockopt(SO_ERROR)`. 0 if there is none.
    #[inline(always)]
    pub(crate) fn icmp_error(self) -> u32 {
        /// `SO_EE_ORIGIN_ICMP` and `SO_EE_ORIGIN_ICMP6` of `linux/errqueue.h`.
        const ICMP: [u8; 2] = [2, 3];
        /// Where `ee_origin` stands in `sock_extended_err`, behind `ee_errno`.
        const ORIGIN: u32 = 4;
        let (Some(queue), Some(error)) =
            (offset(|o| &o.sk_error_queue_last), offset(|o| &o.cb_extended_error))
        else {
            return 0;
        };
        // SAFETY: the helper reads safely whatever stands there; an empty queue refers to itself, with a
        // pointer where a packet has the address of the last before it.
        unsafe {
            let last: usize = Probed::load(self.ptr, queue);
            let head = self.ptr as usize + queue as usize - size_of::<usize>();
            if last == head {
                return 0;
            }
            let last = last as *const c_void;
            if ICMP.contains(&Probed::load(last, error + ORIGIN)) {
                Probed::load(last, error)
            } else {
                0
            }
        }
    }

    /// `sk_err_soft`: what the path said that does not end the connection by itself.
    #[inline(always)]
    pub(crate) fn soft_error(self) -> u32 {
        self.field(|o| &o.sk_err_soft)
    }

    /// Bit `bit` of `sk_flags`.
    #[inline(always)]
    pub(crate) fn flag(self, bit: fn(&Offsets) -> &u32) -> bool {
        match offset(bit) {
            Some(bit) => self.field::<u64>(|o| &o.sk_flags) >> (bit & 63) & 1 == 1,
            None => false,
        }
    }

    /// Inode number of the network namespace.
    #[inline(always)]
    pub(crate) fn netns(self) -> u32 {
        self.net_field(|o| &o.net_inum)
    }

    /// Idle time before the first keepalive probe of sockets that set none, in ticks.
    #[inline(always)]
    pub(crate) fn default_keepalive_time(self) -> u32 {
        self.net_field(|o| &o.net_keepalive_time)
    }

    /// A field of the network namespace.
    #[inline(always)]
    fn net_field<T: Copy + Default>(self, field: fn(&Offsets) -> &u32) -> T {
        let net: usize = self.field(|o| &o.skc_net);
        // SAFETY: `net` is the namespace of a live socket, which holds a reference to it, and callers
        // pick fields of one.
        unsafe { load_field::<L, T>(net as *const c_void, field) }
    }

    /// Destination address, IPv4 as `::ffff:a.b.c.d`.
    #[inline(always)]
    pub(crate) fn destination(self) -> [u8; 16] {
        self.address(|o| &o.skc_daddr, |o| &o.skc_v6_daddr)
    }

    /// Source address, IPv4 as `::ffff:a.b.c.d`.
    #[inline(always)]
    pub(crate) fn source(self) -> [u8; 16] {
        self.address(|o| &o.skc_rcv_saddr, |o| &o.skc_v6_rcv_saddr)
    }

    #[inline(always)]
    fn address(self, v4: fn(&Offsets) -> &u32, v6: fn(&Offsets) -> &u32) -> [u8; 16] {
        const AF_INET6: u16 = 10;
        let mut words = [0, 0, u32::from_be_bytes([0, 0, 0xff, 0xff]).to_be(), self.field(v4)];
        if self.family() == AF_INET6
            && let Some(offset) = offset(v6)
        {
            // SAFETY: `in6_addr` is four words at this offset.
            unsafe {
                words[0] = L::load(self.ptr, offset);
                words[1] = L::load(self.ptr, offset + 4);
                words[2] = L::load(self.ptr, offset + 8);
                words[3] = L::load(self.ptr, offset + 12);
            }
        }
        // SAFETY: both are 16 bytes without padding.
        unsafe { core::mem::transmute(words) }
    }

    /// The socket as a TCP socket; `None` for any other protocol and for TIME_WAIT.
    #[inline(always)]
    pub(crate) fn tcp(self) -> Option<TcpSock<L>> {
        let ptr = L::tcp_sock(self.ptr);
        (!ptr.is_null()).then_some(TcpSock { ptr, load: PhantomData })
    }
}

impl<L: Load> TcpSock<L> {
    #[inline(always)]
    fn field<T: Copy + Default>(self, field: fn(&Offsets) -> &u32) -> T {
        // SAFETY: `ptr` is a tcp_sock, and callers pick fields of one.
        unsafe { load_field::<L, T>(self.ptr, field) }
    }

    /// Local port, host byte order; still valid at CLOSE, 0 at SYN_SENT.
    #[inline(always)]
    pub(crate) fn sport(self) -> u16 {
        u16::from_be(self.field(|o| &o.inet_sport))
    }

    /// Sequence number behind the last byte that was written.
    #[inline(always)]
    pub(crate) fn write_seq(self) -> u32 {
        self.field(|o| &o.write_seq)
    }

    /// First byte not acknowledged.
    #[inline(always)]
    pub(crate) fn snd_una(self) -> u32 {
        self.field(|o| &o.snd_una)
    }

    /// Sequence number expected next from the peer.
    #[inline(always)]
    pub(crate) fn rcv_nxt(self) -> u32 {
        self.field(|o| &o.rcv_nxt)
    }

    /// Whether the kernel may use a segment of `seq` and `end_seq`: `tcp_sequence`, and for data what
    /// `tcp_data_queue` asks for.
    #[inline(always)]
    pub(crate) fn is_in_window(self, seq: u32, end_seq: u32) -> bool {
        let wup: u32 = self.field(|o| &o.rcv_wup);
        let end = wup.wrapping_add(self.field(|o| &o.rcv_wnd));
        let old = end_seq.wrapping_sub(wup).cast_signed() < 0;
        let ahead = seq.wrapping_sub(end).cast_signed() > 0;
        !old && (!ahead || seq == self.rcv_nxt())
    }

    /// Segments sent, SYNs included.
    #[inline(always)]
    pub(crate) fn segments_sent(self) -> u32 {
        self.field(|o| &o.segs_out)
    }

    /// Smoothed round-trip time in microseconds.
    #[inline(always)]
    pub(crate) fn srtt_us(self) -> u32 {
        self.field::<u32>(|o| &o.srtt_us) >> 3
    }

    /// Payload bytes sent, retransmissions included.
    #[inline(always)]
    pub(crate) fn bytes_sent(self) -> u64 {
        self.field(|o| &o.bytes_sent)
    }

    /// Sequence numbers received in order: payload bytes, and 1 for a FIN.
    #[inline(always)]
    pub(crate) fn bytes_received(self) -> u64 {
        self.field(|o| &o.bytes_received)
    }

    /// Segments retransmitted, SYNs included.
    #[inline(always)]
    pub(crate) fn total_retrans(self) -> u32 {
        self.field(|o| &o.total_retrans)
    }

    /// Retransmission timeouts since the last acknowledgement.
    #[inline(always)]
    pub(crate) fn unanswered_timeouts(self) -> u8 {
        self.field(|o| &o.icsk_retransmits)
    }

    /// Idle time before the first keepalive probe, in ticks; 0 for the default.
    #[inline(always)]
    pub(crate) fn keepalive_time(self) -> u32 {
        self.field(|o| &o.keepalive_time)
    }

    /// When data was last received, in ticks.
    #[inline(always)]
    pub(crate) fn last_received(self) -> u32 {
        self.field(|o| &o.lrcvtime)
    }

    /// When data was last sent, retransmissions included, in ticks.
    #[inline(always)]
    pub(crate) fn last_sent(self) -> u32 {
        self.field(|o| &o.lsndtime)
    }

    /// Whether it is a subflow of MPTCP.
    #[inline(always)]
    pub(crate) fn is_mptcp(self) -> bool {
        self.field::<u8>(|o| &o.is_mptcp) != 0
    }

    /// Inode number of the socket as a file; `None` once its application has closed it.
    #[inline(always)]
    pub(crate) fn inode(self) -> Option<u64> {
        let socket: usize = self.field(|o| &o.sk_socket);
        let offset = offset(|o| &o.socket_inode)?;
        // SAFETY: `socket` is null or one that lives as long as the lock on the sock is held; the helper
        // reads it safely.
        (socket != 0).then(|| unsafe { Probed::load(socket as *const c_void, offset) })
    }

    /// Lower half of the flags (`IFF_*`) of the device by which packets to the peer leave; 0 while the socket
    /// has no route.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    pub(crate) fn device_flags(self) -> u16 {
        let route: usize = self.field(|o| &o.sk_dst_cache);
        // SAFETY: a route and its device are freed by RCU only, and no program outlasts a grace period; the
        // helper reads them safely, also where there are none.
        unsafe {
            let device: usize = load_field::<Probed, _>(route as *const c_void, |o| &o.dst_dev);
            load_field::<Probed, u32>(device as *const c_void, |o| &o.device_flags) as u16
        }
    }

    /// When the last segment left, `CLOCK_MONOTONIC`; 0 if unknown.
    #[inline(always)]
    pub(crate) fn last_departure_ns(self) -> u64 {
        self.field(|o| &o.tcp_wstamp_ns)
    }
}

/// TCP states, as fixed for BPF programs in `include/uapi/linux/bpf.h` (`BPF_TCP_*`).
pub(crate) mod state {
    pub(crate) const ESTABLISHED: u8 = 1;
    pub(crate) const SYN_SENT: u8 = 2;
    pub(crate) const FIN_WAIT1: u8 = 4;
    pub(crate) const FIN_WAIT2: u8 = 5;
    pub(crate) const CLOSE: u8 = 7;
    pub(crate) const CLOSE_WAIT: u8 = 8;
    pub(crate) const LAST_ACK: u8 = 9;
    pub(crate) const CLOSING: u8 = 11;
}
