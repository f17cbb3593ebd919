//! Tracepoint `sock:inet_sock_set_state`: opened, established, who closed first, closed.
//!
//! Fired by `inet_sk_state_store` and `inet_sk_set_state`, before the new state is stored; since Linux
//! 4.16. At SYN_SENT in the connecting process with the socket locked, with addresses and destination
//! port set and no source port yet; later in any context (softirq, timer, another process).
//!
//! The kernel skips a program that is at work on the same processor already, below an interrupt. So the
//! program is there twice: while one of the two is at work, the other can run. What the first has recorded the second
//! leaves alone.

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use tracer_common::{
    counters::{hook, reason},
    record::ConnectionState,
};

use crate::{
    config::is_traced_port,
    connection, emit,
    load::{Load, Probed, Typed},
    owner,
    sock::{Sock, TcpSock, state},
};

/// `(const struct sock *sk, int oldstate, int newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    state_set(Sock::<Typed>::new(ctx.arg(0)), ctx.arg(1), ctx.arg(2), Run::First);
    0
}

/// `(const struct sock *sk, int oldstate, int newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state_again(ctx: BtfTracePointContext) -> i32 {
    state_set(Sock::<Typed>::new(ctx.arg(0)), ctx.arg(1), ctx.arg(2), Run::Second);
    0
}

/// `(const struct sock *sk, int oldstate, int newstate)`
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn inet_sock_set_state_raw(ctx: RawTracePointContext) -> u32 {
    state_set(Sock::<Probed>::new(ctx.arg(0)), ctx.arg(1), ctx.arg(2), Run::First);
    0
}

/// `(const struct sock *sk, int oldstate, int newstate)`
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn inet_sock_set_state_raw_again(ctx: RawTracePointContext) -> u32 {
    state_set(Sock::<Probed>::new(ctx.arg(0)), ctx.arg(1), ctx.arg(2), Run::Second);
    0
}

/// Which of the two programs runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    First,
    Second,
}

#[inline(always)]
fn state_set<L: Load>(sk: Sock<L>, old: u8, new: u8, run: Run) {
    let is_traced = is_traced_port(sk.dport());
    if !is_traced && new != state::SYN_SENT {
        return;
    }
    let entry = connection::get(sk.key());
    if let (Run::Second, Some(connection)) = (run, &entry)
        && connection.tcp_state == new
    {
        return; // the first has run
    }
    let Some(tcp) = sk.tcp() else { return };
    if new == state::SYN_SENT {
        if let Some(previous) = entry {
            end(previous, sk.key()); // its socket was told to forget it, not closed
        }
        if !is_traced {
            return;
        }
        // The second meets again each connection that the first found no room for.
        if let (Err(reason), Run::First) = (connection::open(sk), run) {
            emit::count_drop(hook::INET_SOCK_SET_STATE, reason);
        }
    } else if let Some(connection) = entry {
        if connection.tcp_state != 0 && connection.tcp_state != old {
            emit::count_drop(hook::INET_SOCK_SET_STATE, reason::STATE_UNSEEN);
        }
        connection.tcp_state = new;
        change(connection, sk, tcp, new);
        if new == state::CLOSE && connection.established_ns == 0 {
            end(connection, sk.key());
        }
    }
}

/// Hands over a connection that nothing more can happen to, although its socket stays.
#[inline(always)]
fn end(connection: &mut ConnectionState, key: u64) {
    emit::closed(connection, hook::INET_SOCK_SET_STATE);
    connection::forget(connection, key, hook::INET_SOCK_SET_STATE);
}

#[inline(always)]
fn change<L: Load>(connection: &mut ConnectionState, sk: Sock<L>, tcp: TcpSock<L>, new: u8) {
    let now = connection::now_ns();
    if new == state::ESTABLISHED {
        connection::established(connection, tcp, now);
        return;
    }
    connection::settle(connection, sk, tcp, now);
    match new {
        state::FIN_WAIT1 | state::LAST_ACK => {
            // Both are set by `tcp_close` and `tcp_shutdown` only, in the process that closes.
            owner::used_by_current(connection, hook::INET_SOCK_SET_STATE);
            connection::local_close(connection, sk, tcp);
            connection.local_fin_ns = now;
        }
        state::CLOSE_WAIT | state::CLOSING => connection.peer_fin_ns = now,
        state::CLOSE => {
            if connection.local_fin_ns == 0 {
                connection::local_close(connection, sk, tcp);
            }
            let errno = match sk.error() {
                0 if connection.established_ns == 0 => connection::connect_error(sk, tcp),
                errno => errno,
            };
            if errno != 0 {
                connection.errno = errno;
            }
            if connection.device_flags == 0 {
                connection.device_flags = tcp.device_flags(); // the connect failed
            }
            connection.sport = tcp.sport();
            connection.closed_ns = now;
        }
        _ => {}
    }
}
