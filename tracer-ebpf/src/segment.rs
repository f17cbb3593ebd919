//! What is read of a segment that arrived.

use core::{ffi::c_void, marker::PhantomData, ptr};

use tracer_common::config::Offsets;

use crate::{
    config::offset,
    load::{Load, Probed, load_field},
};

/// Bits of [`Segment::flags`].
pub(crate) mod tcp_flag {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const RST: u8 = 4;
    pub(crate) const ACK: u8 = 16;
}

/// A segment that arrived.
#[derive(Clone, Copy)]
pub(crate) struct Segment<L> {
    skb: *const c_void,
    load: PhantomData<L>,
}

impl<L: Load> Segment<L> {
    /// `skb` is an argument that the kernel passed as `struct sk_buff *`, not null, after
    /// `tcp_v4_fill_cb` or `tcp_v6_fill_cb`.
    #[inline(always)]
    pub(crate) fn new(skb: *const c_void) -> Self {
        Self { skb, load: PhantomData }
    }

    #[inline(always)]
    fn field<T: Copy + Default>(self, field: fn(&Offsets) -> &u32) -> T {
        // SAFETY: `skb` is an sk_buff, and callers pick fields of one.
        unsafe { load_field::<L, T>(self.skb, field) }
    }

    /// The `sk_buff`.
    #[inline(always)]
    pub(crate) fn skb(self) -> *const c_void {
        self.skb
    }

    /// The socket whose segment it is; null for none.
    #[inline(always)]
    pub(crate) fn socket(self) -> *const c_void {
        match offset(|o| &o.skb_sk) {
            // SAFETY: the field is a pointer.
            Some(offset) => unsafe { L::load(self.skb, offset) },
            None => ptr::null(),
        }
    }

    /// Sequence number of the first byte.
    #[inline(always)]
    pub(crate) fn seq(self) -> u32 {
        self.field(|o| &o.cb_seq)
    }

    /// TCP flags, as in byte 13 of the header; see [`tcp_flag`].
    #[inline(always)]
    pub(crate) fn flags(self) -> u8 {
        self.field(|o| &o.cb_flags)
    }

    /// TTL of an IPv4 packet, hop limit of an IPv6 one; 0 if it cannot be read.
    #[inline(always)]
    pub(crate) fn ttl(self, is_ipv4: bool) -> u8 {
        // RFC 791 section 3.1, RFC 8200 section 3.
        let at = if is_ipv4 { 8 } else { 7 };
        let head: usize = self.field(|o| &o.skb_head);
        let network: u16 = self.field(|o| &o.skb_network_header);
        if head == 0 || network == 0 {
            return 0;
        }
        // SAFETY: the IP header stands there; the helper reads it safely.
        unsafe { Probed::load(head as *const c_void, u32::from(network) + at) }
    }

    /// Sequence number behind the last byte, and behind the FIN if there is one.
    #[inline(always)]
    pub(crate) fn end_seq(self) -> u32 {
        self.field(|o| &o.cb_end_seq)
    }

    /// Payload length in bytes.
    #[inline(always)]
    pub(crate) fn payload(self) -> u32 {
        let fin = self.flags() & tcp_flag::FIN;
        self.end_seq().wrapping_sub(self.seq()).wrapping_sub(u32::from(fin))
    }

    /// Length of TCP header and payload; without the header once the segment is queued.
    #[inline(always)]
    pub(crate) fn len(self) -> u32 {
        self.field(|o| &o.skb_len)
    }

    /// Where that begins, and how much of it lies there in one piece; the rest is in page fragments.
    #[inline(always)]
    pub(crate) fn linear(self) -> (*const c_void, u32) {
        let data: usize = self.field(|o| &o.skb_data);
        let fragments: u32 = self.field(|o| &o.skb_data_len);
        (data as *const c_void, self.len().wrapping_sub(fragments))
    }
}
