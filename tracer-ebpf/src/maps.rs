//! Every map. User space sets the sizes of those marked "sized at load".

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{
        Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerfEventByteArray, ProgramArray, RingBuf,
    },
};
use tracer_common::{
    config::{QUOTA_USERS, Selected},
    counters,
    record::{ConnectionState, Holder, REPLY_SEGMENT_BYTES, ReplySegment},
};

use crate::tls::{Call, Joined, Session};

/// Live connections by socket pointer. Preallocated; an entry is made at SYN_SENT and deleted at
/// destroy, because pointers are reused within milliseconds. Never an LRU: that would evict the
/// long-idle pooled connections this tool is about. Sized at load.
#[map]
pub(crate) static CONNECTIONS: HashMap<u64, ConnectionState> = HashMap::with_max_entries(65_536, 0);

/// Connections that are held: of the users that share a counter, and behind these of all.
#[map]
pub(crate) static QUOTAS: Array<i64> = Array::with_max_entries(QUOTA_USERS + 1, 0);

/// One entry of zeros, never written: what a new connection starts from.
#[map]
pub(crate) static EMPTY: Array<ConnectionState> = Array::with_max_entries(1, 0);

/// Where the entry of a connection that was open before the start is put together. Only the one thread that
/// reads an iterator writes it.
#[map]
pub(crate) static SEED: Array<ConnectionState> = Array::with_max_entries(1, 0);

/// The process that reads the iterators: ours, by its id in the initial pid namespace.
#[map]
pub(crate) static OBSERVER: Array<u32> = Array::with_max_entries(1, 0);

/// Who holds a socket, by inode number, for the iterator that does not know it.
#[map]
pub(crate) static HOLDERS: HashMap<u64, Holder> =
    HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Records for user space: `ConnectionState` and `TurnBatch`. Sized at load.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// `ReplySegment` with the bytes of the segment behind it. A perf buffer, because payload in page
/// fragments can only be copied by `bpf_skb_output`, which writes to nothing else.
#[map]
pub(crate) static REPLIES: PerfEventByteArray = PerfEventByteArray::new(0);

/// A place in which a reply is put together.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Scratch {
    /// Stands before the bytes.
    pub(crate) meta: ReplySegment,
    /// TCP header and payload.
    pub(crate) bytes: [u8; REPLY_SEGMENT_BYTES as usize],
    /// Not 0 while it is in use.
    pub(crate) busy: u64,
}

/// Where `bpf_skb_output` cannot be called: one place for a program in process context, one for the program
/// in softirq that interrupts it.
#[map]
pub(crate) static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(2, 0);

/// Connections (by id) whose replies user space does not want any more.
#[map]
pub(crate) static STOPPED: LruHashMap<u64, u8> = LruHashMap::with_max_entries(16_384, 0);

/// Cgroups of which a connection was seen.
#[map]
pub(crate) static CGROUPS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(4_096, 0);

/// Destination networks that are traced (`--dest`).
#[map]
pub(crate) static DESTINATIONS: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(1_024, 0);

/// Processes, users, namespaces and cgroups that are traced.
#[map]
pub(crate) static SELECTED: HashMap<Selected, u8> = HashMap::with_max_entries(1_024, 0);

/// Command names that are traced (`--comm`).
#[map]
pub(crate) static COMMANDS: HashMap<[u8; 16], u8> = HashMap::with_max_entries(256, 0);

/// What could not be handed over; see `tracer_common::counters`.
#[map]
pub(crate) static DROPS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counters::DROPS, 0);

/// TLS calls under way, by thread. An LRU, because a thread that is killed in a call leaves its entry
/// behind. Sized at load: small unless TLS probes are wanted.
#[map]
pub(crate) static TLS_CALLS: LruHashMap<u64, Call> = LruHashMap::with_max_entries(64, 0);

/// The connection that a TLS session was last seen to receive from. An LRU, because a process that is
/// killed frees no session; the entry of a session in use is at worst made anew at its next receive.
/// Sized at load.
#[map]
pub(crate) static TLS_SESSIONS: LruHashMap<Session, Joined> = LruHashMap::with_max_entries(64, 0);

/// The program that hands over the next piece of a long read: `tls_next`, put there by user space.
#[map]
pub(crate) static TLS_NEXT: ProgramArray = ProgramArray::with_max_entries(1, 0);
