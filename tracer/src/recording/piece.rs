//! One file of a recording while it is written: plain, or compressed with Zstandard.

use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
};

/// Level of compression: the fastest that still finds the repeated field names.
const LEVEL: i32 = 3;

/// Ends a frame after what was flushed: an empty last block (RFC 8878 section 3.1.1.2).
const FRAME_END: [u8; 3] = [1, 0, 0];

type Encoder = zstd::stream::write::Encoder<'static, Vec<u8>>;

/// A file of a recording.
pub(super) struct Piece {
    file: File,
    /// Compresses into memory, so that what could not be written is known to the byte.
    encoder: Option<Encoder>,
    /// What was compressed last is not in the file: the next line begins a new frame.
    frame_broken: bool,
    /// Bytes in the file.
    len: u64,
    connections: u64,
}

/// What somebody else has done to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing, or it was renamed.
    Sound,
    /// It was truncated and is empty (`copytruncate`).
    Emptied,
    /// It was removed, or cut in the middle: nothing can follow in it.
    Gone,
}

/// What could not be written.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// Bytes of the lines that stand in the file: whole lines.
    pub(super) written: usize,
    pub(super) error: io::Error,
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        Self { written: 0, error }
    }
}

impl Piece {
    /// Writes to `file`, which is empty.
    pub(super) fn new(file: File, packed: bool) -> io::Result<Self> {
        let encoder = if packed { Some(Encoder::new(Vec::new(), LEVEL)?) } else { None };
        Ok(Self { file, encoder, frame_broken: false, len: 0, connections: 0 })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// Connections that stand in it.
    pub(super) fn connections(&self) -> u64 {
        self.connections
    }

    /// What became of the file since the last line.
    pub(super) fn condition(&self) -> io::Result<Condition> {
        let found = self.file.metadata()?;
        Ok(match found.len() {
            _ if found.nlink() == 0 => Condition::Gone,
            0 if self.len > 0 => Condition::Emptied,
            len if len < self.len => Condition::Gone,
            _ => Condition::Sound,
        })
    }

    /// Writes whole lines and hands them to the system. What is compressed can be read up to here. If that
    /// fails, no part of a line is left behind, and other lines may follow.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let before = self.file.metadata()?.len();
        let mut packed = Vec::new();
        let bytes = match &mut self.encoder {
            Some(encoder) => {
                if std::mem::replace(&mut self.frame_broken, true) {
                    *encoder = Encoder::new(Vec::new(), LEVEL)?;
                    packed.extend(FRAME_END.iter().filter(|_| before > 0));
                }
                encoder.write_all(lines)?;
                encoder.flush()?;
                packed.append(encoder.get_mut());
                packed.as_slice()
            }
            None => lines,
        };
        if let Err(Unwritten { written, error }) = append(&self.file, bytes) {
            let whole_lines = || lines[..written].iter().rposition(|byte| *byte == b'\n');
            let stands = if self.encoder.is_some() { None } else { whole_lines() };
            let stands = stands.map_or(0, |last| last + 1);
            // A part of a line at the end of a file is left out by the reader, too.
            let _ = self.file.set_len(before + stands as u64);
            self.len = before + stands as u64;
            self.connections += connections(&lines[..stands]);
            return Err(Unwritten { written: stands, error });
        }
        self.frame_broken = false;
        self.len = before + bytes.len() as u64;
        self.connections += connections(lines);
        Ok(())
    }

    /// Waits until all of it is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Ends it, with `trailer` as its last line.
    pub(super) fn finish(mut self, trailer: &[u8], sync: bool) -> io::Result<()> {
        self.write(trailer).map_err(|unwritten| unwritten.error)?;
        if let Some(encoder) = self.encoder.take() {
            append(&self.file, &encoder.finish()?).map_err(|unwritten| unwritten.error)?;
        }
        if sync { self.sync() } else { Ok(()) }
    }
}

