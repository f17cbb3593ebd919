//! The steps of the tests, and what they add up to.

pub(crate) mod fuzz;
pub(crate) mod house_rules;
mod junit;
pub(crate) mod run;
pub(crate) mod steps;
pub(crate) mod tally;
