//! Recordings on disk: JSON Lines, written as connections end, read back line by line.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};
use tracer_analysis::recording::{Line, LineError};

/// Longest line that is read; a longer one is counted as unreadable.
const LONGEST_LINE: u64 = 1 << 20;

/// Writes a recording.
pub(crate) struct Writer<W: Write> {
    out: BufWriter<W>,
}

impl Writer<File> {
    /// Makes the recording `path`. Refuses to overwrite one.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let holds_data = path.metadata().is_ok_and(|file| file.is_file() && file.len() > 0);
        if holds_data {
            bail!(
                "{} exists and is not empty; choose another name for the recording, or remove it",
                path.display()
            );
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot make the recording {}", path.display()))?;
        Ok(Self::new(file))
    }
}

impl<W: Write> Writer<W> {
    /// Writes to `out`.
    pub(crate) fn new(out: W) -> Self {
        Self { out: BufWriter::with_capacity(64 << 10, out) }
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut json = line.to_json()?;
        json.push('\n');
        self.out.write_all(json.as_bytes())
    }

    /// Hands everything written so far to the system.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Closes it without another try to write what is still buffered.
    pub(crate) fn abandon(self) {
        let _ = self.out.into_parts();
    }
}

/// What was found in a recording besides its lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Lines understood.
    pub(crate) lines: u64,
    /// Lines that were not.
    pub(crate) unreadable: u64,
}

/// Reads the recording `path`, line by line. A last line without its line break was being written when
/// the tracer was killed: it is left out and not counted.
pub(crate) fn read(path: &Path, each: impl FnMut(Line)) -> Result<Found> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let found = read_lines(BufReader::with_capacity(256 << 10, file), each)
        .with_context(|| format!("cannot read {}", path.display()))?;
    if found.lines == 0 {
        bail!(
            "{} is not a recording of smtptrace: none of its {} lines could be understood; \
             recordings are made with --record",
            path.display(),
            found.unreadable
        );
    }
    Ok(found)
}

fn read_lines(mut reader: impl BufRead, mut each: impl FnMut(Line)) -> Result<Found> {
    let mut found = Found::default();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = io::Read::take(&mut reader, LONGEST_LINE).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            return Ok(found);
        }
        if bytes.last() != Some(&b'\n') {
            if read as u64 == LONGEST_LINE {
                found.unreadable += 1;
                reader.skip_until(b'\n')?;
                continue;
            }
            return Ok(found);
        }
        match std::str::from_utf8(&bytes).ok().map(Line::parse) {
            Some(Ok(line)) => {
                found.lines += 1;
                each(line);
            }
            Some(Err(error @ LineError::Schema(_))) => return Err(error.into()),
            Some(Err(_)) | None => found.unreadable += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tracer_analysis::{
        recording::{Trailer, Trust},
        utc::Utc,
    };

    use super::*;

    fn trailer() -> Line {
        let end = Utc::from_micros(0);
        let trust = Trust::default();
        Line::Trailer(Box::new(Trailer {
            schema: 1,
            host: "mx".into(),
            end,
            connections: 0,
            trust,
        }))
    }

    fn read_text(text: &[u8]) -> (Found, usize) {
        let mut lines = 0;
        let found = read_lines(Cursor::new(text), |_| lines += 1).unwrap();
        (found, lines)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::new(Vec::new());
        writer.line(&trailer()).unwrap();
        writer.flush().unwrap();
        let bytes = writer.out.into_inner().unwrap();
        let mut read = Vec::new();
        read_lines(Cursor::new(bytes), |line| read.push(line)).unwrap();
        assert_eq!(read, [trailer()]);
    }

    #[test]
    fn cut_last_line_is_left_out_and_bad_lines_are_counted() {
        let good = trailer().to_json().unwrap();
        let text = format!("{good}\nnot json\n\u{0}\n{good}\n{}", &good[..20]);
        assert_eq!(read_text(text.as_bytes()), (Found { lines: 2, unreadable: 2 }, 2));
        assert_eq!(read_text(b"\xff\xfe\n").0, Found { lines: 0, unreadable: 1 });
    }

    #[test]
    fn endless_line_takes_bounded_memory() {
        let mut text = vec![b'x'; 3 << 20];
        text.push(b'\n');
        text.extend(format!("{}\n", trailer().to_json().unwrap()).bytes());
        assert_eq!(read_text(&text), (Found { lines: 1, unreadable: 1 }, 1));
    }

    #[test]
    fn newer_schema_is_an_error_that_says_so() {
        let text = r#"{"kind":"header","schema":99}"#.to_owned() + "\n";
        let error = read_lines(Cursor::new(text), |_| ()).unwrap_err().to_string();
        assert!(error.contains("schema 99 is newer"), "{error}");
    }
}
