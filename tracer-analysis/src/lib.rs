//! From kernel records to a report: decode, connection, destination, verdict, report.
//!
//! Pure: no I/O, no clock, no unsafe code. Live tracing and `smtptrace report FILE` are the same fold
//! over the same [`connection::Connection`] records.

#![forbid(unsafe_code)]

pub mod check;
pub mod compare;
pub mod connection;
pub mod decoder;
pub mod destination;
pub mod dialogue;
pub mod errno;
pub mod mta;
pub mod origin;
mod own_json;
pub mod recording;
pub mod report;
pub mod selection;
pub mod smtp;
pub mod symbols;
pub mod utc;
pub mod verdict;
pub mod whatif;

#[cfg(test)]
mod schema;
