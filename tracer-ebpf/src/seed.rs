//! Entries for connections that were open before the hooks were attached.
//!
//! An iterator finds them while the hooks run already. Every other entry has one writer at a time, under the
//! socket's lock; an iterator does not hold it. So an entry is put together elsewhere and inserted
//! whole, unless there is one already. What the hooks could not note, because it happened between the look at the
//! socket and the insert, is told from a second look, and then single words are written that a hook
//! would set to the same moment.

use core::{cmp::Ordering, ffi::c_void};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::{bpf_jiffies64, bpf_seq_write},
};
use tracer_common::{
    counters::{hook, reason},
    record::{ConnectionState, Holder, Turn, direction, flag},
};

use crate::{
    config::{is_traced_port, tick_ns},
    connection::{announce, count, describe, established, fin, forget, get, now_ns},
    emit, filter,
    load::{Load as _, Typed},
    maps,
    owner::current_process,
    quota,
    sock::{Sock, TcpSock, state},
};

/// The entry that exists already has this error (`errno.h`).
const EEXIST: i32 = -17;

/// Notes which process reads the iterator.
#[inline(always)]
pub(crate) fn observe() {
    if let Some(observer) = maps::OBSERVER.get_ptr_mut(0) {
        // SAFETY: the array has an entry 0, and an aligned word is written at once.
        unsafe { observer.write_volatile(current_process()) };
    }
}

/// Has the reader of the iterator read `number`.
#[inline(always)]
pub(crate) fn tell(meta: *const c_void, number: u64) {
    // SAFETY: the first member of `struct bpf_iter_meta` is the `seq_file`, by the interface of
    // iterators; the number is eight bytes on this stack.
    unsafe {
        let seq: *mut c_void = Typed::load(meta, 0);
        bpf_seq_write(seq.cast(), (&raw const number).cast(), 8);
    }
}

/// Whether `sk` may be a connection that lacks an entry.
#[inline(always)]
pub(crate) fn is_wanted(sk: Sock<Typed>) -> bool {
    is_traced_port(sk.dport())
        && has_life(sk.state())
        && maps::CONNECTIONS.get_ptr(sk.key()).is_none()
}

/// Whether a connection in this state is one. A listener and the like have no destination.
#[inline(always)]
fn has_life(state: u8) -> bool {
    matches!(
        state,
        state::ESTABLISHED
            | state::SYN_SENT
            | state::FIN_WAIT1
            | state::FIN_WAIT2
            | state::CLOSE_WAIT
            | state::LAST_ACK
            | state::CLOSING
    )
}

/// Whether this host's FIN, and whether the server's came first, in a connection of this state.
#[inline(always)]
fn fins(state: u8) -> (bool, bool) {
    match state {
        state::FIN_WAIT1 | state::FIN_WAIT2 | state::CLOSING => (true, false),
        state::CLOSE_WAIT => (false, true),
        state::LAST_ACK => (true, true),
        _ => (false, false),
    }
}

/// Makes an entry for `sk`, which [`is_wanted`] and which `holder` has open, if it passes the filters.
#[inline(always)]
pub(crate) fn seed(sk: Sock<Typed>, tcp: TcpSock<Typed>, holder: &Holder) {
    let Some(empty) = maps::EMPTY.get(0) else { return };
    if maps::SEED.set(0, empty, 0).is_err() {
        return; // does not happen to an array that has an entry 0
    }
    let Some(entry) = maps::SEED.get_ptr_mut(0) else { return };
    // SAFETY: the map has an entry 0, which only the one thread that reads an iterator writes.
    let entry = unsafe { &mut *entry };
    let seen = sk.state();
    describe(entry, sk, holder);
    measure(entry, sk, tcp, seen);
    if !filter::passes(entry) {
        return;
    }
    let entry: &ConnectionState = entry;
    if quota::take(entry.uid).is_err() {
        emit::count_drop(hook::TASK_FILE, reason::OVER_QUOTA);
        return;
    }
    match maps::CONNECTIONS.insert(sk.key(), entry, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            let (write_seq, rcv_nxt) = (entry.turn_write_seq, entry.first_rcv_nxt);
            look_again(sk, tcp, seen, write_seq, rcv_nxt);
            announce(entry);
        }
        Err(error) => {
            quota::give_back(entry.uid);
            if error != EEXIST {
                emit::count_drop(hook::TASK_FILE, reason::CONNECTIONS_FULL);
            }
        }
    }
}

