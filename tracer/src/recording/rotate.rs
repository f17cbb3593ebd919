//! A recording in pieces: each is a whole recording, with header and trailer, named after its start.

use std::{
    collections::VecDeque,
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tracer_analysis::utc::Utc;

use super::Writer;

/// When a new piece begins, and how many stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rotation {
    /// Bytes of a piece, before compression.
    pub(crate) size: Option<u64>,
    /// Time of a piece.
    pub(crate) every: Option<Duration>,
    /// Pieces of this run that stay; the oldest are removed.
    pub(crate) keep: Option<usize>,
}

impl Rotation {
    fn is_on(self) -> bool {
        self.size.is_some() || self.every.is_some()
    }
}

/// Where a trace is recorded: one file, or pieces one after the other.
pub(crate) struct Recording {
    path: PathBuf,
    rotation: Rotation,
    writer: Writer<File>,
    begun: Instant,
    /// Pieces of this run, oldest first, the one being written last.
    pieces: VecDeque<PathBuf>,
}

impl Recording {
    /// Opens the recording `path`; with rotation, its first piece, which begins at `start`.
    pub(crate) fn create(path: &Path, rotation: Rotation, start: Utc) -> Result<Self> {
        let mut pieces = VecDeque::new();
        let writer = if rotation.is_on() {
            let piece = piece(path, start, 0);
            let writer = Writer::create(&piece)?;
            pieces.push_back(piece);
            writer
        } else {
            Writer::create(path)?
        };
        Ok(Self { path: path.to_owned(), rotation, writer, begun: Instant::now(), pieces })
    }

    /// The piece at hand.
    pub(crate) fn writer(&mut self) -> &mut Writer<File> {
        &mut self.writer
    }

    /// The name of the file at hand.
    pub(crate) fn name(&self) -> String {
        self.pieces.back().unwrap_or(&self.path).display().to_string()
    }

    /// Where further pieces are made, if there are to be any.
    pub(crate) fn directory(&self) -> Option<&Path> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        self.rotation.is_on().then(|| parent.unwrap_or(Path::new(".")))
    }

    /// Whether a new piece should begin.
    pub(crate) fn is_due(&self) -> bool {
        let large = self.rotation.size.is_some_and(|size| self.writer.bytes() >= size);
        large || self.rotation.every.is_some_and(|every| self.begun.elapsed() >= every)
    }

    /// Ends the piece at hand and begins the next at `start`. Removes what is not to be kept.
    pub(crate) fn rotate(&mut self, start: Utc) -> Result<()> {
        // Two pieces may begin within the same second.
        let named = |number| piece(&self.path, start, number);
        let next = (0..1_000).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(0));
        let done = std::mem::replace(&mut self.writer, Writer::create(&next)?);
        let name = self.name();
        self.pieces.push_back(next);
        self.begun = Instant::now();
        done.finish().with_context(|| format!("cannot write the recording {name}"))?;
        while self.rotation.keep.is_some_and(|keep| self.pieces.len() > keep.max(1)) {
            let Some(oldest) = self.pieces.pop_front() else { break };
            fs::remove_file(&oldest)
                .with_context(|| format!("cannot remove the old recording {}", oldest.display()))?;
        }
        Ok(())
    }

    /// Ends the recording.
    pub(crate) fn finish(self) -> std::io::Result<()> {
        self.writer.finish()
    }

    /// Closes it without another try to write what is still buffered.
    pub(crate) fn abandon(self) {
        self.writer.abandon();
    }
}

/// The name of a piece: `mx1.jsonl.zst` gives `mx1-20261122T030000Z.jsonl.zst`.
fn piece(path: &Path, start: Utc, number: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, extension) = match name.split_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, format!(".{extension}")),
        _ => (name.as_ref(), String::new()),
    };
    let digits = |part: &str| part.replace(['-', ':'], "");
    let second = start.to_string();
    let second = digits(second.get(..19).unwrap_or(&second));
    let again = if number == 0 { String::new() } else { format!("-{}", number + 1) };
    path.with_file_name(format!("{stem}-{second}Z{again}{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        input::Input,
        recording::{read, tests::trailer},
    };

    #[test]
    fn pieces_are_named_after_their_start() {
        let start = Utc::parse("2026-11-22T03:00:00.5Z").unwrap();
        let named = |path: &str, n| piece(Path::new(path), start, n).display().to_string();
        assert_eq!(named("/var/mx1.jsonl.zst", 0), "/var/mx1-20261122T030000Z.jsonl.zst");
        assert_eq!(named("mx1", 1), "mx1-20261122T030000Z-2");
        assert_eq!(named(".hidden", 0), ".hidden-20261122T030000Z");
    }

    #[test]
    fn every_piece_is_whole_and_old_ones_go() {
        let name = format!("smtptrace-rotate-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let rotation = Rotation { size: Some(1), every: None, keep: Some(2) };
        let start = Utc::from_micros(0);
        let path = directory.join("r.jsonl.zst");
        let mut recording = Recording::create(&path, rotation, start).unwrap();
        for _ in 0..4 {
            assert!(!recording.is_due());
            recording.writer().line(&trailer()).unwrap();
            assert!(recording.is_due());
            recording.rotate(start).unwrap();
        }
        recording.writer().line(&trailer()).unwrap();
        recording.finish().unwrap();
        let mut lines = 0;
        let pieces: Vec<_> = fs::read_dir(&directory).unwrap().collect();
        for piece in &pieces {
            let piece = Input::open(&piece.as_ref().unwrap().path()).unwrap();
            read(&piece, |_| lines += 1).unwrap();
        }
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!((pieces.len(), lines), (2, 2));
    }
}
