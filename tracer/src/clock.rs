//! The distance between the kernel's clock of records and UTC.

use std::{fs, sync::LazyLock};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_getres, clock_gettime};
use tracer_analysis::connection::Clock;

/// Nanoseconds of `clock`.
fn nanos(clock: ClockId) -> Result<i128> {
    let time = clock_gettime(clock).with_context(|| format!("cannot read {clock:?}"))?;
    Ok(i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec()))
}

/// How far `CLOCK_BOOTTIME` is ahead of the kernel's, in nanoseconds: in a time namespace it is moved for processes,
/// but not for programs in the kernel (`bpf_ktime_get_boot_ns`). 0 where there is no such namespace.
static MOVED_NS: LazyLock<i128> = LazyLock::new(|| {
    let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    boottime_offset_ns(&offsets).unwrap_or(0)
});

/// Reads the line `boottime SECONDS NANOSECONDS` of `time_namespaces(7)`.
fn boottime_offset_ns(offsets: &str) -> Option<i128> {
    let line = offsets.lines().find_map(|line| line.strip_prefix("boottime"))?;
    let mut numbers = line.split_ascii_whitespace().map(|number| number.parse::<i128>().ok());
    Some(numbers.next()?? * 1_000_000_000 + numbers.next()??)
}

/// Nanoseconds of the kernel's `CLOCK_BOOTTIME`.
fn kernel_boot() -> Result<i128> {
    Ok(nanos(ClockId::CLOCK_BOOTTIME)? - *MOVED_NS)
}

/// Nanoseconds of the kernel's `CLOCK_BOOTTIME`, the clock of the records.
pub(crate) fn boot_ns() -> Result<u64> {
    Ok(u64::try_from(kernel_boot()?).unwrap_or(0))
}

/// Measures the distance. It changes only where the wall clock is set: both clocks run at the same rate, also while
/// that is adjusted (`timekeeping_get_ns`). Of several tries the one with the least time in between counts.
pub(crate) fn measure() -> Result<Clock> {
    let mut best = (i128::MAX, 0);
    for _ in 0..16 {
        let before = kernel_boot()?;
        let utc = nanos(ClockId::CLOCK_REALTIME)?;
        let after = kernel_boot()?;
        let try_ = (after - before, utc - i128::midpoint(before, after));
        best = best.min(try_);
    }
    Ok(Clock { utc_minus_boot_ns: best.1 })
}

/// The smallest step of the wall clock that is noticed: more than lies between two readings, also in an emulated machine.
const STEP_NS: u128 = 10_000_000;

/// The distance now, if it is no longer `known`: the wall clock was set since that was measured.
///
/// To ask costs two readings of clocks, without a system call. A timer with `TFD_TIMER_CANCEL_ON_SET` would tell,
/// too, but only the loop of events hears it: records that are drained first would still have the old distance.
pub(crate) fn stepped(known: Clock) -> Result<Option<Clock>> {
    let is_far =
        |clock: Clock| clock.utc_minus_boot_ns.abs_diff(known.utc_minus_boot_ns) >= STEP_NS;
    let glance = Clock { utc_minus_boot_ns: nanos(ClockId::CLOCK_REALTIME)? - kernel_boot()? };
    let now = if is_far(glance) { measure()? } else { known };
    Ok(Some(now).filter(|now| is_far(*now)))
}

/// Ticks of the kernel's timer in a second (`CONFIG_HZ`): a coarse clock moves once a tick. `None` if the
/// kernel does not tell.
pub(crate) fn ticks_per_second() -> Option<u32> {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).ok()?;
    let nanos = u32::try_from(tick.tv_nsec()).ok().filter(|nanos| *nanos > 0)?;
    Some((1_000_000_000 + nanos / 2) / nanos)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn tick_is_one_that_kernels_are_built_with() {
        let ticks = ticks_per_second().unwrap();
        assert!([100, 250, 300, 1000].contains(&ticks), "{ticks}");
    }

    #[test]
    fn offsets_of_a_time_namespace_are_read() {
        let offsets = "monotonic           5         0\nboottime       100000         7\n";
        assert_eq!(boottime_offset_ns(offsets), Some(100_000_000_000_007));
        // A second and a half back.
        assert_eq!(boottime_offset_ns("boottime -2 500000000\n"), Some(-1_500_000_000));
        assert_eq!(boottime_offset_ns(""), None);
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_and_one_that_was_not_is_not() {
        let now = measure().unwrap();
        for _ in 0..10_000 {
            assert_eq!(stepped(now).unwrap(), None);
        }
        for step in [-3_600_000_000_000_i128, -20_000_000, 20_000_000] {
            let known = Clock { utc_minus_boot_ns: now.utc_minus_boot_ns - step };
            let found = stepped(known).unwrap().unwrap();
            assert!(found.utc_minus_boot_ns.abs_diff(now.utc_minus_boot_ns) < STEP_NS, "{step}");
        }
    }

    #[test]
    fn now_is_now() {
        let clock = measure().unwrap();
        let ours = clock.utc(boot_ns().unwrap()).micros();
        let theirs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        assert!((i128::from(ours) - i128::try_from(theirs).unwrap()).abs() < 100_000);
    }
}
