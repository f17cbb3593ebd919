//! Tracepoint `tcp:tcp_probe`: data from the server, and the FIN or reset that ends it.
//!
//! Fired by the first statement of `tcp_rcv_established`, once per inbound segment while ESTABLISHED,
//! before any validation, so the window is tested here; since Linux 4.16. In softirq, or in the process that releases the socket lock
//! when the segment had to wait in the backlog (the time is then late by microseconds). A reset passes
//! here on its way to `tcp_reset`, whose own tracepoint does not have the packet. In other states than
//! ESTABLISHED nothing passes.

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use tracer_common::{
    counters::hook,
    record::{ConnectionState, ReplySegment},
};

use crate::{
    config::is_traced_port,
    connection, emit,
    load::{Load, Probed, Typed},
    replies,
    segment::{Segment, tcp_flag},
    sock::{Sock, TcpSock},
};

/// `(struct sock *sk, struct sk_buff *skb)`
#[btf_tracepoint(function = "tcp_probe")]
fn tcp_probe(ctx: BtfTracePointContext) -> i32 {
    arrived(Sock::<Typed>::new(ctx.arg(0)), Segment::<Typed>::new(ctx.arg(1)), emit::reply);
    0
}

/// `(struct sock *sk, struct sk_buff *skb)`
#[raw_tracepoint(tracepoint = "tcp_probe")]
fn tcp_probe_raw(ctx: RawTracePointContext) -> u32 {
    let hand_over = |segment, meta, hook| emit::reply_copied(ctx.as_ptr(), segment, meta, hook);
    arrived(Sock::<Probed>::new(ctx.arg(0)), Segment::<Probed>::new(ctx.arg(1)), hand_over);
    0
}

#[inline(always)]
fn arrived<L: Load>(
    sk: Sock<L>,
    segment: Segment<L>,
    hand_over: impl Fn(Segment<L>, ReplySegment, u32),
) {
    if !is_traced_port(sk.dport()) {
        return;
    }
    let flags = segment.flags();
    let payload = segment.payload();
    let closing = flags & (tcp_flag::FIN | tcp_flag::RST) != 0;
    if payload == 0 && !closing {
        return; // an acknowledgement
    }
    if let Some(connection) = connection::get(sk.key())
        && let Some(tcp) = sk.tcp()
        && tcp.is_in_window(segment.seq(), segment.end_seq())
    {
        if closing {
            let ttl = segment.ttl(connection::is_ipv4(connection));
            connection::closing_segment(connection, flags, ttl);
        }
        // What a reset carries is text about it (RFC 9293 section 3.5.3).
        if payload != 0 && flags & tcp_flag::RST == 0 {
            data(connection, sk, tcp, segment, hand_over);
        }
    }
}

#[inline(always)]
fn data<L: Load>(
    connection: &mut ConnectionState,
    sk: Sock<L>,
    tcp: TcpSock<L>,
    segment: Segment<L>,
    hand_over: impl Fn(Segment<L>, ReplySegment, u32),
) {
    let (seq, payload, rcv_nxt) = (segment.seq(), segment.payload(), tcp.rcv_nxt());
    let new = seq.wrapping_add(payload).wrapping_sub(rcv_nxt);
    if new == 0 || new.cast_signed() < 0 {
        return; // nothing new: a retransmission or a keepalive probe of the peer
    }
    let now = connection::now_ns();
    let payload_new = if new < payload { new } else { payload };
    connection::server_data(connection, sk, tcp, payload_new, now);
    connection::data_ttl(connection, segment.ttl(connection::is_ipv4(connection)));
    replies::hand_over(connection, segment, now, 0, hand_over, hook::TCP_PROBE);
}
