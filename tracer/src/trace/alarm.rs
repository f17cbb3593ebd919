//! The clock by which the loop of a trace wakes.

use std::{
    os::fd::{AsFd as _, AsRawFd, RawFd},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Wakes the loop once. The timers of the event loop would wake it twice for each sleep of more than 64 ms: at
/// the begin of the slot of their wheel, and then on time.
pub(super) struct Alarm(AsyncFd<Timer>);

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    /// An alarm that is not set. Needs the event loop.
    pub(super) fn new() -> Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("cannot make a timer")?;
        // SAFETY: a `TimerFd` keeps its descriptor, and its descriptor open, until it is dropped.
        let timer = unsafe { AsyncFd::register_with_interest(Timer(timer), Interest::READABLE) };
        Ok(Self(timer.context("cannot poll the timer")?))
    }

    /// Sets it to ring once, `after` this time from now, and no longer at the time it was set to before.
    pub(super) fn set(&self, after: Duration) -> Result<()> {
        // Nothing would stop it.
        let after =
            Expiration::OneShot(TimeSpec::from_duration(after.max(Duration::from_nanos(1))));
        let flags = TimerSetTimeFlags::empty();
        self.0.get_ref().0.set(after, flags).context("cannot set the timer")
    }

    /// Waits until it rings.
    pub(super) async fn rung(&self) -> Result<()> {
        self.0.readable().await.context("cannot wait for the timer")?.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn it_rings_once_for_each_time_it_is_set() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let alarm = Alarm::new().unwrap();
            for millis in [0, 20, 150] {
                let (start, after) = (Instant::now(), Duration::from_millis(millis));
                alarm.set(Duration::from_secs(3_600)).unwrap();
                alarm.set(after).unwrap();
                alarm.rung().await.unwrap();
                assert!(start.elapsed() >= after, "{:?}", start.elapsed());
            }
            let again = tokio::time::timeout(Duration::from_millis(50), alarm.rung());
            assert!(again.await.is_err(), "it was not set again");
        });
    }
}
