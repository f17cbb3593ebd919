//! Empty programs on the hooks of smtptrace: the least that any tracer there can cost. Only
//! `cargo xtask bench` loads them.

#![no_std]
#![no_main]

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

/// See the license in `main.rs`.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// As `hooks/inet_sock_set_state.rs`.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(_: BtfTracePointContext) -> i32 {
    0
}

/// As `hooks/skb_copy_datagram_iovec.rs`.
#[btf_tracepoint(function = "skb_copy_datagram_iovec")]
fn skb_copy_datagram_iovec(_: BtfTracePointContext) -> i32 {
    0
}

/// As `hooks/tcp_destroy_sock.rs`.
#[btf_tracepoint(function = "tcp_destroy_sock")]
fn tcp_destroy_sock(_: BtfTracePointContext) -> i32 {
    0
}

/// As `hooks/tcp_probe.rs`.
#[btf_tracepoint(function = "tcp_probe")]
fn tcp_probe(_: BtfTracePointContext) -> i32 {
    0
}

/// As `hooks/tcp_rcv_space_adjust.rs`.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
fn tcp_rcv_space_adjust(_: BtfTracePointContext) -> i32 {
    0
}

/// As `hooks/tcp_sendmsg_locked.rs`.
#[btf_tracepoint(function = "tcp_sendmsg_locked")]
fn tcp_sendmsg_locked(_: BtfTracePointContext) -> i32 {
    0
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program in which this endless loop is reachable.
    loop {}
}
