//! Any bytes as a file with a recording, compressed or not: bounded memory, no panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tracer::fuzz::compressed(bytes));
