//! Thresholds: whether the numbers and verdicts of a report are as they should be.

mod evaluate;
mod model;

pub use evaluate::check;
pub use model::{
    Check, CheckError, Finding, Levels, Limits, Measured, Metric, Scope, State, Thresholds, Value,
};

#[cfg(test)]
mod tests;
