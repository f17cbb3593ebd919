//! ELF files of strangers: where functions lie in them. Never a panic, and no place beyond the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_analysis::symbols::functions;

fuzz_target!(|file: &[u8]| {
    let names = ["SSL_read", "SSL_read_ex", "SSL_free", "gnutls_record_recv", "gnutls_bye"];
    let found = functions(file, &names).unwrap_or_default();
    assert!(found.into_iter().flatten().all(|place| place < file.len() as u64));
});
