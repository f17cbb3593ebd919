//! Any bytes as a record of the ring buffer and of the reply buffer.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tracer::fuzz::decoder(bytes));
