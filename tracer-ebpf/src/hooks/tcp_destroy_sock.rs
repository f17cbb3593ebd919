//! Tracepoint `tcp:tcp_destroy_sock`: the end of the record.
//!
//! Fired by `tcp_v4_destroy_sock`, for IPv6 too; since Linux 4.16. In process context after `close`, or
//! in softirq or a timer for an orphan. It comes after the state CLOSE and after a reset that closing
//! sends. The destination port may be 0 by now: `tcp_disconnect` clears it.

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use tracer_common::counters::{hook, reason};

use crate::{
    config::is_traced_port,
    connection, emit,
    load::{Load, Probed, Typed},
    sock::Sock,
};

/// `(struct sock *sk)`
#[btf_tracepoint(function = "tcp_destroy_sock")]
fn tcp_destroy_sock(ctx: BtfTracePointContext) -> i32 {
    end(Sock::<Typed>::new(ctx.arg(0)));
    0
}

/// `(struct sock *sk)`
#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
fn tcp_destroy_sock_raw(ctx: RawTracePointContext) -> u32 {
    end(Sock::<Probed>::new(ctx.arg(0)));
    0
}

#[inline(always)]
fn end<L: Load>(sk: Sock<L>) {
    let dport = sk.dport();
    if dport != 0 && !is_traced_port(dport) {
        return;
    }
    let Some(connection) = connection::entry(sk.key()) else { return };
    if connection.id != 0 {
        if connection.closed_ns == 0 {
            // Every socket is in the state CLOSE here (`inet_csk_destroy_sock`).
            emit::count_drop(hook::INET_SOCK_SET_STATE, reason::STATE_UNSEEN);
            connection.closed_ns = connection::now_ns();
        }
        emit::closed(connection, hook::TCP_DESTROY_SOCK);
    }
    connection::forget(connection, sk.key(), hook::TCP_DESTROY_SOCK);
}
