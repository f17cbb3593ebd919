//! Which TLS session belongs to which connection, and what the server said in it.
//!
//! A thread that is in a probed call of a TLS library and receives from a traced connection joins the
//! session to the connection. A read that finds its data already decrypted receives nothing: then the
//! last join of the session counts. Data of sessions without a traced connection is not looked at.

use core::ptr;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_user},
    programs::RetProbeContext,
};
use tracer_common::{
    counters::{hook, reason},
    record::{
        ConnectionState, DECRYPTED_LINE_BYTES, DECRYPTED_PIECE_BYTES, DECRYPTED_READ_BYTES,
        DecryptedReply, kind, tls,
    },
};

use crate::{connection, emit, maps};

/// What a call does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(u32);

impl Kind {
    /// It reads; the number of bytes is returned.
    pub(crate) const READ: Self = Self(0);
    /// It reads; it returns 1, and the number of bytes by reference.
    pub(crate) const READ_EX: Self = Self(1);
    /// It does not read.
    pub(crate) const CONTROL: Self = Self(2);
}

/// A TLS session of a process.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Session {
    process: u64,
    /// Address of the library's object.
    address: u64,
}

impl Session {
    #[inline(always)]
    fn of_current_process(address: u64) -> Self {
        Self { process: bpf_get_current_pid_tgid() >> 32, address }
    }
}

/// The connection that a session receives from.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Joined {
    /// Key of the socket in the map of connections.
    key: u64,
    /// Identity of the connection; 0 for none.
    id: u64,
}

/// A call under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Call {
    session: u64,
    /// Where the decrypted bytes will be; once they are there, where the next piece of them begins.
    buffer: u64,
    /// Where their number will be, for [`Kind::READ_EX`].
    length: u64,
    /// Bytes that were read and are not handed over yet.
    rest: u64,
    /// What this call has received from.
    joined: Joined,
    kind: Kind,
    padding: u32,
    /// Bytes on their way from the process's buffer into a record.
    piece: [u8; DECRYPTED_PIECE_BYTES as usize],
}

/// The current thread begins a call.
#[inline(always)]
pub(crate) fn enter(kind: Kind, session: u64, buffer: u64, length: u64) {
    let call = Call {
        session,
        buffer,
        length,
        rest: 0,
        joined: Joined { key: 0, id: 0 },
        kind,
        padding: 0,
        piece: [0; DECRYPTED_PIECE_BYTES as usize],
    };
    // An LRU map: an insert finds a place. If not, the receive counts as one past the probes.
    let _ = maps::TLS_CALLS.insert(bpf_get_current_pid_tgid(), call, 0);
}

/// The call of the current thread, if one is under way.
#[inline(always)]
fn current_call<'a>() -> Option<&'a mut Call> {
    // SAFETY: the entry is used by its own thread only; if it is evicted meanwhile, its memory stays
    // mapped while the program runs.
    maps::TLS_CALLS.get_ptr_mut(bpf_get_current_pid_tgid()).map(|call| unsafe { &mut *call })
}

/// The current thread has received from the connection of the socket `key`. Under the socket's lock.
#[inline(always)]
pub(crate) fn received(state: &mut ConnectionState, key: u64) {
    let joined_before = state.tls & tls::JOINED != 0;
    let Some(call) = current_call() else {
        if joined_before {
            state.tls |= tls::GAP;
        }
        return;
    };
    if !joined_before {
        state.tls |= tls::JOINED;
        if call.kind != Kind::CONTROL {
            state.tls |= tls::GAP; // its handshake went past the probes: what else did?
        }
    }
    if call.joined.key == key && call.joined.id == state.id {
        return;
    }
    call.joined = Joined { key, id: state.id };
    let session = Session::of_current_process(call.session);
    // An LRU map: an insert finds a place.
    let _ = maps::TLS_SESSIONS.insert(session, call.joined, 0);
}

/// The call of the current thread returns `result`.
#[inline(always)]
pub(crate) fn leave(ctx: &RetProbeContext, result: i32) {
    let Some(call) = current_call() else { return };
    call.rest = bytes_read(call, result);
    if call.rest > u64::from(DECRYPTED_READ_BYTES) {
        if let Some(state) = connection_of(call) {
            skip(state, reason::DECRYPTED_UNREAD);
        }
        call.rest = 0;
    }
    hand_over(ctx, call);
}

/// The call of the current thread has returned, and a piece of what it read is handed over.
#[inline(always)]
pub(crate) fn next_piece(ctx: &RetProbeContext) {
    if let Some(call) = current_call() {
        hand_over(ctx, call);
    }
}

/// How many bytes the call has read; 0 for an error, an end, or a call that does not read.
#[inline(always)]
fn bytes_read(call: &Call, result: i32) -> u64 {
    match call.kind {
        Kind::READ if result > 0 => u64::from(result.cast_unsigned()),
        Kind::READ_EX if result == 1 => {
            let mut length = 0_u64;
            // SAFETY: the destination is 8 bytes on this stack; the helper reads the source safely.
            let error = unsafe {
                bpf_probe_read_user(
                    (&raw mut length).cast(),
                    u64::BITS / 8,
                    call.length as *const _,
                )
            };
            if error == 0 { length } else { u64::MAX }
        }
        _ => 0,
    }
}

