//! What the fuzz targets call, and what the tests call with the inputs that are kept of them.
//!
//! A panic is a finding; so is memory beyond the limit of the fuzzer.

use crate::listen::request::{Hosts, Request};

/// Any bytes as the head of a request to the metrics endpoint.
pub fn http_request(bytes: &[u8]) {
    for hosts in [Hosts::Any, Hosts::Loopback] {
        let _ = Request::parse(bytes, hosts);
    }
}
