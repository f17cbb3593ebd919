//! The state of one traced connection, and how each fact changes it.
//!
//! Every hook that writes here runs under the socket's lock (owned, or `bh_lock_sock` with no owner),
//! so an entry has one writer at a time. The exception are `tls_column` and `tls_pieces`, which only the
//! thread that reads from the TLS session writes.

use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_ktime_get_ns,
};
use tracer_common::{
    config::setting,
    counters::{hook, reason},
    record::{ConnectionState, Holder, IDLE_NS, Opened, TURN_BATCH, Turn, direction, flag, kind},
};

use crate::{
    after_fin,
    config::{is_set, seconds},
    emit, filter,
    load::Load,
    maps,
    owner::{current_holder, is_kernel_thread, used_by_current},
    quota::{self, OverQuota},
    segment::tcp_flag,
    sock::{Sock, TcpSock, state},
};

/// Now, in nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// The state of a traced socket; `None` if it is not traced.
#[inline(always)]
pub(crate) fn get<'a>(key: u64) -> Option<&'a mut ConnectionState> {
    entry(key).filter(|state| state.id != 0)
}

/// The entry of a socket, which may be that of a connection that was [forgotten](forget).
#[inline(always)]
pub(crate) fn entry<'a>(key: u64) -> Option<&'a mut ConnectionState> {
    // SAFETY: entries are preallocated, so the memory stays mapped while the program runs; the
    // socket's lock keeps other writers of this entry away.
    maps::CONNECTIONS.get_ptr_mut(key).map(|state| unsafe { &mut *state })
}

/// Lets go of the connection of the socket `key`. The kernel may refuse to remove an entry (a bucket of the table is
/// in use on this processor: `htab_lock_bucket`); then it stands for no connection any more, and is removed when
/// the socket is destroyed.
#[inline(always)]
pub(crate) fn forget(state: &mut ConnectionState, key: u64, hook: u32) {
    if state.id != 0 {
        quota::give_back(state.uid);
        state.id = 0;
    }
    remove(key, hook);
}

#[inline(always)]
fn remove(key: u64, hook: u32) {
    if maps::CONNECTIONS.remove(key).is_err() {
        emit::count_drop(hook, reason::ENTRY_STAYS);
    }
}

/// Begins to trace the connection that the current process is opening on `sk`, if it passes the
/// filters.
///
/// # Errors
///
/// The reason why there is no room for it, of [`reason`].
#[inline(always)]
pub(crate) fn open<L: Load>(sk: Sock<L>) -> Result<(), u32> {
    if is_kernel_thread() {
        return Ok(()); // a further path of an MPTCP connection: its client has a record of the first
    }
    let key = sk.key();
    let Some(empty) = maps::EMPTY.get(0) else { return Ok(()) };
    if maps::CONNECTIONS.insert(key, empty, 0).is_err() {
        return Err(reason::CONNECTIONS_FULL);
    }
    let Some(entry) = entry(key) else { return Ok(()) };
    describe(entry, sk, &current_holder());
    entry.tcp_state = state::SYN_SENT;
    let (passes, mut room) = (filter::passes(entry), Ok(()));
    if passes {
        room = quota::take(entry.uid).map_err(|OverQuota| reason::OVER_QUOTA);
    }
    if passes && room.is_ok() {
        announce(entry);
    } else {
        entry.id = 0;
        remove(key, hook::INET_SOCK_SET_STATE);
    }
    room
}

/// Says that this connection is there, if user space has to look at its process at once.
#[inline(always)]
pub(crate) fn announce(state: &ConnectionState) {
    if is_first_of(state.cgroup) || is_set(setting::TLS_PROBES) {
        let (pid, id, cgroup) = (state.pid, state.id, state.cgroup);
        emit::opened(&Opened { kind: kind::OPENED, pid, id, cgroup });
    }
}

