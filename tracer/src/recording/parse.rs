//! The lines of a recording, parsed beside what is made of them.
//!
//! Parsing takes more time than folding. So threads take turns to read a piece of the text and parse it, and the
//! lines are passed on, in order, on the thread that asked. A piece goes back to the thread that made it: memory
//! is freed, and used again, where it was allocated.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Read as _},
    num::NonZero,
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use anyhow::{Error, Result};
use tracer_analysis::recording::{Line, LineError};

use super::read::Found;

/// Longest line that is read; a longer one is counted as unreadable.
pub(super) const LONGEST_LINE: u64 = 1 << 20;

/// Text of a piece, in bytes; the last line may go beyond.
const PIECE: usize = 32 << 10;

/// Pieces of each thread: one that it parses, one whose lines are passed on.
const PIECES: usize = 2;

/// Threads, at most: with more, all would wait for the one that takes the lines.
const THREADS: usize = 3;

/// Some lines of a recording.
#[derive(Default)]
struct Piece {
    text: Vec<u8>,
    /// Where in it each line ends.
    ends: Vec<usize>,
    lines: Vec<Line>,
    found: Found,
    /// Why nothing that comes after these lines can be read.
    failure: Option<Error>,
}

/// What is not read yet.
struct Source<R> {
    reader: R,
    /// Pieces read.
    number: u64,
    ended: bool,
}

/// A parsed piece on its way.
struct Parsed {
    number: u64,
    /// The thread that made it.
    maker: usize,
    piece: Piece,
}

/// Reads all lines of `reader` and passes them on in order. A last line without its line break is left out.
pub(super) fn lines(reader: impl BufRead + Send, mut each: impl FnMut(&mut Line)) -> Result<Found> {
    let source = Mutex::new(Source { reader, number: 0, ended: false });
    let available = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let (to_us, parsed) = channel();
        let makers: Vec<Sender<Piece>> = (0..available.clamp(1, THREADS))
            .map(|maker| {
                let (back, empty) = channel();
                let (source, to_us) = (&source, to_us.clone());
                scope.spawn(move || parse(source, maker, &empty, &to_us));
                back
            })
            .collect();
        drop(to_us);
        for maker in &makers {
            for _ in 0..PIECES {
                let _ = maker.send(Piece::default()); // it waits for them
            }
        }
        pass_on(&parsed, &makers, &mut each)
    })
}

/// Passes on the lines of all pieces, in order, until there are no more or one has failed.
fn pass_on(
    parsed: &Receiver<Parsed>,
    makers: &[Sender<Piece>],
    each: &mut impl FnMut(&mut Line),
) -> Result<Found> {
    let mut found = Found::default();
    let (mut next, mut early) = (0, BTreeMap::new());
    for Parsed { number, maker, piece } in parsed {
        early.insert(number, (maker, piece));
        while let Some((maker, mut piece)) = early.remove(&next) {
            next += 1;
            piece.lines.iter_mut().for_each(&mut *each);
            found.add(&piece.found);
            if let Some(failure) = piece.failure.take() {
                return Err(failure);
            }
            // It has ended if there is nothing more to read.
            let _ = makers[maker].send(piece);
        }
    }
    Ok(found)
}

/// Fills and parses pieces until there is nothing more to read, or nobody wants it.
fn parse(
    source: &Mutex<Source<impl BufRead>>,
    maker: usize,
    empty: &Receiver<Piece>,
    parsed: &Sender<Parsed>,
) {
    for mut piece in empty {
        piece.lines.clear();
        piece.text.clear();
        piece.ends.clear();
        piece.found = Found::default();
        let number = match source.lock() {
            Ok(mut source) => source.fill(&mut piece),
            Err(_) => None, // another thread panicked
        };
        let Some(number) = number else { return };
        piece.parse();
        if parsed.send(Parsed { number, maker, piece }).is_err() {
            return;
        }
    }
}

