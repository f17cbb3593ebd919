//! The ABI between the BPF programs and user space: records, configuration, counters.
//!
//! Integers and byte arrays only, no implicit padding, sizes and offsets proved at compile time. Both
//! sides are built from this crate, so a record never crosses versions; recordings on disk have a
//! schema of their own in `tracer-analysis`.

#![no_std]

pub mod config;
pub mod counters;
pub mod record;