/// Whether no connection of this cgroup was seen before, or long ago.
#[inline(always)]
fn is_first_of(cgroup: u64) -> bool {
    // An LRU map: an insert cannot find it full.
    maps::CGROUPS.get_ptr(cgroup).is_none() && maps::CGROUPS.insert(cgroup, 1, 0).is_ok()
}

/// Fills an empty entry in with who holds the connection, from where to where it goes, and that it is seen
/// from now on.
#[inline(always)]
pub(crate) fn describe<L: Load>(state: &mut ConnectionState, sk: Sock<L>, holder: &Holder) {
    state.kind = kind::CLOSED;
    state.batch.kind = kind::TURNS;
    state.start_ns = now_ns();
    state.last_data_ns = state.start_ns;
    state.src = sk.source();
    state.dst = sk.destination();
    state.dport = sk.dport();
    state.netns = sk.netns();
    state.cgroup = holder.cgroup;
    state.pid = holder.pid;
    state.owner = holder.pid;
    state.uid = holder.uid;
    state.batch.comm = holder.comm;
    if is_set(setting::REPLIES) {
        state.flags = flag::REPLIES;
    }
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    // Two connections on one CPU cannot be met first in the same nanosecond.
    state.id = state.start_ns << 12 | u64::from(cpu & 0xfff);
    state.batch.id = state.id;
}

/// The handshake is complete.
#[inline(always)]
pub(crate) fn established<L: Load>(state: &mut ConnectionState, tcp: TcpSock<L>, now: u64) {
    state.established_ns = now;
    state.device_flags = tcp.device_flags();
    state.last_data_ns = now;
    state.sport = tcp.sport();
    state.srtt_us = tcp.srtt_us();
    state.first_rcv_nxt = tcp.rcv_nxt();
    // Fast Open: a SYN with data. Nothing else can have been sent by now.
    #[expect(clippy::cast_possible_truncation, reason = "of one segment")]
    let early = tcp.bytes_sent() as u32;
    let write_seq = tcp.write_seq().wrapping_sub(early);
    if early == 0 {
        (state.turn_write_seq, state.turn_rcv_nxt) = (write_seq, state.first_rcv_nxt);
    } else {
        start_turn(state, write_seq, state.first_rcv_nxt, state.start_ns);
    }
}

/// The client is about to write, or to be told that it cannot.
#[inline(always)]
pub(crate) fn client_write<L: Load>(state: &mut ConnectionState, sk: Sock<L>, tcp: TcpSock<L>) {
    if state.established_ns == 0 || !sk.takes_data() {
        return; // nothing is sent, or with the SYN
    }
    used_by_current(state, hook::TCP_SENDMSG_LOCKED);
    if state.peer_fin_ns != 0 {
        return; // nobody will answer: no turn, and the idle time before the FIN stands
    }
    let now = now_ns();
    if state.direction != direction::CLIENT {
        begin_turn(state, tcp.write_seq(), tcp.rcv_nxt(), now, hook::TCP_SENDMSG_LOCKED);
    }
    state.current.last_write_ns = now;
    state.current.last_ns = now;
    state.last_data_ns = now;
}

/// Data of the server arrived in a packet with this TTL; 0 if it is not known.
#[inline(always)]
pub(crate) fn data_ttl(state: &mut ConnectionState, ttl: u8) {
    if ttl == 0 {
        return;
    }
    if state.peer_ttl_min == 0 || ttl < state.peer_ttl_min {
        state.peer_ttl_min = ttl;
    }
    if ttl > state.peer_ttl_max {
        state.peer_ttl_max = ttl;
    }
    state.peer_ttl = ttl;
}

/// A segment with FIN or reset arrived. The kernel may still refuse it.
#[inline(always)]
pub(crate) fn closing_segment(state: &mut ConnectionState, flags: u8, ttl: u8) {
    state.closing_ttl = ttl;
    if flags & (tcp_flag::RST | tcp_flag::ACK) == tcp_flag::RST | tcp_flag::ACK {
        state.flags |= flag::RESET_ACK;
    } else {
        state.flags &= !flag::RESET_ACK;
    }
}