/// The connection whose data the call has read, if it is traced and still there.
#[inline(always)]
fn connection_of<'a>(call: &Call) -> Option<&'a mut ConnectionState> {
    let mut joined = call.joined;
    if joined.id == 0 {
        let known = maps::TLS_SESSIONS.get_ptr(Session::of_current_process(call.session))?;
        // SAFETY: the memory stays mapped while the program runs.
        joined = unsafe { *known };
    }
    // The key alone would not do: sockets are reused within milliseconds.
    connection::get(joined.key).filter(|state| state.id == joined.id)
}

/// Hands over what is needed of the next piece, and leaves what comes after it to [`next_piece`] by a tail
/// call: the verifier of Linux 6.1 does not come to an end of a loop over all of them. The process that
/// reads holds the connection, so the entry cannot end meanwhile.
#[inline(always)]
fn hand_over(ctx: &RetProbeContext, call: &mut Call) {
    const PIECE: u64 = DECRYPTED_PIECE_BYTES as u64;
    if call.rest > 0
        && let Some(state) = connection_of(call)
    {
        #[expect(clippy::cast_possible_truncation, reason = "at most `PIECE`")]
        let len = if call.rest < PIECE { call.rest } else { PIECE } as u32;
        hand_over_piece(call, state, len);
        call.buffer = call.buffer.wrapping_add(u64::from(len));
        call.rest -= u64::from(len);
        if call.rest > 0 {
            // SAFETY: the one program there is for the same kind of context. It does not come back.
            unsafe { maps::TLS_NEXT.tail_call(ctx, 0) };
            skip(state, reason::DECRYPTED_UNREAD);
        }
    }
    let _ = maps::TLS_CALLS.remove(bpf_get_current_pid_tgid());
}

/// Counts a piece that is not handed over: its number will be missing.
#[inline(always)]
fn skip(state: &mut ConnectionState, reason: u32) {
    state.tls_pieces += 1;
    emit::count_drop(hook::TLS_PROBES, reason);
}

/// Hands over the next `len` bytes (1 to [`DECRYPTED_PIECE_BYTES`]) of what was read.
#[inline(always)]
fn hand_over_piece(call: &mut Call, state: &mut ConnectionState, len: u32) {
    call.piece = [0; DECRYPTED_PIECE_BYTES as usize];
    // SAFETY: the destination has at least `len` bytes; the helper reads the source safely.
    let error = unsafe {
        bpf_probe_read_user(call.piece.as_mut_ptr().cast(), len, call.buffer as *const _)
    };
    if error != 0 {
        skip(state, reason::DECRYPTED_UNREAD);
        return;
    }
    let Some(mut entry) = emit::reserve_decrypted() else {
        state.tls_pieces += 1;
        return;
    };
    let record = entry.as_mut_ptr();
    let (len, column) = cut(&call.piece, record, u32::from(state.tls_column));
    // SAFETY: the record is reserved memory of this size; every field is written, the bytes in `cut`.
    unsafe {
        (*record).kind = kind::DECRYPTED;
        (*record).len = len;
        (*record).id = state.id;
        (*record).time_ns = connection::now_ns();
        (*record).sequence = state.tls_pieces;
        (*record).padding = 0;
    }
    emit::submit_decrypted(entry);
    #[expect(clippy::cast_possible_truncation, reason = "at most `DECRYPTED_LINE_BYTES`")]
    let column = column as u8;
    state.tls_column = column;
    state.tls_pieces += 1;
}

/// What a byte is: bit 0 if it is kept at all (not NUL: that is how a piece is filled up), bit 1 for a
/// line feed.
static CLASS: [u8; 256] = {
    let mut class = [1; 256];
    class[0] = 0;
    class[b'\n' as usize] = 3;
    class
};

/// Copies the beginning of each line in `piece`, whose first byte stands at `column`. Returns the number
/// of bytes copied, and the column of the byte that comes next.
///
/// Without a branch on the bytes: the verifier (before it had helpers for loops) would follow both ways
/// of each for every byte.
#[inline(always)]
fn cut(
    piece: &[u8; DECRYPTED_PIECE_BYTES as usize],
    record: *mut DecryptedReply,
    mut column: u32,
) -> (u32, u32) {
    const IN_LINE: u32 = (1 << DECRYPTED_LINE_BYTES) - 1;
    const LAST: u32 = DECRYPTED_PIECE_BYTES - 1;
    // SAFETY: the record is reserved memory of this size.
    let bytes = unsafe { &raw mut (*record).bytes }.cast::<u8>();
    let mut len = 0;
    #[expect(clippy::needless_range_loop, reason = "the verifier follows a number, not a pointer")]
    for at in 0..DECRYPTED_PIECE_BYTES as usize {
        // SAFETY: in bounds of both; volatile, or the compiler would make branches of the table.
        let (byte, class) = unsafe {
            let byte = ptr::read_volatile(&raw const piece[at]);
            (byte, u32::from(ptr::read_volatile(&raw const CLASS[usize::from(byte)])))
        };
        let line_feed = class >> 1;
        let in_line = IN_LINE >> (column & 31) & class & 1;
        // SAFETY: the index is masked to the length of the array.
        unsafe { ptr::write_volatile(bytes.add((len & LAST) as usize), byte) };
        len += in_line | line_feed;
        column = (column + in_line) & line_feed.wrapping_sub(1);
    }
    if len <= LAST {
        // The last byte that was not kept may stand there.
        // SAFETY: as above.
        unsafe { ptr::write_volatile(bytes.add((len & LAST) as usize), 0) };
    }
    (len, column)
}

/// A session is freed: the next one at its address is another.
#[inline(always)]
pub(crate) fn forget(session: u64) {
    let _ = maps::TLS_SESSIONS.remove(Session::of_current_process(session));
}
