//! Any bytes as a saved report that is compared and checked.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tracer::fuzz::document(bytes));
