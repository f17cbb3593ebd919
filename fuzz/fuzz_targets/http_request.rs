//! Any bytes as a request to the metrics endpoint.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tracer::fuzz::http_request(bytes));
