//! How fast this machine is. In an emulated one everything takes several times as long, and a virtual processor may
//! be away for long: limits of time are wider there by a factor that is set from outside.

use std::{env, ops::Mul, sync::LazyLock, time::Duration};

/// The factor: `$SMTPTRACE_TEST_SLOWNESS`, else 1.
pub static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
    let set = env::var("SMTPTRACE_TEST_SLOWNESS").ok();
    set.and_then(|factor| factor.parse().ok()).unwrap_or(1)
});

/// `limit`, as wide as this machine needs it.
pub fn stretched(limit: Duration) -> Duration {
    limit * *SLOWNESS
}

/// A limit in any unit, as wide as this machine needs it.
pub fn wider<T: From<u32> + Mul<Output = T>>(limit: T) -> T {
    limit * T::from(*SLOWNESS)
}
