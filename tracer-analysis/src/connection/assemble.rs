//! The facts of one connection, put into the words of the record.

use std::net::{IpAddr, Ipv6Addr};

use tracer_common::record::{ConnectionState, flag};

use super::{
    Connection, Family, Kind, SCHEMA, SeenFrom,
    ending::{connect_errno, ending, first_end_ns},
    messages::{Messages, messages},
    owners,
    replies::Replies,
    table::{Context, Entry},
};
use crate::errno;

/// The record of a connection that ended, or of one still open at `now_ns`.
pub(super) fn assemble(
    state: &ConnectionState,
    mut entry: Entry,
    now_ns: u64,
    context: &Context,
) -> Connection {
    entry.turns.finish(state);
    if state.closed_ns != 0 {
        entry.replies.end(state.bytes_received);
    }
    let midlife = state.flags & flag::MIDLIFE != 0;
    // Of one that was opened before tracing began, the handshake may still be seen.
    let handshake_seen = !midlife || state.established_ns > state.start_ns;
    let connected_ns = if handshake_seen { state.established_ns } else { 0 };
    let earlier_turns = u32::from(state.flags & flag::EARLIER_TURN != 0);
    let established = state.established_ns != 0;
    let errno = connect_errno(state);
    let owned = state.pid != 0;
    let closed_ns = if state.closed_ns == 0 { now_ns } else { state.closed_ns };
    let dst = address(&state.dst);
    let messages = if established { messages(state, &mut entry) } else { Messages::default() };
    entry.turns.waited_before(&messages.waited_ns);
    let turns = &entry.turns;
    let end = ending(state, turns, &entry.replies, messages.rest, now_ns);
    let replies = established.then_some(&entry.replies);
    let greeting = replies.and_then(Replies::greeting);
    Connection {
        kind: Kind::Connection,
        schema: SCHEMA,
        id: format!("{:016x}", state.id),
        host: context.host.clone(),
        start: context.clock.utc(state.start_ns),
        seen_from: if midlife { SeenFrom::Midlife } else { SeenFrom::Connect },
        family: if dst.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 },
        src: address(&state.src),
        sport: (state.sport != 0).then_some(state.sport),
        dst,
        dport: state.dport,
        dst_is_own: dst_is_own(state),
        netns: (state.netns != 0).then_some(state.netns),
        netns_name: None,
        cgroup: (state.cgroup != 0).then_some(state.cgroup),
        cgroup_path: None,
        container: None,
        unit: None,
        pid: owned.then_some(state.pid),
        comm: owned.then(|| owners::comm(&state.batch.comm)),
        uid: owned.then_some(state.uid),
        owners: Some(entry.owners.chain(state)),
        connect_us: if midlife { None } else { micros(state.start_ns, state.established_ns) },
        connect_error: (!established && errno != 0).then(|| errno::name(errno)),
        banner_us: micros(connected_ns, state.first_byte_ns),
        greeting_us: greeting.and_then(|it| micros(connected_ns, it.complete_ns)),
        banner_code: greeting.map(|it| it.code),
        banner_host: greeting.and_then(|it| it.host.clone()),
        tls: replies.and_then(Replies::tls),
        ehlo_us: messages.ehlo_us,
        starttls_us: messages.starttls_us,
        tls_handshake_us: messages.tls_handshake_us,
        auth_us: messages.auth_us,
        lifetime_us: if midlife { None } else { micros(state.start_ns, closed_ns) },
        end: Some(context.clock.utc(closed_ns)),
        end_began_us: if midlife { None } else { micros(state.start_ns, first_end_ns(state)) },
        bytes_sent: Some(state.bytes_sent),
        bytes_received: Some(state.bytes_received),
        retransmits: Some(state.retransmits),
        srtt_us: (state.srtt_us != 0).then_some(state.srtt_us),
        turns: Some(state.turns.saturating_sub(earlier_turns)),
        transactions: messages.transactions,
        transactions_method: messages.method,
        transactions_exact: messages.exact,
        replies: replies.and_then(|replies| replies.counts().cloned()),
        refusals: replies
            .and_then(|replies| replies.heard().then(|| replies.refusals(state.start_ns))),
        transaction_spans_us: messages.spans_us,
        transaction_spans_omitted: messages.spans_omitted,
        envelope_us: messages.envelope_us,
        body_us: messages.body_us,
        final_reply_us: messages.final_reply_us,
        idle_gaps_us: Some(turns.gaps_us()),
        idle_gaps_omitted: turns.gaps_omitted() + state.turns.saturating_sub(turns.seen()),
        idle_max_survived_us: turns.max_survived_us(),
        end_cause: end.cause,
        end_during: end.during,
        end_quit: end.quit,
        end_idle_us: end.idle_us,
        end_unanswered_us: end.unanswered_us,
        end_suspect: end.suspect,
        reset_ttl: end.reset_ttl,
        reset_ack: end.reset_ack,
        fin_ttl: end.fin_ttl,
        peer_ttl: end.peer_ttl,
        keepalive: end.keepalive,
        keepalive_idle_s: end.keepalive_idle_s,
    }
}

/// Whether packets to the server leave by the loopback device, as they do to each address of this host
/// (`ip_route_output_key_hash_rcu`, `ip6_rt_get_dev_rcu`); `None` if there was no route.
fn dst_is_own(state: &ConnectionState) -> Option<bool> {
    const IFF_LOOPBACK: u16 = 8; // include/uapi/linux/if.h
    (state.device_flags != 0).then_some(state.device_flags & IFF_LOOPBACK != 0)
}

/// From `from_ns` to `to_ns` in microseconds; `None` if either did not happen.
fn micros(from_ns: u64, to_ns: u64) -> Option<u64> {
    (from_ns != 0 && to_ns != 0).then(|| to_ns.saturating_sub(from_ns) / 1_000)
}

fn address(bytes: &[u8; 16]) -> IpAddr {
    Ipv6Addr::from(*bytes).to_canonical()
}
