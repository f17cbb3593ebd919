//! Writing recordings: plain or compressed with Zstandard.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};
use tracer_analysis::recording::Line;

use crate::sink::json::ascii;

/// Level of compression: the fastest that still finds the repeated field names.
const LEVEL: i32 = 3;

/// What a recording is written to.
enum Sink<W: Write> {
    Plain(BufWriter<W>),
    /// Has a buffer of its own.
    Packed(Box<zstd::stream::write::Encoder<'static, W>>),
}

/// Writes a recording.
pub(crate) struct Writer<W: Write> {
    sink: Sink<W>,
    /// The line at hand; kept for the next one.
    json: Vec<u8>,
    /// Something was written since the last flush.
    dirty: bool,
    bytes: u64,
}

impl Writer<File> {
    /// Makes the recording `path`, compressed if its name ends in `.zst`. Refuses to overwrite one.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let holds_data = path.metadata().is_ok_and(|file| file.is_file() && file.len() > 0);
        if holds_data {
            bail!(
                "{} exists and is not empty; choose another name for the recording, or remove it",
                path.display()
            );
        }
        let what = || format!("cannot make the recording {}", path.display());
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = options.open(path).with_context(what)?;
        if path.extension().is_some_and(|extension| extension == "zst") {
            Self::packed(file).with_context(what)
        } else {
            Ok(Self::plain(file))
        }
    }
}

impl<W: Write> Writer<W> {
    /// Writes to `out` as it is.
    pub(crate) fn plain(out: W) -> Self {
        Self::new(Sink::Plain(BufWriter::with_capacity(64 << 10, out)))
    }

    /// Writes to `out` what is compressed.
    fn packed(out: W) -> io::Result<Self> {
        Ok(Self::new(Sink::Packed(Box::new(zstd::stream::write::Encoder::new(out, LEVEL)?))))
    }

    fn new(sink: Sink<W>) -> Self {
        Self { sink, json: Vec::new(), dirty: false, bytes: 0 }
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, line: &Line) -> io::Result<()> {
        self.json.clear();
        line.write_json(&mut self.json)?;
        self.json.push(b'\n');
        let json = ascii(str::from_utf8(&self.json).map_err(io::Error::other)?);
        self.dirty = true;
        self.bytes += json.len() as u64;
        match &mut self.sink {
            Sink::Plain(out) => out.write_all(json.as_bytes()),
            Sink::Packed(out) => out.write_all(json.as_bytes()),
        }
    }

    /// Bytes of all lines so far, before compression.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands everything written so far to the system. What is compressed can be read up to here.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(());
        }
        match &mut self.sink {
            Sink::Plain(out) => out.flush(),
            Sink::Packed(out) => out.flush(),
        }
    }

    /// Ends the recording.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self.sink {
            Sink::Plain(mut out) => out.flush(),
            Sink::Packed(out) => out.finish()?.flush(),
        }
    }

    /// Ends a plain recording, and gives back what it was written to.
    #[cfg(test)]
    pub(crate) fn into_bytes(self) -> Option<W> {
        match self.sink {
            Sink::Plain(out) => out.into_inner().ok(),
            Sink::Packed(_) => None,
        }
    }

    /// Closes it without another try to write what is still buffered.
    pub(crate) fn abandon(self) {
        // An encoder writes nothing when it is dropped.
        if let Sink::Plain(out) = self.sink {
            let _ = out.into_parts();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::tests::trailer;

    #[test]
    fn what_was_flushed_can_be_read_without_the_end() {
        let mut writer = Writer::packed(Vec::new()).unwrap();
        writer.line(&trailer()).unwrap();
        writer.flush().unwrap();
        let Sink::Packed(encoder) = &mut writer.sink else { panic!("not compressed") };
        let written = encoder.get_mut().clone();
        let mut text = String::new();
        let mut decoder = zstd::stream::read::Decoder::new(&written[..]).unwrap();
        // The frame has no end yet, but all of the line is there.
        assert!(io::Read::read_to_string(&mut decoder, &mut text).is_err());
        let mut lines = 0;
        crate::recording::read::read_bytes(&written[..], |_| lines += 1).unwrap();
        assert_eq!((lines, writer.bytes()), (1, trailer().to_json().unwrap().len() as u64 + 1));
    }

    #[test]
    fn nothing_new_is_not_flushed_again() {
        let mut writer = Writer::packed(Vec::new()).unwrap();
        writer.line(&trailer()).unwrap();
        for _ in 0..3 {
            writer.flush().unwrap();
        }
        let Sink::Packed(encoder) = &mut writer.sink else { panic!("not compressed") };
        let size = encoder.get_mut().len();
        writer.flush().unwrap();
        let Sink::Packed(encoder) = &mut writer.sink else { panic!("not compressed") };
        assert_eq!(encoder.get_mut().len(), size);
    }
}
