//! What the server says after this host's FIN. `tcp_probe` is silent by then: the bytes are met where they are
//! read, and counted there or at the next change of state.

use tracer_common::{
    counters::hook,
    record::{ConnectionState, ReplySegment, WITHOUT_HEADER, direction},
};

use crate::{
    connection::{count, received},
    load::Load,
    replies,
    segment::Segment,
    sock::{Sock, TcpSock},
};

/// Takes what has arrived since this host's FIN. The first of it is an answer if a command was under way.
#[inline(always)]
pub(crate) fn notice<L: Load>(state: &mut ConnectionState, sk: Sock<L>, tcp: TcpSock<L>, now: u64) {
    if received(state, sk, tcp) <= state.bytes_received {
        return;
    }
    if state.first_byte_ns == 0 {
        state.first_byte_ns = now;
    }
    if state.direction == direction::CLIENT {
        state.current.first_byte_ns = now;
        state.direction = direction::SERVER;
        state.last_data_ns = now;
    }
    state.current.last_ns = now;
    count(state, sk, tcp);
}

/// Hands over the segment that a process is reading, if it brings something new. It may have arrived long before.
#[inline(always)]
pub(crate) fn hear<L: Load>(
    state: &mut ConnectionState,
    segment: Segment<L>,
    hand_over: impl Fn(Segment<L>, ReplySegment, u32),
) {
    let end = segment.seq().wrapping_add(segment.payload());
    if end.wrapping_sub(state.heard_seq).cast_signed() <= 0 {
        return; // it was there before the FIN, or is read piece by piece
    }
    state.heard_seq = end;
    let arrived_ns = state.current.last_ns;
    let hook = hook::SKB_COPY_DATAGRAM_IOVEC;
    replies::hand_over(state, segment, arrived_ns, WITHOUT_HEADER, hand_over, hook);
}
