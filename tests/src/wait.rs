//! Waiting for a condition, with a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::pace;

/// Polls `condition` every 5 ms until it gives a value; fails after `timeout`, longer on a slow machine, naming `what`.
pub fn until<T>(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    let timeout = pace::stretched(timeout);
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if start.elapsed() > timeout {
            bail!("waited {:.1} s in vain for {what}", timeout.as_secs_f64());
        }
        thread::sleep(Duration::from_millis(5));
    }
}
