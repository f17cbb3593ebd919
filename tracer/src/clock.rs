//! The distance between the kernel's clock of records and UTC.

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use tracer_analysis::connection::Clock;

/// Nanoseconds of `clock`.
fn nanos(clock: ClockId) -> Result<i128> {
    let time = clock_gettime(clock).with_context(|| format!("cannot read {clock:?}"))?;
    Ok(i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec()))
}

/// Nanoseconds of `CLOCK_BOOTTIME`, the clock of the records.
pub(crate) fn boot_ns() -> Result<u64> {
    Ok(u64::try_from(nanos(ClockId::CLOCK_BOOTTIME)?).unwrap_or(0))
}

/// Measures the distance: once per trace, so that times within a trace are in order whatever is done to
/// the wall clock meanwhile. Of several tries the one with the least time in between counts.
pub(crate) fn measure() -> Result<Clock> {
    let mut best = (i128::MAX, 0);
    for _ in 0..16 {
        let before = nanos(ClockId::CLOCK_BOOTTIME)?;
        let utc = nanos(ClockId::CLOCK_REALTIME)?;
        let after = nanos(ClockId::CLOCK_BOOTTIME)?;
        let try_ = (after - before, utc - i128::midpoint(before, after));
        best = best.min(try_);
    }
    Ok(Clock { utc_minus_boot_ns: best.1 })
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn now_is_now() {
        let clock = measure().unwrap();
        let ours = clock.utc(boot_ns().unwrap()).micros();
        let theirs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        assert!((i128::from(ours) - i128::try_from(theirs).unwrap()).abs() < 100_000);
    }
}
