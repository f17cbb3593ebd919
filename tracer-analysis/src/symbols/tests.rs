use super::*;

const TEXT: u64 = 0x1000;
/// Where the text is when it runs.
const ADDRESS: u64 = 0x40_1000;

/// A library with these functions, named by the ends of longer names, at 16 bytes from each other.
fn library(names: &[&str]) -> Vec<u8> {
    let (mut strings, mut symbols) = (vec![0], vec![0; 24]);
    for (number, name) in names.iter().enumerate() {
        let at = u32::try_from(strings.len() + 3).unwrap();
        strings.extend(format!("xx_{name}\0").bytes());
        symbols.extend(at.to_ne_bytes());
        symbols.extend([0x12, 0]); // a global function
        symbols.extend(1_u16.to_ne_bytes());
        symbols.extend((ADDRESS + 16 * number as u64).to_ne_bytes());
        symbols.extend(16_u64.to_ne_bytes());
    }
    let (strings_at, symbols_at) = (0x2000, 0x2000 + strings.len() as u64);
    let sections_at = symbols_at + symbols.len() as u64;
    let mut file = vec![0; 64];
    file[..7].copy_from_slice(&[
        0x7f,
        b'E',
        b'L',
        b'F',
        2,
        if cfg!(target_endian = "little") { 1 } else { 2 },
        1,
    ]);
    file[32..40].copy_from_slice(&64_u64.to_ne_bytes());
    file[40..48].copy_from_slice(&sections_at.to_ne_bytes());
    for (at, value) in [(54, 56_u16), (56, 1), (58, 64), (60, 3)] {
        file[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
    file.extend([1_u32, 5].map(u32::to_ne_bytes).concat()); // to be loaded, and run
    file.extend([TEXT, ADDRESS, ADDRESS, 0x1000, 0x1000, 0x1000].map(u64::to_ne_bytes).concat());
    file.resize(0x2000, 0);
    file.extend(&strings);
    file.extend(&symbols);
    for (kind, at, length, link) in [
        (0_u32, 0, 0, 0_u32),
        (3, strings_at, strings.len() as u64, 0),
        (11, symbols_at, symbols.len() as u64, 1),
    ] {
        file.extend([0, kind].map(u32::to_ne_bytes).concat());
        file.extend([0, 0, at, length].map(u64::to_ne_bytes).concat());
        file.extend([link, 0].map(u32::to_ne_bytes).concat());
        file.extend([0, 24].map(u64::to_ne_bytes).concat());
    }
    file
}

/// Where the header of the section of symbols stands.
fn symbols_header(file: &[u8]) -> usize {
    file.len() - 64
}

#[test]
fn functions_are_found_by_their_whole_names() {
    let file = library(&["SSL_read", "SSL_read_ex", "SSL_free"]);
    let found = functions(&file[..], &["SSL_free", "SSL_read", "SSL_rea", "SL_read"]).unwrap();
    // The name in the table begins behind the prefix; "SL_read" is the end of one, at which no symbol points.
    assert_eq!(found, [Some(TEXT + 32), Some(TEXT), None, None]);
}

#[test]
fn a_name_across_two_pieces_is_found() {
    let filler: Vec<String> = (0..5_000).map(|n| format!("function_{n:05}")).collect();
    let mut names: Vec<&str> = filler.iter().map(String::as_str).collect();
    names.truncate(4_900);
    // Wherever the pieces meet, a name is cut there.
    let file = library(&names);
    let wanted = ["function_03448", "function_03449", "function_03447", "function_04899"];
    let found = functions(&file[..], &wanted).unwrap();
    let inside = |n: u64| (16 * n < 0x1000).then_some(TEXT + 16 * n);
    assert_eq!(found, [inside(3448), inside(3449), inside(3447), inside(4899)]);
    let places = places(&file[..], Table { offset: 0x2000, length: 18 * 4_900 + 1 }, &names[..]);
    assert!(matches!(places, Err(SymbolError::TooLarge(..))), "bounded");
    for part in names.chunks(700) {
        let table = Table { offset: 0x2000, length: 18 * 4_900 + 1 };
        assert_eq!(super::places(&file[..], table, part).unwrap().len(), part.len());
    }
}

#[test]
fn the_own_program_is_understood() {
    let file = std::fs::read("/proc/self/exe").unwrap();
    let found = functions(&file[..], &["main", "no_such_function_anywhere"]).unwrap();
    assert!(found[0].is_some_and(|offset| offset < file.len() as u64));
    assert_eq!(found[1], None);
}

#[test]
fn what_is_no_file_of_this_machine_is_refused() {
    let other = |bytes: &[u8]| matches!(functions(bytes, &["a"]), Err(SymbolError::Other));
    assert!(other(b""));
    assert!(other(b"#!/bin/sh\n"));
    let mut narrow = library(&["a"]);
    narrow[4] = 1;
    assert!(other(&narrow));
}

#[test]
fn tables_beyond_the_file_are_refused_before_they_are_read() {
    for claim in [4_u64 << 30, u64::MAX, u64::MAX - 0x2000] {
        for field in [24, 32] {
            let mut file = library(&["SSL_read"]);
            let at = symbols_header(&file) + field;
            file[at..at + 8].copy_from_slice(&claim.to_ne_bytes());
            let error = functions(&file[..], &["SSL_read"]).unwrap_err();
            assert!(matches!(error, SymbolError::Broken(_)), "{error}");
        }
    }
}

/// A file that says that it is large, with nothing but its headers.
struct Claims(Vec<u8>);

impl ReadAt for Claims {
    fn size(&self) -> u64 {
        u64::MAX
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0[..].read_at(buffer, offset)
    }
}

#[test]
fn a_table_of_four_gigabytes_is_refused() {
    let mut file = library(&["SSL_read"]);
    let at = symbols_header(&file) + 32;
    file[at..at + 8].copy_from_slice(&(4_u64 << 30).to_ne_bytes());
    let error = functions(&Claims(file), &["SSL_read"]).unwrap_err();
    assert!(matches!(error, SymbolError::TooLarge(..)), "{error}");
}

#[test]
fn every_truncation_and_every_changed_byte_ends() {
    let file = library(&["SSL_read", "SSL_free"]);
    for length in (0..file.len()).rev().take(400).chain(0..200) {
        let _ = functions(&file[..length], &["SSL_read"]);
        // It became shorter while it was read.
        let _ = functions(&Claims(file[..length].to_vec()), &["SSL_read"]);
    }
    for at in (0..120).chain(0x2000..file.len()) {
        for value in [0, 0x7f, 0xff] {
            let mut changed = file.clone();
            changed[at] = value;
            let _ = functions(&changed[..], &["SSL_read"]);
        }
    }
}

/// What a fuzzer found, or begins with.
#[test]
fn the_corpus_is_replayed() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/symbols");
    let mut found = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        let file = std::fs::read(file.unwrap().path()).unwrap();
        let places = functions(&file[..], &["SSL_read", "SSL_free"]).unwrap_or_default();
        found += places.into_iter().flatten().filter(|place| *place < file.len() as u64).count();
    }
    assert!(found >= 2, "nothing was found in any file");
}
