//! Tracepoint `sock:inet_sk_error_report`: the socket reports an error.
//!
//! Fired by `sk_error_report`; since Linux 5.14. In any context. ICMP errors that do not end the
//! connection come here with `sk_err` 0 and are left out. Without it the error is read at CLOSE.

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

/// `(const struct sock *sk)`
#[btf_tracepoint(function = "inet_sk_error_report")]
fn inet_sk_error_report(ctx: BtfTracePointContext) -> i32 {
    error(Sock::<Typed>::new(ctx.arg(0)));
    0
}

/// `(const struct sock *sk)`
#[raw_tracepoint(tracepoint = "inet_sk_error_report")]
fn inet_sk_error_report_raw(ctx: RawTracePointContext) -> u32 {
    error(Sock::<Probed>::new(ctx.arg(0)));
    0
}

#[inline(always)]
fn error<L: Load>(sk: Sock<L>) {
    if is_traced_port(sk.dport())
        && let Some(connection) = connection::get(sk.key())
    {
        let errno = sk.error();
        if errno != 0 {
            connection.errno = errno;
        }
    }
}
