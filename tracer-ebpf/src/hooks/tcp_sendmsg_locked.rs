//! `tcp_sendmsg_locked`: the client writes.
//!
//! The tracepoint `tcp:tcp_sendmsg_locked` (since Linux 6.16) fires in each round of the copy loop,
//! before the copy. Older kernels: fentry on the function of that name, then kprobe; they fire once per
//! call, and before the kernel tests whether it takes data at all, so that is tested here. In process context with the
//! socket locked. Only the socket and the length are read, never the data. Without any of the three, `write_seq` seen at `tcp_probe` tells that there was a write.

use core::ffi::c_void;

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, kprobe, raw_tracepoint},
    programs::{BtfTracePointContext, FEntryContext, ProbeContext, RawTracePointContext},
};

use crate::{
    config::is_traced_port,
    connection,
    load::{Load, Probed, Typed},
    sock::Sock,
};

/// `(const struct sock *sk, const struct msghdr *msg, const struct sk_buff *skb, int size_goal)`
#[btf_tracepoint(function = "tcp_sendmsg_locked")]
fn tcp_sendmsg_locked(ctx: BtfTracePointContext) -> i32 {
    write(Sock::<Typed>::new(ctx.arg(0)));
    0
}

/// `(const struct sock *sk, const struct msghdr *msg, const struct sk_buff *skb, int size_goal)`
#[raw_tracepoint(tracepoint = "tcp_sendmsg_locked")]
fn tcp_sendmsg_locked_raw(ctx: RawTracePointContext) -> u32 {
    write(Sock::<Probed>::new(ctx.arg(0)));
    0
}

/// `int tcp_sendmsg_locked(struct sock *sk, struct msghdr *msg, size_t size)`
#[fentry(function = "tcp_sendmsg_locked")]
fn tcp_sendmsg_locked_fentry(ctx: FEntryContext) -> i32 {
    if ctx.arg::<usize>(2) > 0 {
        write(Sock::<Typed>::new(ctx.arg(0)));
    }
    0
}

/// `int tcp_sendmsg_locked(struct sock *sk, struct msghdr *msg, size_t size)`
#[kprobe(function = "tcp_sendmsg_locked")]
fn tcp_sendmsg_locked_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(sk), Some(size)) = (ctx.arg::<*const c_void>(0), ctx.arg::<usize>(2))
        && size > 0
    {
        write(Sock::<Probed>::new(sk));
    }
    0
}

#[inline(always)]
fn write<L: Load>(sk: Sock<L>) {
    if is_traced_port(sk.dport())
        && let Some(connection) = connection::get(sk.key())
        && let Some(tcp) = sk.tcp()
    {
        connection::client_write(connection, sk, tcp);
    }
}
