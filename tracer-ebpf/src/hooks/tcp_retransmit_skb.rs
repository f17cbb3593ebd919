//! Tracepoint `tcp:tcp_retransmit_skb`: a segment is sent again.
//!
//! Fired by `__tcp_retransmit_skb` (timeout, fast retransmit, tail loss probe, SYN); since Linux 4.15.
//! Up to 6.16 only after success, later after failure as well, so the count of the record is the
//! kernel's own (`total_retrans`) and only the time is taken here. In a timer or softirq. Where no hook
//! reports writes, one that nobody answers is noticed here, a retransmission timeout late.

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};

use crate::{
    config::is_traced_port,
    connection,
    load::{Load, Probed, Typed},
    sock::Sock,
};

/// `(const struct sock *sk, const struct sk_buff *skb)`, since 6.17 with an error behind
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> i32 {
    sent_again(Sock::<Typed>::new(ctx.arg(0)));
    0
}

/// `(const struct sock *sk, const struct sk_buff *skb)`, since 6.17 with an error behind
#[raw_tracepoint(tracepoint = "tcp_retransmit_skb")]
fn tcp_retransmit_skb_raw(ctx: RawTracePointContext) -> u32 {
    sent_again(Sock::<Probed>::new(ctx.arg(0)));
    0
}

#[inline(always)]
fn sent_again<L: Load>(sk: Sock<L>) {
    if is_traced_port(sk.dport())
        && let Some(connection) = connection::get(sk.key())
    {
        let now = connection::now_ns();
        connection.last_retransmit_ns = now;
        if let Some(tcp) = sk.tcp() {
            connection::retransmitted(connection, tcp, now);
        }
    }
}
