//! Tracepoint `skb:skb_copy_datagram_iovec`: a segment is copied to a process that reads.
//!
//! Fired by `skb_copy_datagram_iter` for sockets of every kind; since Linux 2.6.32. In process context, of TCP with the
//! socket locked. The TCP header is gone. Only of use after this host's FIN, when `tcp_probe` is silent: without
//! it such replies are counted, but not read. A splice goes past it.

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use tracer_common::record::ReplySegment;

use crate::{
    after_fin,
    config::is_traced_port,
    connection, emit,
    load::{Load, Probed, Typed},
    segment::Segment,
    sock::Sock,
};

/// `(const struct sk_buff *skb, int len)`
#[btf_tracepoint(function = "skb_copy_datagram_iovec")]
fn skb_copy_datagram_iovec(ctx: BtfTracePointContext) -> i32 {
    read(Segment::<Typed>::new(ctx.arg(0)), emit::reply);
    0
}

/// `(const struct sk_buff *skb, int len)`
#[raw_tracepoint(tracepoint = "skb_copy_datagram_iovec")]
fn skb_copy_datagram_iovec_raw(ctx: RawTracePointContext) -> u32 {
    let hand_over = |segment, meta, hook| emit::reply_copied(ctx.as_ptr(), segment, meta, hook);
    read(Segment::<Probed>::new(ctx.arg(0)), hand_over);
    0
}

#[inline(always)]
fn read<L: Load>(segment: Segment<L>, hand_over: impl Fn(Segment<L>, ReplySegment, u32)) {
    let socket = segment.socket();
    if socket.is_null() || !is_traced_port(Sock::<L>::new(socket).dport()) {
        return;
    }
    // The type of a pointer in a union is nothing that a helper of the kernel trusts.
    let sk = Sock::<Probed>::new(socket);
    if let Some(connection) = connection::get(sk.key())
        && connection.local_fin_ns != 0
        && let Some(tcp) = sk.tcp()
    {
        after_fin::notice(connection, sk, tcp, connection::now_ns());
        after_fin::hear(connection, segment, hand_over);
    }
}
