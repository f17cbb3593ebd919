//! Lines as they are written.

use std::{
    borrow::Cow,
    io::{self, BufWriter, Write},
};

use tracer_analysis::recording::Line;

use crate::sink::json::ascii;

/// `line` as it is written, with its line break. `buffer` is used again from line to line.
pub(crate) fn written<'a>(line: &Line, buffer: &'a mut Vec<u8>) -> io::Result<Cow<'a, str>> {
    buffer.clear();
    line.write_json(buffer)?;
    buffer.push(b'\n');
    Ok(ascii(str::from_utf8(buffer).map_err(io::Error::other)?))
}

/// Writes lines to a stream.
pub(crate) struct Writer<W: Write> {
    out: BufWriter<W>,
    /// The line at hand; kept for the next one.
    json: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes to `out` as it is.
    pub(crate) fn plain(out: W) -> Self {
        Self { out: BufWriter::with_capacity(64 << 10, out), json: Vec::new() }
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, line: &Line) -> io::Result<()> {
        self.out.write_all(written(line, &mut self.json)?.as_bytes())
    }

    /// Writes a line that is made already.
    pub(crate) fn text(&mut self, line: &str) -> io::Result<()> {
        self.out.write_all(line.as_bytes())
    }

    /// Hands everything written so far to the system.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Closes it without another try to write what is still buffered.
    pub(crate) fn abandon(self) {
        let _ = self.out.into_parts();
    }

    /// Ends it, and gives back what it was written to.
    #[cfg(test)]
    pub(crate) fn into_bytes(self) -> Option<W> {
        self.out.into_inner().ok()
    }
}
