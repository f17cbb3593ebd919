//! How long each step took, from set-up to the last machine: so that the next slow thing is seen.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Name and duration of each step so far, in the order in which they ended.
static STEPS: Mutex<Vec<(String, Duration)>> = Mutex::new(Vec::new());

/// Does `work`, and keeps how long it took as the step `name`.
pub(crate) fn measure<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let outcome = work();
    keep(name, begin.elapsed());
    outcome
}

/// Keeps that the step `name` took `duration`.
pub(crate) fn keep(name: &str, duration: Duration) {
    // A step that panicked has not left half an entry.
    STEPS.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_owned(), duration));
}

/// A line for each step, and one for their sum.
pub(crate) fn table() -> String {
    let steps = STEPS.lock().unwrap_or_else(PoisonError::into_inner);
    let sum = ("all steps".to_owned(), steps.iter().map(|(_, duration)| *duration).sum());
    let line = |(name, duration): &(String, Duration)| {
        format!("{:8.1} s  {name}\n", duration.as_secs_f64())
    };
    steps.iter().chain([&sum]).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_line() {
        assert_eq!(measure("work that is measured", || 7), 7);
        keep("a long one", Duration::from_millis(61_250));
        let table = table();
        assert!(table.contains(" s  work that is measured\n"), "{table}");
        assert!(table.contains("    61.2 s  a long one\n"), "{table}");
        assert!(table.ends_with(" s  all steps\n"), "{table}");
    }
}
