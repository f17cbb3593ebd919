//! `tcp_connect`: the SYN is sent.
//!
//! fentry or kprobe on the function of that name, called by `tcp_v4_connect` and `tcp_v6_connect` when
//! route and source port are settled; all kernels. In process context with the socket locked. It moves
//! the start from the state SYN_SENT, where the entry was made, to the SYN: between the two the kernel
//! looks for a free source port. Without it the start is the state SYN_SENT.

use core::ffi::c_void;

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

use crate::{
    config::is_traced_port,
    connection,
    load::{Load, Probed, Typed},
    sock::Sock,
};

/// `int tcp_connect(struct sock *sk)`
#[fentry(function = "tcp_connect")]
fn tcp_connect_fentry(ctx: FEntryContext) -> i32 {
    syn(Sock::<Typed>::new(ctx.arg(0)));
    0
}

/// `int tcp_connect(struct sock *sk)`
#[kprobe(function = "tcp_connect")]
fn tcp_connect_kprobe(ctx: ProbeContext) -> u32 {
    if let Some(sk) = ctx.arg::<*const c_void>(0) {
        syn(Sock::<Probed>::new(sk));
    }
    0
}

#[inline(always)]
fn syn<L: Load>(sk: Sock<L>) {
    if is_traced_port(sk.dport())
        && let Some(connection) = connection::get(sk.key())
        && let Some(tcp) = sk.tcp()
    {
        connection.start_ns = connection::now_ns();
        connection.sport = tcp.sport();
    }
}
