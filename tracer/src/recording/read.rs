//! Reading recordings: plain or compressed with Zstandard, from files or from stdin.

use std::{
    io::{self, BufRead, BufReader, IsTerminal as _, Read, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tracer_analysis::{recording::Line, utc::Utc};

use super::parse::{self, LONGEST_LINE};
use crate::{
    diagnostics::{Level, say},
    input::Input,
};

/// The first bytes of a Zstandard frame (RFC 8878 section 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Base 2 logarithm of the bytes that a frame may refer back to, and so of the memory that it takes. Levels up to 19 of
/// zstd need no more than 23; `--long` and `--ultra` do.
const WINDOW_LOG: u32 = 24;

/// What was found in a recording besides its lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Lines understood.
    pub(crate) lines: u64,
    /// Lines that were not.
    pub(crate) unreadable: u64,
    /// The end is missing: it stops within a line, or within compressed data.
    pub(crate) cut: bool,
    /// Bytes of zero before lines.
    pub(crate) nuls: u64,
    /// It does not begin with a header.
    pub(crate) headless: bool,
}

impl Found {
    /// Adds what was found further on.
    pub(super) fn add(&mut self, next: &Self) {
        self.lines += next.lines;
        self.unreadable += next.unreadable;
        self.cut |= next.cut;
        self.nuls += next.nuls;
        self.headless |= next.headless;
    }
}

/// Reads a recording line by line. A last line without its line break was being
/// written when the tracer was killed: it is left out and not counted.
pub(crate) fn read(input: &Input, each: impl FnMut(&mut Line)) -> Result<Found> {
    let name = input.name();
    let file = input.file().with_context(|| format!("cannot read {name}"))?;
    let found = if let Some(file) = file {
        let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|it| it.len());
        read_bytes(Progress::new(file, name.clone(), size), each)
    } else {
        read_bytes(Progress::new(io::stdin(), name.clone(), None), each)
    }
    .with_context(|| format!("cannot read {name}"))?;
    if found.lines == 0 && found.cut {
        bail!(
            "{name} is cut before the end of its first line: no more of the recording was written, or \
             copied"
        );
    }
    if found.lines == 0 {
        bail!(
            "{name} is not a recording of smtptrace: none of its {} lines could be understood; \
             recordings are made with --record",
            found.unreadable
        );
    }
    if found.nuls > 0 {
        let text = format!(
            "{name}: {} bytes of zero before lines are left out; an older smtptrace was writing when the \
             file was truncated, or the machine crashed",
            found.nuls
        );
        say(Level::Warning, &text);
    }
    if found.headless {
        let text = format!(
            "{name} has no header: it was truncated while it was written, or is a part of a recording; its \
             connections are taken, its filters and hooks are not known"
        );
        say(Level::Warning, &text);
    }
    Ok(found)
}

/// When a recording began, without reading more than its first line. `None` if it does not say,
/// or could not be read a second time.
pub(crate) fn start(input: &Input) -> Option<Utc> {
    let file = input.file().ok()??;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut first = Vec::new();
    unpacked(file, &Arc::default()).ok()?.take(LONGEST_LINE).read_until(b'\n', &mut first).ok()?;
    match Line::parse(std::str::from_utf8(&first).ok()?) {
        Ok(Line::Header(header)) => Some(header.start),
        _ => None,
    }
}

/// Reads a recording, line by line.
pub(crate) fn read_bytes(
    input: impl Read + Send,
    mut each: impl FnMut(&mut Line),
) -> Result<Found> {
    let cut = Arc::new(AtomicBool::new(false));
    let mut is_first = true;
    let mut headless = false;
    let found = parse::lines(unpacked(input, &cut)?, |line| {
        headless |= std::mem::take(&mut is_first) && !matches!(line, Line::Header(_));
        each(line);
    })?;
    Ok(Found { cut: found.cut || cut.load(Ordering::Relaxed), headless, ..found })
}

/// The text of a recording, whether it is compressed or not. `cut` is set if compressed data has no end.
fn unpacked<'a>(
    input: impl Read + Send + 'a,
    cut: &Arc<AtomicBool>,
) -> io::Result<Box<dyn BufRead + Send + 'a>> {
    let mut input = BufReader::with_capacity(256 << 10, input);
    // A pipe may give less than four bytes at first.
    let mut first = [0; ZSTD.len()];
    let mut len = 0;
    while len < first.len() {
        match input.read(&mut first[len..])? {
            0 => break,
            read => len += read,
        }
    }
    let whole = io::Cursor::new(first).take(len as u64).chain(input);
    if first[..len] == ZSTD {
        let mut unpacked = zstd::stream::read::Decoder::with_buffer(whole)?;
        unpacked.window_log_max(WINDOW_LOG)?;
        Ok(Box::new(BufReader::with_capacity(
            256 << 10,
            EndsWhenCut { input: unpacked, cut: Arc::clone(cut) },
        )))
    } else {
        Ok(Box::new(whole))
    }
}

/// A compressed recording that was being written when the tracer was killed ends within a frame: what
/// is there is read, and then it ends.
struct EndsWhenCut<R> {
    input: R,
    cut: Arc<AtomicBool>,
}

impl<R: Read> Read for EndsWhenCut<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.cut.store(true, Ordering::Relaxed);
                Ok(0)
            }
            Err(error) if error.to_string().contains("too much memory") => {
                Err(io::Error::other(format!(
                    "{error}: it is compressed with a window above {} MB (zstd --long or --ultra); pass it on \
                 decompressed: zstd -dc --long=31 FILE | smtptrace report -",
                    1 << (WINDOW_LOG - 20)
                )))
            }
            other => other,
        }
    }
}

