//! Hands records to user space and counts each one that could not be.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_F_CURRENT_CPU, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_perf_event_output, bpf_probe_read_kernel, bpf_skb_output},
    maps::ring_buf::RingBufEntry,
};
use tracer_common::{
    counters::{self, hook, reason},
    record::{
        ConnectionState, DecryptedReply, Opened, OwnerChange, REPLY_SEGMENT_BYTES, ReplySegment,
        TurnBatch,
    },
};

use crate::{
    config::wake_bytes,
    load::{Probed, Typed},
    maps::{self, Scratch},
    segment::Segment,
};

/// Counts one loss.
#[inline(always)]
pub(crate) fn count_drop(hook: u32, reason: u32) {
    if let Some(count) = maps::DROPS.get_ptr_mut(counters::index(hook, reason)) {
        // SAFETY: the pointer is to this CPU's slot of the map, which lives as long as the program.
        unsafe { *count += 1 };
    }
}

/// Waking user space costs ten times what the record costs: it polls by time, and is woken only when
/// the buffer fills.
#[inline(always)]
fn wake_up_flag() -> u64 {
    if maps::EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= wake_bytes() {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// Hands over the record of a connection that ended.
#[inline(always)]
pub(crate) fn closed(state: &ConnectionState, hook: u32) {
    if maps::EVENTS.output::<ConnectionState>(state, wake_up_flag()).is_err() {
        count_drop(hook, reason::CLOSED_RING_FULL);
    }
}

/// Hands over turns.
#[inline(always)]
pub(crate) fn turns(batch: &TurnBatch, hook: u32) {
    if maps::EVENTS.output::<TurnBatch>(batch, wake_up_flag()).is_err() {
        count_drop(hook, reason::TURNS_RING_FULL);
    }
}

/// Hands over a change of owner.
#[inline(always)]
pub(crate) fn owner(change: &OwnerChange, hook: u32) {
    if maps::EVENTS.output::<OwnerChange>(change, wake_up_flag()).is_err() {
        count_drop(hook, reason::OWNER_RING_FULL);
    }
}

/// Says who opens a connection, and wakes user space: the name of the cgroup must be found before it is
/// gone, and the TLS library of that process before its handshake.
#[inline(always)]
pub(crate) fn opened(opened: &Opened) {
    if maps::EVENTS.output::<Opened>(opened, u64::from(BPF_RB_FORCE_WAKEUP)).is_err() {
        count_drop(hook::INET_SOCK_SET_STATE, reason::OPENED_RING_FULL);
    }
}

/// A place for a decrypted reply; counts the loss if there is none. Submit it with
/// [`submit_decrypted`].
#[inline(always)]
pub(crate) fn reserve_decrypted() -> Option<RingBufEntry<DecryptedReply>> {
    let entry = maps::EVENTS.reserve::<DecryptedReply>(0);
    if entry.is_none() {
        count_drop(hook::TLS_PROBES, reason::DECRYPTED_RING_FULL);
    }
    entry
}

/// Hands over a decrypted reply.
#[inline(always)]
pub(crate) fn submit_decrypted(entry: RingBufEntry<DecryptedReply>) {
    entry.submit(wake_up_flag());
}

/// Hands over the first bytes of a segment.
#[inline(always)]
pub(crate) fn reply(segment: Segment<Typed>, mut meta: ReplySegment, hook: u32) {
    let len = segment.len();
    meta.captured = if len < REPLY_SEGMENT_BYTES { len } else { REPLY_SEGMENT_BYTES };
    // The upper half of the flags says how many bytes of the segment follow the record.
    let flags = u64::from(meta.captured) << 32 | BPF_F_CURRENT_CPU;
    // SAFETY: the skb is the hook's own argument, the map is a perf event array, `meta` is
    // `size_of::<ReplySegment>()` bytes on this stack. The helper refuses a length above `skb->len`.
    let result = unsafe {
        bpf_skb_output(
            segment.skb().cast_mut(),
            (&raw const maps::REPLIES).cast_mut().cast::<c_void>(),
            flags,
            (&raw mut meta).cast(),
            size_of::<ReplySegment>() as u64,
        )
    };
    if result < 0 {
        count_drop(hook, reason::REPLY_BUFFER_FULL);
    }
}

/// Hands over the first bytes of a segment where `bpf_skb_output` cannot be called: only those in the linear
/// part of the packet, by way of a scratch buffer. What is in page fragments is counted as unread.
#[inline(always)]
pub(crate) fn reply_copied(
    ctx: *mut c_void,
    segment: Segment<Probed>,
    meta: ReplySegment,
    hook: u32,
) {
    // The program runs with preemption off. One in softirq may interrupt one that works off a backlog.
    let free = [0, 1].into_iter().find_map(|at| {
        let scratch = maps::SCRATCH.get_ptr_mut(at)?;
        // SAFETY: the slot is this CPU's own.
        let scratch = unsafe { &mut *scratch };
        (scratch.busy == 0).then_some(scratch)
    });
    let Some(scratch) = free else {
        count_drop(hook, reason::REPLY_UNREAD);
        return;
    };
    scratch.busy = 1;
    copy(ctx, scratch, segment, meta, hook);
    scratch.busy = 0;
}

#[inline(always)]
fn copy(
    ctx: *mut c_void,
    scratch: &mut Scratch,
    segment: Segment<Probed>,
    mut meta: ReplySegment,
    hook: u32,
) {
    let (data, linear) = segment.linear();
    let len = if linear < REPLY_SEGMENT_BYTES { linear } else { REPLY_SEGMENT_BYTES };
    meta.captured = len;
    scratch.meta = meta;
    // SAFETY: the destination has `REPLY_SEGMENT_BYTES`, at least `len`; the helper reads the source safely.
    let unread = unsafe { bpf_probe_read_kernel(scratch.bytes.as_mut_ptr().cast(), len, data) };
    if unread != 0 || (len < REPLY_SEGMENT_BYTES && len < segment.len()) {
        count_drop(hook, reason::REPLY_UNREAD);
    }
    if unread != 0 {
        return;
    }
    // SAFETY: the context is the program's own, the map is a perf event array, meta data and bytes lie one
    // behind the other in the scratch buffer.
    let result = unsafe {
        bpf_perf_event_output(
            ctx,
            (&raw const maps::REPLIES).cast_mut().cast::<c_void>(),
            BPF_F_CURRENT_CPU,
            (&raw mut scratch.meta).cast(),
            size_of::<ReplySegment>() as u64 + u64::from(len),
        )
    };
    if result < 0 {
        count_drop(hook, reason::REPLY_BUFFER_FULL);
    }
}