/// Whether the packets of the connection are IPv4.
#[inline(always)]
pub(crate) fn is_ipv4(state: &ConnectionState) -> bool {
    u128::from_be_bytes(state.dst) >> 32 == 0xffff
}

/// A segment with `payload` new bytes arrived.
#[inline(always)]
pub(crate) fn server_data<L: Load>(
    state: &mut ConnectionState,
    sk: Sock<L>,
    tcp: TcpSock<L>,
    payload: u32,
    now: u64,
) {
    notice_write(state, tcp, now, hook::TCP_PROBE);
    if state.first_byte_ns == 0 {
        state.first_byte_ns = now;
    }
    if state.direction == direction::CLIENT {
        state.current.first_byte_ns = now;
        state.current.client_bytes = tcp.write_seq().wrapping_sub(state.turn_write_seq);
        state.direction = direction::SERVER;
    } else if state.direction == direction::UNKNOWN {
        state.direction = direction::SERVER; // it may be an answer
    } else if state.direction == direction::SERVER
        && state.idle_from_ns == 0
        && now - state.last_data_ns >= IDLE_NS
    {
        state.idle_from_ns = state.last_data_ns;
        state.idle_until_ns = now;
    }
    state.current.last_ns = now;
    state.last_data_ns = now;
    state.srtt_us = tcp.srtt_us();
    count(state, sk, tcp);
    state.bytes_received += u64::from(payload);
}

/// Payload bytes received in order since the connection was first seen; the kernel counts the FIN as one more.
#[inline(always)]
pub(crate) fn received<L: Load>(state: &ConnectionState, sk: Sock<L>, tcp: TcpSock<L>) -> u64 {
    tcp.bytes_received()
        .wrapping_sub(state.bytes_received_before)
        .saturating_sub(u64::from(fin(sk)))
}

/// Takes the socket's counters, from when the connection was first seen.
#[inline(always)]
pub(crate) fn count<L: Load>(state: &mut ConnectionState, sk: Sock<L>, tcp: TcpSock<L>) {
    state.retransmits = tcp.total_retrans().wrapping_sub(state.retransmits_before);
    state.bytes_sent = tcp.bytes_sent().wrapping_sub(state.bytes_sent_before);
    state.bytes_received = received(state, sk, tcp);
}

/// 1 if the server's FIN has arrived: it takes a sequence number.
#[inline(always)]
pub(crate) fn fin<L: Load>(sk: Sock<L>) -> u32 {
    u32::from(sk.flag(|o| &o.sock_done_bit))
}

/// Finds a write that no hook reported (there is none on this kernel, or the data took a way past
/// it): `write_seq` has moved since the last turn. Its time is that of the last departure.
#[inline(always)]
fn notice_write<L: Load>(state: &mut ConnectionState, tcp: TcpSock<L>, now: u64, hook: u32) {
    let expected = state.turn_write_seq.wrapping_add(state.current.client_bytes);
    if state.direction == direction::CLIENT || state.peer_fin_ns != 0 || tcp.write_seq() == expected
    {
        return;
    }
    // SAFETY: the helper has no preconditions.
    let age = unsafe { bpf_ktime_get_ns() }.saturating_sub(tcp.last_departure_ns());
    let mut start = now.saturating_sub(age);
    if start < state.last_data_ns {
        start = state.last_data_ns;
    }
    begin_turn(state, expected, tcp.rcv_nxt(), start, hook);
    state.current.last_ns = start;
    state.last_data_ns = start;
}

#[inline(always)]
fn begin_turn(state: &mut ConnectionState, write_seq: u32, rcv_nxt: u32, now: u64, hook: u32) {
    if state.direction != direction::NONE {
        state.current.server_bytes = rcv_nxt.wrapping_sub(state.turn_rcv_nxt);
        keep_turn(state, hook);
    }
    start_turn(state, write_seq, rcv_nxt, now);
}