/// Writes all of `bytes`, or says how many were.
fn append(mut file: &File, bytes: &[u8]) -> Result<(), Unwritten> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err(Unwritten { written, error: io::ErrorKind::WriteZero.into() }),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Unwritten { written, error }),
        }
    }
    Ok(())
}

/// Connections among these lines.
pub(super) fn connections(lines: &[u8]) -> u64 {
    lines.split(|byte| *byte == b'\n').filter(|line| is_connection(line)).count() as u64
}

/// Whether a line, as it is written, is that of a connection.
pub(super) fn is_connection(line: &[u8]) -> bool {
    line.starts_with(b"{\"kind\":\"connection\"")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::{
        input::Input,
        recording::{read, tests::trailer},
    };

    fn file(name: &str) -> (PathBuf, File) {
        let path =
            std::env::temp_dir().join(format!("smtptrace-piece-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        (path.clone(), fs::OpenOptions::new().append(true).create(true).open(path).unwrap())
    }

    fn line() -> Vec<u8> {
        (trailer().to_json().unwrap() + "\n").into_bytes()
    }

    #[test]
    fn what_was_written_can_be_read_without_the_end() {
        for packed in [false, true] {
            let (path, file) = file(&format!("unended-{packed}"));
            let mut piece = Piece::new(file, packed).unwrap();
            piece.write(&line()).unwrap();
            let mut lines = Vec::new();
            let found =
                read(&Input::open(&path).unwrap(), |line| lines.push(line.clone())).unwrap();
            assert_eq!((lines.as_slice(), found.cut), (&[trailer()][..], packed));
            piece.finish(&line(), true).unwrap();
            assert_eq!(read(&Input::open(&path).unwrap(), |_| ()).unwrap().lines, 2);
            assert!(!read(&Input::open(&path).unwrap(), |_| ()).unwrap().cut);
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn what_others_do_to_the_file_is_noticed() {
        let (path, file) = file("others");
        let mut piece = Piece::new(file, false).unwrap();
        piece.write(&line()).unwrap();
        let elsewhere = path.with_extension("1");
        fs::rename(&path, &elsewhere).unwrap();
        assert_eq!(piece.condition().unwrap(), Condition::Sound);
        let handle = fs::OpenOptions::new().write(true).open(&elsewhere).unwrap();
        handle.set_len(5).unwrap();
        assert_eq!(piece.condition().unwrap(), Condition::Gone);
        handle.set_len(0).unwrap();
        assert_eq!(piece.condition().unwrap(), Condition::Emptied);
        piece.write(&line()).unwrap();
        assert_eq!(fs::read(&elsewhere).unwrap(), line(), "a hole before it");
        fs::remove_file(&elsewhere).unwrap();
        assert_eq!(piece.condition().unwrap(), Condition::Gone);
    }

    #[test]
    fn lines_may_follow_an_error() {
        for packed in [false, true] {
            let (path, file) = file(&format!("error-{packed}"));
            let mut piece = Piece::new(file, packed).unwrap();
            for _ in 0..2 {
                piece.write(&line()).unwrap();
                let full = fs::OpenOptions::new().append(true).open("/dev/full").unwrap();
                let disk = std::mem::replace(&mut piece.file, full);
                for _ in 0..2 {
                    assert_eq!(piece.write(&line()).unwrap_err().written, 0);
                }
                piece.file = disk;
            }
            piece.finish(&line(), false).unwrap();
            let found = read(&Input::open(&path).unwrap(), |_| ()).unwrap();
            assert_eq!((found.lines, found.unreadable, found.cut), (3, 0, false), "{packed}");
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn connections_are_told_from_other_lines() {
        let text =
            b"{\"kind\":\"header\"}\n{\"kind\":\"connection\",\"a\":1}\n{\"kind\":\"trailer\"}\n";
        assert_eq!(connections(text), 1);
    }
}
