//! Tracepoint `sock:inet_sock_set_state`: opened, established, who closed first, closed.
//!
//! Fired by `inet_sk_state_store` and `inet_sk_set_state`, before the new state is stored; since Linux
//! 4.16. At SYN_SENT in the connecting process with the socket locked, with addresses and destination
//! port set and no source port yet; later in any context (softirq, timer, another process).

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use tracer_common::{counters::hook, record::ConnectionState};

use crate::{
    config::is_traced_port,
    connection,
    sock::{Load, Probed, Sock, TcpSock, Typed, state},
};

/// `(const struct sock *sk, int oldstate, int newstate)`
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    state_set(Sock::<Typed>::new(ctx.arg(0)), ctx.arg(2));
    0
}

/// `(const struct sock *sk, int oldstate, int newstate)`
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn inet_sock_set_state_raw(ctx: RawTracePointContext) -> u32 {
    state_set(Sock::<Probed>::new(ctx.arg(0)), ctx.arg(2));
    0
}

#[inline(always)]
fn state_set<L: Load>(sk: Sock<L>, new: i32) {
    if is_traced_port(sk.dport())
        && let Some(tcp) = sk.tcp()
    {
        if new == state::SYN_SENT {
            connection::open(sk);
        } else if let Some(connection) = connection::get(sk.key()) {
            change(connection, sk, tcp, new);
        }
    }
}

#[inline(always)]
fn change<L: Load>(connection: &mut ConnectionState, sk: Sock<L>, tcp: TcpSock<L>, new: i32) {
    let now = connection::now_ns();
    if new == state::ESTABLISHED {
        connection::established(connection, tcp, now);
        return;
    }
    connection::settle(connection, sk, tcp, now);
    match new {
        state::FIN_WAIT1 | state::LAST_ACK => {
            // Both are set by `tcp_close` and `tcp_shutdown` only, in the process that closes.
            connection::used_by_current(connection, hook::INET_SOCK_SET_STATE);
            connection::local_close(connection, sk, tcp);
            connection.local_fin_ns = now;
        }
        state::CLOSE_WAIT | state::CLOSING => connection.peer_fin_ns = now,
        state::CLOSE => {
            if connection.local_fin_ns == 0 {
                connection::local_close(connection, sk, tcp);
            }
            let errno = sk.error();
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
