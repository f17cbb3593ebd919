//! Writes archives as the kernel takes them for its first file system: cpio, "newc"
//! (`Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel).

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

const DIRECTORY: u32 = 0o040_755;
const SYMLINK: u32 = 0o120_777;
const DEVICE: u32 = 0o020_600;
const TRAILER: &str = "TRAILER!!!";

/// An archive that is being written. Directories above each entry come by themselves.
#[derive(Debug)]
pub(super) struct Cpio<W: Write> {
    out: W,
    directories: BTreeSet<String>,
    inode: u32,
}

impl<W: Write> Cpio<W> {
    /// An archive that goes to `out`.
    pub(super) fn new(out: W) -> Self {
        Self { out, directories: BTreeSet::new(), inode: 0 }
    }

    /// Adds a file at the absolute `path`; others may execute it.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, 0o100_755, (0, 0), content)
    }

    /// Adds a symbolic link to `to`.
    pub(super) fn link(&mut self, path: &str, to: &Path) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, SYMLINK, (0, 0), to.as_os_str().as_encoded_bytes())
    }

    /// Adds a device for characters.
    pub(super) fn device(&mut self, path: &str, number: (u32, u32)) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, DEVICE, number, &[])
    }

    /// Adds a directory, once.
    pub(super) fn directory(&mut self, path: &str) -> io::Result<()> {
        self.parents(path)?;
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY, (0, 0), &[])?;
        }
        Ok(())
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER, 0, (0, 0), &[])?;
        Ok(self.out)
    }

    fn parents(&mut self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => self.directory(parent),
            _ => Ok(()),
        }
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        device: (u32, u32),
        content: &[u8],
    ) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        let too_long =
            |_| io::Error::new(io::ErrorKind::FileTooLarge, format!("{path} is too large"));
        let size = u32::try_from(content.len()).map_err(too_long)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_long)?;
        self.inode += 1;
        // inode, mode, owner, group, links, time, size, device of the file, device, length of the name, checksum
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08X}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(6 + 8 * fields.len() + name.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    /// Fills up to a multiple of four bytes.
    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..length.next_multiple_of(4) - length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_have_their_directories() {
        let mut cpio = Cpio::new(Vec::new());
        cpio.file("/usr/bin/a", b"12345").unwrap();
        cpio.link("/usr/bin/b", Path::new("a")).unwrap();
        cpio.device("/dev/console", (5, 1)).unwrap();
        let bytes = cpio.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let headers: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert!(headers.iter().all(|at| at % 4 == 0), "{headers:?}");
        // usr, usr/bin, a, b, dev, console, trailer
        assert_eq!(headers.len(), 7);
        let order = ["usr\0", "usr/bin\0", "usr/bin/a\0", "12345", "usr/bin/b\0", TRAILER];
        let places: Vec<usize> = order.iter().map(|part| text.find(part).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
    }
}
