//! Tracepoint `tcp:tcp_send_reset`: this host sends a reset.
//!
//! Fired by `tcp_send_active_reset` (close with unread data, `SO_LINGER` 0, keepalive death) and by
//! `tcp_v4_send_reset` / `tcp_v6_send_reset` (an answer to a segment that fits no connection); since
//! Linux 4.16. In any context. `sk` may be null or a TIME_WAIT socket since 6.12: it is used as a key and
//! never read.

use core::ffi::c_void;

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};

use crate::connection;

/// `(const struct sock *sk, const struct sk_buff *skb)`, since 6.12 with a reason behind
#[btf_tracepoint(function = "tcp_send_reset")]
fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
    reset(ctx.arg(0));
    0
}

/// `(const struct sock *sk, const struct sk_buff *skb)`, since 6.12 with a reason behind
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
fn tcp_send_reset_raw(ctx: RawTracePointContext) -> u32 {
    reset(ctx.arg(0));
    0
}

#[inline(always)]
fn reset(sk: *const c_void) {
    if let Some(connection) = connection::get(sk as u64) {
        connection.rst_sent_ns = connection::now_ns();
    }
}
