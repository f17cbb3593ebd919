//! Tracepoint `tcp:tcp_probe`: data from the server.
//!
//! Fired by the first statement of `tcp_rcv_established`, once per inbound segment while ESTABLISHED,
//! before any validation; since Linux 4.16. In softirq, or in the process that releases the socket lock
//! when the segment had to wait in the backlog (the time is then late by microseconds).

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::{
    counters::hook,
    record::{ConnectionState, ReplySegment, flag},
};

use crate::{
    config::is_traced_port,
    connection, emit, maps,
    sock::{Segment, Sock, TcpSock, Typed},
};

/// `(struct sock *sk, struct sk_buff *skb)`
#[btf_tracepoint(function = "tcp_probe")]
fn tcp_probe(ctx: BtfTracePointContext) -> i32 {
    let sk = Sock::<Typed>::new(ctx.arg(0));
    if !is_traced_port(sk.dport()) {
        return 0;
    }
    let segment = Segment::new(ctx.arg::<*const c_void>(1));
    if segment.payload() == 0 {
        return 0; // an acknowledgement, a bare FIN, a reset
    }
    if let Some(connection) = connection::get(sk.key())
        && let Some(tcp) = sk.tcp()
    {
        data(connection, tcp, segment);
    }
    0
}

#[inline(always)]
fn data(connection: &mut ConnectionState, tcp: TcpSock<Typed>, segment: Segment) {
    let (seq, payload, rcv_nxt) = (segment.seq(), segment.payload(), tcp.rcv_nxt());
    let new = seq.wrapping_add(payload).wrapping_sub(rcv_nxt);
    if new == 0 || new.cast_signed() < 0 {
        return; // nothing new: a retransmission or a keepalive probe of the peer
    }
    let now = connection::now_ns();
    let payload_new = if new < payload { new } else { payload };
    connection::server_data(connection, tcp, payload_new, now);
    if connection.flags & flag::REPLIES != 0 {
        if maps::STOPPED.get_ptr(connection.id).is_some() {
            connection.flags &= !flag::REPLIES;
            return;
        }
        let meta = ReplySegment {
            id: connection.id,
            time_ns: now,
            offset: seq.wrapping_sub(connection.first_rcv_nxt),
            payload,
            captured: 0,
            padding: 0,
        };
        emit::reply(segment, meta, hook::TCP_PROBE);
    }
}
