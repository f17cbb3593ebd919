//! Any bytes as a recording; a report on it is made in all formats: printable, and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tracer::fuzz::report(bytes));