/// Fills in how far the connection has come.
#[inline(always)]
fn measure(entry: &mut ConnectionState, sk: Sock<Typed>, tcp: TcpSock<Typed>, seen: u8) {
    let now = entry.start_ns;
    let fin = fin(sk);
    let (local, peer) = fins(seen);
    let open = seen != state::SYN_SENT;
    entry.established_ns = if open { now } else { 0 };
    entry.local_fin_ns = if local { now } else { 0 };
    entry.peer_fin_ns = if peer { now } else { 0 };
    entry.sport = tcp.sport();
    entry.srtt_us = tcp.srtt_us();
    entry.device_flags = tcp.device_flags();
    entry.bytes_sent_before = tcp.bytes_sent();
    entry.bytes_received_before = tcp.bytes_received().saturating_sub(u64::from(fin));
    entry.retransmits_before = tcp.total_retrans();
    entry.turn_write_seq = tcp.write_seq();
    entry.turn_rcv_nxt = tcp.rcv_nxt().wrapping_sub(fin);
    entry.first_rcv_nxt = entry.turn_rcv_nxt;
    entry.heard_seq = entry.turn_rcv_nxt;
    entry.flags |= flag::MIDLIFE;
    if !open {
        return;
    }
    let Some((since_sent, since_received)) = since_data(tcp) else { return };
    let since = if since_sent < since_received { since_sent } else { since_received };
    entry.last_data_ns = now.saturating_sub(since);
    if entry.bytes_received_before == 0 {
        return; // the greeting is still to come: its whole dialogue will be seen
    }
    entry.first_byte_ns = now;
    entry.flags |= flag::MIDSTREAM;
    if entry.bytes_sent_before == 0 {
        return; // no turn has begun
    }
    entry.flags |= flag::EARLIER_TURN;
    entry.turns = 1;
    entry.direction = match since_sent.cmp(&since_received) {
        Ordering::Less => direction::CLIENT,
        Ordering::Greater => direction::SERVER,
        Ordering::Equal => direction::UNKNOWN, // within one tick
    };
    let answered = entry.direction != direction::CLIENT;
    entry.current = Turn {
        start_ns: entry.last_data_ns,
        first_byte_ns: if answered { entry.last_data_ns } else { 0 },
        last_write_ns: entry.last_data_ns,
        last_ns: entry.last_data_ns,
        client_bytes: 0,
        server_bytes: 0,
    };
}

/// Nanoseconds since data was sent and received, to a tick of the kernel's timer; `None` if the length of a
/// tick is unknown.
#[inline(always)]
fn since_data(tcp: TcpSock<Typed>) -> Option<(u64, u64)> {
    let tick_ns = tick_ns()?;
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what the socket has")]
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_jiffies64() } as u32;
    let since = |then: u32| u64::from(now.wrapping_sub(then)) * tick_ns;
    Some((since(tcp.last_sent()), since(tcp.last_received())))
}

/// Notes what happened between the first look and the insert.
#[inline(always)]
fn look_again(sk: Sock<Typed>, tcp: TcpSock<Typed>, seen: u8, write_seq: u32, first_rcv_nxt: u32) {
    let Some(entry) = get(sk.key()) else { return };
    let now = now_ns();
    let state = sk.state();
    if state == state::CLOSE {
        // The hook at CLOSE comes before the state: it has found the entry, or will not come any more.
        if entry.closed_ns == 0 {
            forget(entry, sk.key(), hook::TASK_FILE);
        }
        return;
    }
    if seen == state::SYN_SENT {
        if state != seen && entry.established_ns == 0 {
            established(entry, tcp, now);
        }
        return;
    }
    let (local, peer) = fins(state);
    if peer && entry.peer_fin_ns == 0 {
        entry.peer_fin_ns = now;
    }
    if local && entry.local_fin_ns == 0 {
        entry.local_fin_ns = now;
    }
    if tcp.write_seq() != write_seq || tcp.rcv_nxt().wrapping_sub(fin(sk)) != first_rcv_nxt {
        entry.last_data_ns = now;
        count(entry, sk, tcp);
    }
}
