//! Tracepoint `tcp:tcp_receive_reset`: a reset arrived and was accepted.
//!
//! Fired at the top of `tcp_reset`, before the error and the state are set; since Linux 4.16. In softirq
//! or while the backlog is processed. A refused connect comes here too.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    config::is_traced_port,
    connection,
    sock::{Sock, Typed},
};

/// `(struct sock *sk)`
#[btf_tracepoint(function = "tcp_receive_reset")]
fn tcp_receive_reset(ctx: BtfTracePointContext) -> i32 {
    let sk = Sock::<Typed>::new(ctx.arg(0));
    if is_traced_port(sk.dport())
        && let Some(connection) = connection::get(sk.key())
    {
        connection.rst_received_ns = connection::now_ns();
    }
    0
}
