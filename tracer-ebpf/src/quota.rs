//! How many connections each user holds in the table, so that nobody takes it all.
//!
//! While less than an eighth of the table is free, a user who holds an eighth or more gets no further entry. Users are
//! spread over counters by a number that nobody else knows, so that few share one and none can choose whom to
//! share it with. Several processors may pass the last free place of a quota at the same time: what counts is that
//! a user cannot take what is kept for others, not the exact eighth.

use core::arch::asm;

use tracer_common::config::{QUOTA_BITS, QUOTA_PART, QUOTA_USERS};

use crate::{
    config::{max_connections, quota_salt},
    maps,
};

/// What is free is kept for users that hold less.
pub(crate) struct OverQuota;

/// Counts one more connection of the user `uid`, if that may have one.
#[inline(always)]
pub(crate) fn take(uid: u32) -> Result<(), OverQuota> {
    let (Some(all), Some(own)) = (counter(QUOTA_USERS), counter(user(uid))) else { return Ok(()) };
    let max = i64::from(max_connections());
    let part = max / i64::from(QUOTA_PART);
    if read(all) >= max - part && read(own) >= part {
        return Err(OverQuota);
    }
    add(all, 1);
    add(own, 1);
    Ok(())
}

/// Counts one connection of the user `uid` less.
#[inline(always)]
pub(crate) fn give_back(uid: u32) {
    let (Some(all), Some(own)) = (counter(QUOTA_USERS), counter(user(uid))) else { return };
    add(all, -1);
    add(own, -1);
}

/// The value of `counter`. Below 0 for a moment, if one connection is given back twice: that is no quota that is used up.
#[inline(always)]
fn read(counter: *mut i64) -> i64 {
    // SAFETY: it is one of `counter`: aligned, and there as long as the program.
    unsafe { counter.read_volatile() }
}

/// Adds to `counter` in one step. `core` has no atomic addition for this target, because that has no compare-and-swap
/// on every kernel (it came with 5.12); this instruction, `BPF_XADD`, they all have.
#[inline(always)]
fn add(counter: *mut i64, summand: i64) {
    // SAFETY: it is one of `counter`: aligned, writable, and there as long as the program.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) summand) };
}

/// Which counter is that of the user `uid`.
#[inline(always)]
fn user(uid: u32) -> u32 {
    uid.wrapping_mul(quota_salt()) >> (u32::BITS - QUOTA_BITS)
}

/// The counter at `index`: aligned, and there as long as the program.
#[inline(always)]
fn counter(index: u32) -> Option<*mut i64> {
    maps::QUOTAS.get_ptr_mut(index)
}
