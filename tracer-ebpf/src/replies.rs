//! Cleartext replies on their way to user space.

use tracer_common::record::{ConnectionState, ReplySegment, flag};

use crate::{load::Load, maps, segment::Segment};

/// Hands over `segment`, which arrived at `time_ns`, by way of `hand_over`, if user space still wants the replies of
/// this connection. `flags`: those of the record beside what is known of the connection.
#[inline(always)]
pub(crate) fn hand_over<L: Load>(
    state: &mut ConnectionState,
    segment: Segment<L>,
    time_ns: u64,
    flags: u32,
    hand_over: impl Fn(Segment<L>, ReplySegment, u32),
    hook: u32,
) {
    if state.flags & flag::REPLIES == 0 {
        return;
    }
    if maps::STOPPED.get_ptr(state.id).is_some() {
        state.flags &= !flag::REPLIES;
        return;
    }
    let meta = ReplySegment {
        id: state.id,
        time_ns,
        offset: segment.seq().wrapping_sub(state.first_rcv_nxt),
        payload: segment.payload(),
        captured: 0,
        flags: flags | u32::from(state.flags & flag::MIDSTREAM),
    };
    hand_over(segment, meta, hook);
}
