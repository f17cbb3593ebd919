//! Tracepoint `sock:inet_sk_error_report`: the socket reports an error.
//!
//! Fired by `sk_error_report`; since Linux 5.14. In any context. ICMP errors that do not end the
//! connection come here with `sk_err` 0 and are left out. Without it the error is read at CLOSE.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    config::is_traced_port,
    connection,
    sock::{Sock, Typed},
};

/// `(const struct sock *sk)`
#[btf_tracepoint(function = "inet_sk_error_report")]
fn inet_sk_error_report(ctx: BtfTracePointContext) -> i32 {
    let sk = Sock::<Typed>::new(ctx.arg(0));
    if is_traced_port(sk.dport())
        && let Some(connection) = connection::get(sk.key())
    {
        let errno = sk.error();
        if errno != 0 {
            connection.errno = errno;
        }
    }
    0
}