#[inline(always)]
fn start_turn(state: &mut ConnectionState, write_seq: u32, rcv_nxt: u32, now: u64) {
    state.current = Turn {
        start_ns: now,
        first_byte_ns: 0,
        last_write_ns: now,
        last_ns: now,
        client_bytes: 0,
        server_bytes: 0,
    };
    state.turn_write_seq = write_seq;
    state.turn_rcv_nxt = rcv_nxt;
    state.direction = direction::CLIENT;
    state.idle_from_ns = 0;
    state.idle_until_ns = 0;
    state.turns += 1;
}

#[inline(always)]
fn keep_turn(state: &mut ConnectionState, hook: u32) {
    let at = state.batch.count & (TURN_BATCH - 1);
    // SAFETY: `at` is masked to the length of the array, in a form the verifier follows.
    unsafe { *state.batch.turns.get_unchecked_mut(at as usize) = state.current };
    state.batch.count = at + 1;
    if state.batch.count == TURN_BATCH {
        emit::turns(&state.batch, hook);
        state.batch.count = 0;
    }
}

/// A segment was sent again.
#[inline(always)]
pub(crate) fn retransmitted<L: Load>(state: &mut ConnectionState, tcp: TcpSock<L>, now: u64) {
    if state.local_fin_ns == 0 && state.established_ns != 0 {
        notice_write(state, tcp, now, hook::TCP_RETRANSMIT_SKB);
    }
}

/// Takes the counters as they stand; they are zeroed between CLOSE and destroy.
#[inline(always)]
pub(crate) fn settle<L: Load>(state: &mut ConnectionState, sk: Sock<L>, tcp: TcpSock<L>, now: u64) {
    let rcv_nxt = tcp.rcv_nxt().wrapping_sub(fin(sk));
    if state.local_fin_ns != 0 {
        after_fin::notice(state, sk, tcp, now);
    } else if state.established_ns != 0 {
        notice_write(state, tcp, now, hook::INET_SOCK_SET_STATE);
        if state.direction == direction::CLIENT {
            state.current.client_bytes = tcp.write_seq().wrapping_sub(state.turn_write_seq);
        }
        state.heard_seq = rcv_nxt;
    }
    if state.direction != direction::NONE {
        state.current.server_bytes = rcv_nxt.wrapping_sub(state.turn_rcv_nxt);
    }
    count(state, sk, tcp);
    if sk.flag(|o| &o.sock_keepopen_bit) {
        state.flags |= flag::KEEPALIVE;
        let own = tcp.keepalive_time();
        state.keepalive_idle_s = seconds(if own == 0 { sk.default_keepalive_time() } else { own });
    } else {
        state.flags &= !flag::KEEPALIVE;
        state.keepalive_idle_s = 0;
    }
}

/// Why the connect failed, if the socket has no error: the number of an error, or 0 if its application gave it up.
/// `sk_err` is 0 also where `getsockopt(SO_ERROR)` has taken the error before the application closed, and where an
/// ICMP error met a process that held the socket (`tcp_v4_err`, `tcp_v6_err`).
#[inline(always)]
pub(crate) fn connect_error<L: Load>(sk: Sock<L>, tcp: TcpSock<L>) -> u32 {
    const EADDRNOTAVAIL: u32 = 99;
    if tcp.segments_sent() == 0 {
        return EADDRNOTAVAIL; // the state is SYN_SENT before a port is looked for (`tcp_v4_connect`)
    }
    match sk.soft_error() {
        0 => sk.icmp_error(),
        soft => soft,
    }
}

/// This host begins to close.
#[inline(always)]
pub(crate) fn local_close<L: Load>(state: &mut ConnectionState, sk: Sock<L>, tcp: TcpSock<L>) {
    state.unacked = tcp.write_seq().wrapping_sub(tcp.snd_una());
    if state.unacked != 0 && tcp.unanswered_timeouts() != 0 {
        state.flags |= flag::CLOSED_UNANSWERED;
        state.errno = sk.soft_error();
    }
}
