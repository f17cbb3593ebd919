//! A file that is said to be BTF, looked at before its types are read.

use std::{fs::File, io::Read as _, path::Path};

/// A whole kernel has 5 to 10 MB of BTF.
const MOST_BYTES: u64 = 64 << 20;

/// Length of `struct btf_header` (`include/uapi/linux/btf.h`).
const HEADER_BYTES: usize = 24;

/// Reads the file. The error says what it is instead of little-endian BTF.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    check(&bytes)?;
    Ok(bytes)
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let is = |magic: &[u8]| bytes.starts_with(magic);
    let wrong = match bytes {
        [] => "it is empty",
        _ if is(b"\x7fELF") => {
            "it is an ELF file; take the BTF out of it: \
             objcopy -O binary --only-section=.BTF --set-section-flags .BTF=alloc VMLINUX FILE"
        }
        _ if is(b"\xfd7zXZ") => "it is compressed; unpack it: tar -xJf FILE",
        _ if is(b"\x1f\x8b") || is(b"\x28\xb5\x2f\xfd") => "it is compressed; unpack it",
        _ if is(b"\xeb\x9f") => "it is for big-endian machines",
        _ if !is(b"\x9f\xeb") => "it is no BTF",
        _ if bytes.len() as u64 > MOST_BYTES => "it is longer than 64 MiB",
        _ => return check_lengths(bytes),
    };
    Err(wrong.into())
}

/// Whether the sections that the header tells of are within the file.
fn check_lengths(bytes: &[u8]) -> Result<(), String> {
    let cut = "it is cut short";
    let Some(header) = bytes.get(..HEADER_BYTES) else { return Err(cut.into()) };
    let word = |at: usize| {
        let word = header.get(at..at + 4).and_then(|word| word.try_into().ok());
        u64::from(word.map_or(u32::MAX, u32::from_le_bytes))
    };
    let header_len = word(4);
    let ends = [word(8) + word(12), word(16) + word(20)];
    let len = bytes.len() as u64;
    if ends.iter().any(|end| header_len + end > len) { Err(cut.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn btf(lengths: [u32; 5], len: usize) -> Vec<u8> {
        let mut bytes = b"\x9f\xeb\x01\x00".to_vec();
        bytes.extend(lengths.iter().flat_map(|word| word.to_le_bytes()));
        bytes.resize(len, 0);
        bytes
    }

    #[test]
    fn sections_must_be_within_the_file() {
        assert_eq!(check(&btf([24, 0, 16, 16, 8], 48)), Ok(()));
        for cut in [btf([24, 0, 16, 16, 8], 47), btf([24, 0, 16, 16, 8], 23), b"\x9f\xeb".to_vec()]
        {
            assert!(check(&cut).unwrap_err().contains("cut short"));
        }
        let beyond = [u32::MAX; 5];
        assert!(check(&btf(beyond, 1000)).is_err());
    }

    #[test]
    fn each_wrong_kind_is_named() {
        for (bytes, part) in [
            (&b""[..], "empty"),
            (b"\x7fELF\x02\x01", "objcopy"),
            (b"\xfd7zXZ\0", "tar -xJf"),
            (b"\x1f\x8b\x08", "unpack"),
            (b"\xeb\x9f\x01\0", "big-endian"),
            (b"Linux version 6.1", "no BTF"),
        ] {
            let error = check(bytes).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn endless_file_is_not_read_to_its_end() {
        assert!(read(Path::new("/dev/zero")).is_err());
    }
}