/// Shows on a terminal how much of a large input has been read.
struct Progress<R> {
    input: R,
    name: String,
    size: Option<u64>,
    read: u64,
    start: Instant,
    shown: Option<Instant>,
    is_terminal: bool,
}

impl<R: Read> Progress<R> {
    /// Nothing is shown of what is read within this time.
    const QUIET: Duration = Duration::from_secs(1);
    const PERIOD: Duration = Duration::from_millis(200);

    fn new(input: R, name: String, size: Option<u64>) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { input, name, size, read: 0, start: Instant::now(), shown: None, is_terminal }
    }

    fn show(&mut self) {
        let now = Instant::now();
        let due = self.shown.map_or(self.start + Self::QUIET, |shown| shown + Self::PERIOD);
        if now < due {
            return;
        }
        self.shown = Some(now);
        let text = progress(self.read, self.size, now - self.start);
        // A terminal that went away takes nothing from the result.
        let _ = write!(io::stderr(), "\r\x1b[Kreading {}: {text}", self.name.escape_debug());
    }
}

/// How much has been read, and how long the rest will take.
fn progress(read: u64, size: Option<u64>, spent: Duration) -> String {
    let megabytes = read as f64 / 1e6;
    match size.filter(|size| *size > 0) {
        Some(size) => {
            let share = (read as f64 / size as f64).min(1.0);
            let left = if share > 0.0 { spent.as_secs_f64() * (1.0 / share - 1.0) } else { 0.0 };
            format!("{:.0} % of {:.0} MB, {left:.0} s left", share * 100.0, size as f64 / 1e6)
        }
        None => format!("{megabytes:.0} MB"),
    }
}

impl<R: Read> Read for Progress<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.read += read as u64;
        if self.is_terminal {
            self.show();
        }
        Ok(read)
    }
}

impl<R> Drop for Progress<R> {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::recording::tests::trailer;

    fn read_text(text: &[u8]) -> (Found, usize) {
        let mut lines = 0;
        let found = read_bytes(Cursor::new(text), |_| lines += 1).unwrap();
        (found, lines)
    }

    #[test]
    fn cut_last_line_is_left_out_and_bad_lines_are_counted() {
        let good = trailer().to_json().unwrap();
        let text = format!("{good}\nnot json\n\u{0}\n{good}\n{}", &good[..20]);
        let expected = Found { lines: 2, unreadable: 2, cut: true, nuls: 1, headless: true };
        assert_eq!(read_text(text.as_bytes()), (expected, 2));
        assert_eq!(read_text(b"\xff\xfe\n").0, Found { unreadable: 1, ..Found::default() });
        assert_eq!(read_text(b"\n").0, Found { unreadable: 1, ..Found::default() });
        assert_eq!(read_text(b"").0, Found::default());
    }

    #[test]
    fn endless_line_takes_bounded_memory() {
        let mut text = vec![b'x'; 3 << 20];
        text.push(b'\n');
        text.extend(format!("{}\n", trailer().to_json().unwrap()).bytes());
        let expected = Found { lines: 1, unreadable: 1, headless: true, ..Found::default() };
        assert_eq!(read_text(&text), (expected, 1));
    }

    #[test]
    fn lines_after_a_hole_are_read_however_long_it_is() {
        let line = format!("{}\n", trailer().to_json().unwrap());
        let mut text = line.clone().into_bytes();
        text.resize(text.len() + (3 << 20), 0);
        text.extend(line.repeat(2).bytes());
        let expected = Found { lines: 3, nuls: 3 << 20, headless: true, ..Found::default() };
        assert_eq!(read_text(&text), (expected, 3));
    }

    #[test]
    fn newer_schema_is_an_error_that_says_so() {
        let text = r#"{"kind":"header","schema":99}"#.to_owned() + "\n";
        let error = read_bytes(Cursor::new(text), |_| ()).unwrap_err().to_string();
        assert!(error.contains("schema 99 is newer"), "{error}");
    }

    #[test]
    fn compressed_recordings_are_read_as_far_as_they_go() {
        let text = format!("{}\n", trailer().to_json().unwrap()).repeat(1_000);
        let packed = zstd::encode_all(text.as_bytes(), 3).unwrap();
        assert_eq!(read_text(&packed).1, 1_000);
        // Two recordings, one after the other, and one that was cut.
        assert_eq!(read_text(&[packed.clone(), packed.clone()].concat()).1, 2_000);
        let (found, _) = read_text(&packed[..packed.len() - 10]);
        assert!(found.lines < 1_000 && found.unreadable == 0 && found.cut, "{found:?}");
        assert_eq!(read_text(&packed[..20]).0, Found { cut: true, ..Found::default() });
        assert!(read_bytes(Cursor::new(&b"\x28\xb5\x2f\xfdnonsense\n"[..]), |_| ()).is_err());
    }

    #[test]
    fn a_large_window_is_refused_with_what_to_do() {
        // A frame of a window of 2^27 bytes and one raw block.
        let frame = b"\x28\xb5\x2f\xfd\x00\x88\x09\x00\x00x";
        let error = read_bytes(Cursor::new(&frame[..]), |_| ()).unwrap_err().to_string();
        assert!(error.contains("above 16 MB") && error.contains("zstd -dc"), "{error}");
    }

    #[test]
    fn progress_is_told_in_words() {
        let text = progress(25_000_000, Some(100_000_000), Duration::from_secs(2));
        assert_eq!(text, "25 % of 100 MB, 6 s left");
        assert_eq!(progress(3_000_000, None, Duration::from_secs(2)), "3 MB");
    }
}
