//! Sessions written down: one line a write or a pause.

use tracer_analysis::connection::Connection;

use crate::wire::{End, Wire};

/// Plays `script`: `C: line`, `S: line`, several lines of one write with `|` between them, `C* bytes` for a write of
/// so many bytes, `S* bytes` for one of TLS, `S! bytes in hexadecimal`, `... ms` for a pause; at the end `S closes`, `C closes`, `reset` or
/// `open`.
pub(crate) fn play(script: &str) -> Connection {
    let mut wire = Wire::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("C:", text) => wire.write(lines(text).len()),
            ("C*", bytes) => wire.write(bytes.parse().unwrap()),
            ("S*", bytes) => wire.reply(&record(bytes.parse().unwrap())),
            ("S:", text) => wire.reply(lines(text).as_bytes()),
            ("S!", hex) => wire.reply(&bytes(hex)),
            ("...", ms) => wire.wait(ms.parse().unwrap()),
            ("S", "closes") => return wire.end(End::Server),
            ("C", "closes") => return wire.end(End::Client),
            ("reset", _) => return wire.end(End::Reset),
            ("open", _) => return wire.end(End::Nobody),
            other => panic!("not a line of a script: {other:?}"),
        }
    }
    panic!("the script has no end: {script}")
}

fn lines(text: &str) -> String {
    text.split('|').flat_map(|line| [line.trim(), "\r\n"]).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn record(bytes: usize) -> Vec<u8> {
    let mut record = vec![0; bytes];
    record[..3].copy_from_slice(&[22, 3, 3]);
    record
}
