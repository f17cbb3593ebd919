//! Tracepoint `tcp:tcp_receive_reset`: a reset arrived and was accepted.
//!
//! Fired at the top of `tcp_reset`, before the error and the state are set; since Linux 4.16. In softirq
//! or while the backlog is processed. A refused connect comes here too.

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

/// `(struct sock *sk)`
#[btf_tracepoint(function = "tcp_receive_reset")]
fn tcp_receive_reset(ctx: BtfTracePointContext) -> i32 {
    reset(Sock::<Typed>::new(ctx.arg(0)));
    0
}

/// `(struct sock *sk)`
#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
fn tcp_receive_reset_raw(ctx: RawTracePointContext) -> u32 {
    reset(Sock::<Probed>::new(ctx.arg(0)));
    0
}

#[inline(always)]
fn reset<L: Load>(sk: Sock<L>) {
    if is_traced_port(sk.dport())
        && let Some(connection) = connection::get(sk.key())
    {
        connection.rst_received_ns = connection::now_ns();
    }
}
