//! Any bytes as a file of types (`--btf`): no panic, and what is not a kernel's is refused.

#![no_main]
#![allow(dead_code, reason = "the program uses more of these files")]

use std::fs;

use libfuzzer_sys::fuzz_target;

/// The files of the program itself, which is no library.
#[path = "../../tracer/src/probe"]
mod probe {
    pub mod btf_file;
    pub mod offsets;
}

fuzz_target!(|bytes: &[u8]| {
    let file = std::env::temp_dir().join(format!("smtptrace-fuzz-{}.btf", std::process::id()));
    fs::write(&file, bytes).expect("a file can be written");
    let offsets = probe::offsets::read(&file);
    let _ = fs::remove_file(&file);
    assert!(offsets.is_err(), "{offsets:?}");
});
