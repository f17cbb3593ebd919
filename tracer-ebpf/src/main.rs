//! The BPF programs of smtptrace. They record facts and draw no conclusions: one small state per
//! traced connection, handed over when it ends.
//!
//! Start with `maps.rs`; `hooks/` has one file per kernel function.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    clippy::inline_always,
    reason = "a pointer to a kernel object keeps its type only within one BPF function"
)]
#![expect(clippy::needless_pass_by_value, reason = "the macros of aya pass the context by value")]

mod after_fin;
mod config;
mod connection;
mod emit;
mod filter;
mod hooks;
mod load;
mod maps;
mod owner;
mod quota;
mod replies;
mod seed;
mod segment;
mod sock;
mod tls;

/// The helpers used here are only for GPL-compatible programs; the source is MIT OR Apache-2.0.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program in which this endless loop is reachable.
    loop {}
}
