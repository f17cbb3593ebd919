//! The read-only globals that user space fills in before it loads the programs.
//!
//! They are read volatile, or the compiler would fold the zeros that stand here. The verifier knows
//! the true values, because the map behind them is frozen.

use core::ptr;

use tracer_common::config::{ABSENT, Config, Offsets, PortBitmap, has_port};

#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::ABSENT;

#[unsafe(no_mangle)]
static CONFIG: Config =
    Config { settings: 0, wake_bytes: 0, ticks_per_second: 0, max_connections: 0, quota_salt: 0 };

#[unsafe(no_mangle)]
static PORTS: PortBitmap = [0; 1024];

/// The offset that `field` picks; `None` if this kernel does not have the field.
#[inline(always)]
pub(crate) fn offset(field: fn(&Offsets) -> &u32) -> Option<u32> {
    // SAFETY: the reference points into `OFFSETS`, which lives forever and is never written.
    let offset = unsafe { ptr::read_volatile(field(&OFFSETS)) };
    (offset != ABSENT).then_some(offset)
}

/// Whether `setting` is on.
#[inline(always)]
pub(crate) fn is_set(setting: u32) -> bool {
    // SAFETY: `CONFIG` lives forever and is never written.
    unsafe { ptr::read_volatile(&raw const CONFIG.settings) & setting != 0 }
}

/// Bytes in the ring buffer at which user space is woken.
#[inline(always)]
pub(crate) fn wake_bytes() -> u64 {
    // SAFETY: `CONFIG` lives forever and is never written.
    u64::from(unsafe { ptr::read_volatile(&raw const CONFIG.wake_bytes) })
}

/// `ticks` of the kernel's timer in seconds; 0 if the length of a tick is unknown.
#[inline(always)]
pub(crate) fn seconds(ticks: u32) -> u32 {
    // SAFETY: `CONFIG` lives forever and is never written.
    let ticks_per_second = unsafe { ptr::read_volatile(&raw const CONFIG.ticks_per_second) };
    ticks.checked_div(ticks_per_second).unwrap_or(0)
}

/// Length of a tick of the kernel's timer in nanoseconds; `None` if it is unknown.
#[inline(always)]
pub(crate) fn tick_ns() -> Option<u64> {
    // SAFETY: `CONFIG` lives forever and is never written.
    let ticks_per_second = unsafe { ptr::read_volatile(&raw const CONFIG.ticks_per_second) };
    1_000_000_000_u64.checked_div(u64::from(ticks_per_second))
}

/// Entries of the table of connections.
#[inline(always)]
pub(crate) fn max_connections() -> u32 {
    // SAFETY: `CONFIG` lives forever and is never written.
    unsafe { ptr::read_volatile(&raw const CONFIG.max_connections) }
}

/// What users are spread over the counters of quotas by.
#[inline(always)]
pub(crate) fn quota_salt() -> u32 {
    // SAFETY: `CONFIG` lives forever and is never written.
    unsafe { ptr::read_volatile(&raw const CONFIG.quota_salt) }
}

/// Whether connections to `port` are traced.
#[inline(always)]
pub(crate) fn is_traced_port(port: u16) -> bool {
    let word = &PORTS[usize::from(port >> 6)];
    // SAFETY: the reference points into `PORTS`, which lives forever and is never written.
    has_port(unsafe { ptr::read_volatile(word) }, port)
}
