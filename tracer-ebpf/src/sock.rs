//! Reads a `struct sock` and what is built on it, through offsets from the running kernel's BTF.

use core::{ffi::c_void, marker::PhantomData, mem::MaybeUninit, ptr};

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_skc_to_tcp_sock};
use tracer_common::config::Offsets;

use crate::config::offset;

/// How a kernel field is loaded.
pub(crate) trait Load: Copy {
    /// Reads a `T` at `base + offset`.
    ///
    /// # Safety
    ///
    /// `base` points to a live kernel object and `offset` is that of a `T` in it.
    unsafe fn load<T: Copy>(base: *const c_void, offset: u32) -> T;

    /// `sk` as a `tcp_sock`; null if it is none.
    fn tcp_sock(sk: *const c_void) -> *const c_void;
}

/// A plain load, for programs whose arguments are typed by BTF (`tp_btf`, fentry): the verifier checks
/// the offset against the type, and a fault reads as 0.
#[derive(Clone, Copy)]
pub(crate) struct Typed;

/// Through `bpf_probe_read_kernel`, for programs whose arguments are bare numbers (raw tracepoint, kprobe).
#[derive(Clone, Copy)]
pub(crate) struct Probed;

impl Load for Typed {
    #[inline(always)]
    unsafe fn load<T: Copy>(base: *const c_void, offset: u32) -> T {
        // SAFETY: by the contract of `load`; the verifier makes this a load that cannot fault.
        unsafe { ptr::read_volatile(base.byte_add(offset as usize).cast::<T>()) }
    }

    #[inline(always)]
    fn tcp_sock(sk: *const c_void) -> *const c_void {
        // SAFETY: the helper accepts any `sock_common` and tests protocol and state itself.
        unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) }.cast_const().cast()
    }
}

impl Load for Probed {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the size of one integer")]
    unsafe fn load<T: Copy>(base: *const c_void, offset: u32) -> T {
        const { assert!(size_of::<T>() <= 8, "one integer") };
        let mut value = MaybeUninit::<T>::zeroed();
        // SAFETY: the destination is `size_of::<T>()` bytes on this stack; the helper reads the source
        // safely and zeroes the destination if it cannot. Callers read integers only.
        unsafe {
            bpf_probe_read_kernel(
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                base.byte_add(offset as usize),
            );
            value.assume_init()
        }
    }

    #[inline(always)]
    fn tcp_sock(sk: *const c_void) -> *const c_void {
        const IPPROTO_TCP: u16 = 6;
        // SAFETY: `sk` is a sock, and the field is a `u16` of it.
        let protocol: u16 = unsafe { load_field::<Self, _>(sk, |o| &o.sk_protocol) };
        // A tcp_sock begins with its sock.
        if protocol == IPPROTO_TCP { sk } else { ptr::null() }
    }
}

/// Reads the field that `field` picks; the default if this kernel does not have it.
///
/// # Safety
///
/// `base` points to a live kernel object that has this field, of type `T`.
#[inline(always)]
pub(crate) unsafe fn load_field<L: Load, T: Copy + Default>(
    base: *const c_void,
    field: fn(&Offsets) -> &u32,
) -> T {
    match offset(field) {
        // SAFETY: by the contract of this function.
        Some(offset) => unsafe { L::load(base, offset) },
        None => T::default(),
    }
}

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
