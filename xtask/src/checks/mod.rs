//! What `cargo xtask test` is made of: running steps, reading their output, and summing up.

pub(crate) mod fuzz;
pub(crate) mod house_rules;
pub(crate) mod step;
pub(crate) mod stream;
pub(crate) mod tally;
pub(crate) mod test_output;