impl<R: BufRead> Source<R> {
    /// Reads the text of the next piece. Returns its number; `None` if there is nothing more.
    fn fill(&mut self, piece: &mut Piece) -> Option<u64> {
        while !self.ended && piece.text.len() < PIECE {
            if let Err(error) = self.line(piece) {
                piece.failure = Some(error.into());
                self.ended = true;
            }
        }
        let is_empty =
            piece.text.is_empty() && piece.failure.is_none() && piece.found == Found::default();
        let number = self.number;
        self.number += 1;
        (!is_empty).then_some(number)
    }

    fn line(&mut self, piece: &mut Piece) -> io::Result<()> {
        self.skip_nuls(&mut piece.found)?;
        let before = piece.text.len();
        let read = (&mut self.reader).take(LONGEST_LINE).read_until(b'\n', &mut piece.text)?;
        if read == 0 {
            self.ended = true;
        } else if piece.text.last() == Some(&b'\n') {
            piece.ends.push(piece.text.len());
        } else {
            piece.text.truncate(before);
            if read as u64 == LONGEST_LINE {
                piece.found.unreadable += 1;
                self.reader.skip_until(b'\n')?;
            } else {
                piece.found.cut = true;
                self.ended = true;
            }
        }
        Ok(())
    }

    /// Passes over NULs before a line. A file that was truncated while somebody wrote to it without `O_APPEND` begins
    /// with a hole as long as what was there.
    fn skip_nuls(&mut self, found: &mut Found) -> io::Result<()> {
        loop {
            let nuls = self.reader.fill_buf()?.iter().take_while(|byte| **byte == 0).count();
            if nuls == 0 {
                return Ok(());
            }
            self.reader.consume(nuls);
            found.nuls += nuls as u64;
        }
    }
}

impl Piece {
    /// Parses the text, up to a line that only a newer version can read.
    fn parse(&mut self) {
        let mut start = 0;
        for &end in &self.ends {
            let bytes = &self.text[start..end];
            start = end;
            match str::from_utf8(bytes).ok().map(Line::parse) {
                Some(Ok(line)) => {
                    self.found.lines += 1;
                    self.lines.push(line);
                }
                Some(Err(error @ LineError::Schema(_))) => {
                    self.failure = Some(error.into());
                    return;
                }
                Some(Err(_)) | None => self.found.unreadable += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::recording::tests::trailer;

    /// Lines of many pieces, numbered by their hosts.
    fn long(count: usize) -> String {
        let line = trailer().to_json().unwrap();
        (0..count).map(|n| line.replace("\"mx\"", &format!("\"mx{n}\"")) + "\n").collect()
    }

    fn hosts(text: &str) -> (Result<Found>, Vec<String>) {
        let mut hosts = Vec::new();
        let found = lines(Cursor::new(text), |line| {
            if let Line::Trailer(trailer) = line {
                hosts.push(trailer.host.clone());
            }
        });
        (found, hosts)
    }

    #[test]
    fn lines_come_in_order() {
        let text = long(5_000);
        assert!(text.len() > 5 * PIECE, "{}", text.len());
        let (found, hosts) = hosts(&text);
        assert_eq!(found.unwrap(), Found { lines: 5_000, ..Found::default() });
        assert!(hosts.iter().enumerate().all(|(n, host)| *host == format!("mx{n}")));
        assert_eq!(hosts.len(), 5_000);
    }

    #[test]
    fn nothing_is_passed_on_after_a_line_of_a_newer_version() {
        let text = long(2_000) + "{\"kind\":\"header\",\"schema\":99}\n" + &long(5_000);
        let (found, hosts) = hosts(&text);
        let error = found.unwrap_err().to_string();
        assert!(error.contains("schema 99 is newer"), "{error}");
        assert_eq!(hosts.len(), 2_000);
    }

    /// Gives a text, and then an error.
    struct Broken(Cursor<String>);

    impl io::Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("the disk is gone")),
                read => Ok(read),
            }
        }
    }

    #[test]
    fn what_was_read_before_an_error_is_passed_on() {
        let mut count = 0;
        let reader = io::BufReader::new(Broken(Cursor::new(long(3_000))));
        let error = lines(reader, |_| count += 1).unwrap_err();
        assert_eq!((error.to_string().as_str(), count), ("the disk is gone", 3_000));
    }
}
