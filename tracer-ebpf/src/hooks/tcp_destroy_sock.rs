//! Tracepoint `tcp:tcp_destroy_sock`: the end of the record.
//!
//! Fired by `tcp_v4_destroy_sock`, for IPv6 too; since Linux 4.16. In process context after `close`, or
//! in softirq or a timer for an orphan. It comes after the state CLOSE and after a reset that closing
//! sends. The destination port may be 0 by now: `tcp_disconnect` clears it.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_common::counters::hook;

use crate::{
    config::is_traced_port,
    connection, emit, maps,
    sock::{Sock, Typed},
};

/// `(struct sock *sk)`
#[btf_tracepoint(function = "tcp_destroy_sock")]
fn tcp_destroy_sock(ctx: BtfTracePointContext) -> i32 {
    let sk = Sock::<Typed>::new(ctx.arg(0));
    let dport = sk.dport();
    if dport != 0 && !is_traced_port(dport) {
        return 0;
    }
    if let Some(connection) = connection::get(sk.key()) {
        emit::closed(connection, hook::TCP_DESTROY_SOCK);
        let _ = maps::CONNECTIONS.remove(sk.key());
    }
    0
}
