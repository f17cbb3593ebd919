//! Tracepoint `tcp:tcp_rcv_space_adjust`: a process reads, and so owns the connection.
//!
//! Fired at the top of `tcp_rcv_space_adjust`, called by `tcp_recvmsg_locked` after data was copied (and by
//! splice and zero-copy reads); since Linux 4.18. In process context with the socket locked, on the thread
//! that reads: with TLS probes, that joins the TLS session of the call under way to the connection.
//!
//! A sockmap or a `strparser` reads in softirq as well, on top of a process that has nothing to do with it: then no process
//! holds the socket.

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use tracer_common::{config::setting, counters::hook};

use crate::{
    config::{is_set, is_traced_port},
    connection,
    load::{Load, Probed, Typed},
    owner,
    sock::Sock,
    tls,
};

/// `(struct sock *sk)`
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
fn tcp_rcv_space_adjust(ctx: BtfTracePointContext) -> i32 {
    read(Sock::<Typed>::new(ctx.arg(0)));
    0
}

/// `(struct sock *sk)`
#[raw_tracepoint(tracepoint = "tcp_rcv_space_adjust")]
fn tcp_rcv_space_adjust_raw(ctx: RawTracePointContext) -> u32 {
    read(Sock::<Probed>::new(ctx.arg(0)));
    0
}

#[inline(always)]
fn read<L: Load>(sk: Sock<L>) {
    if is_traced_port(sk.dport())
        && let Some(connection) = connection::get(sk.key())
        && sk.is_held()
    {
        owner::used_by_current(connection, hook::TCP_RCV_SPACE_ADJUST);
        if is_set(setting::TLS_PROBES) {
            tls::received(connection, sk.key());
        }
    }
}
