//! The files of a recording: one, or pieces named after their start, of which the newest stay.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tracer_analysis::utc::Utc;

use super::directory::Directory;
use crate::diagnostics::{Level, say};

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
    pub(super) fn is_on(self) -> bool {
        self.size.is_some() || self.every.is_some()
    }
}

/// A file that is open to be written, and empty.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) name: OsString,
    /// It was made now, and may be removed if nothing can be written to it.
    pub(super) is_new: bool,
}

/// Makes, opens and removes the files of a recording.
pub(super) struct Pieces {
    directory: Directory,
    path: PathBuf,
    rotation: Rotation,
    /// Pieces of this run, oldest first.
    kept: VecDeque<OsString>,
    /// The start in the newest name: a clock that is set back takes no name back.
    newest: Utc,
}

impl Pieces {
    /// The files of the recording `path`.
    pub(super) fn new(path: &Path, rotation: Rotation) -> Result<Self> {
        let directory = Directory::new(directory_of(path)).with_context(|| {
            format!("cannot make the recording {}: cannot open its directory", path.display())
        })?;
        let newest = Utc::from_micros(i64::MIN);
        Ok(Self { directory, path: path.to_owned(), rotation, kept: VecDeque::new(), newest })
    }

    /// Has another process make, open and remove the files from now on. No other thread may run.
    pub(super) fn hand_over(&mut self) -> Result<()> {
        self.directory.hand_over(self.rotation.is_on())
    }

    /// Opens the first file, at `start`. Refuses to go on in a recording that is there already.
    pub(super) fn first(&mut self, start: Utc) -> Result<Opened> {
        let path = self.path.display().to_string();
        let what = || format!("cannot make the recording {path}");
        if self.rotation.is_on() {
            return self.create(start).with_context(what);
        }
        let opened = self.named().with_context(what)?;
        if opened.file.metadata().with_context(what)?.len() > 0 {
            bail!(
                "{path} exists and is not empty; choose another name for the recording, or remove it"
            );
        }
        Ok(opened)
    }

    /// Opens the file that follows `current` at `start`: without rotation the one of the recording's own name, if it
    /// is empty, else a new piece. `None` if `current` still has that name.
    pub(super) fn next(
        &mut self,
        start: Utc,
        current: Option<&File>,
    ) -> io::Result<Option<Opened>> {
        if !self.rotation.is_on() {
            match self.named() {
                Ok(opened) if current.is_some_and(|file| are_same(file, &opened.file)) => {
                    return Ok(None);
                }
                Ok(opened) if opened.file.metadata().is_ok_and(|found| found.len() == 0) => {
                    return Ok(Some(opened));
                }
                Err(error) if current.is_some() => say(
                    Level::Warning,
                    &format!(
                        "cannot open the recording {} again: {error}; it goes on in a file of another name",
                        self.path.display()
                    ),
                ),
                _ => {}
            }
        }
        self.create(start).map(Some)
    }

    /// The file that has the name of the recording itself.
    fn named(&self) -> io::Result<Opened> {
        let name = self.path.file_name().unwrap_or_default().to_owned();
        Ok(Opened { file: self.directory.open(&name)?, name, is_new: false })
    }

    /// Makes a piece that begins at `start`. Its name is that of a later second than all before: names are in order, also
    /// where two pieces begin within the same second, or the clock was set back.
    pub(super) fn create(&mut self, start: Utc) -> io::Result<Opened> {
        for _ in 0..NAMES {
            self.newest = self.newest.plus_micros(1_000_000).max(start);
            let name = piece(&self.path, self.newest);
            match self.directory.create(&name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Ok(file) => {
                    self.kept.push_back(name.clone());
                    return Ok(Opened { file, name, is_new: true });
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Takes back a piece to which nothing could be written.
    pub(super) fn withdraw(&mut self, opened: &Opened) {
        if opened.is_new {
            self.kept.retain(|kept| *kept != opened.name);
            // It is empty then, and is said to be: the next warning names the error.
            let _ = self.directory.remove(&opened.name);
        } else {
            let _ = opened.file.set_len(0);
        }
    }

    /// Removes what is not to be kept. What somebody else has removed is what was wanted.
    pub(super) fn prune(&mut self) {
        while self.rotation.keep.is_some_and(|keep| self.kept.len() > keep.max(1)) {
            let Some(oldest) = self.kept.pop_front() else { break };
            match self.directory.remove(&oldest) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => say(
                    Level::Warning,
                    &format!("cannot remove the old recording {}: {error}", self.shown(&oldest)),
                ),
                _ => {}
            }
        }
    }

    /// The path of the file `name`, for messages.
    pub(super) fn shown(&self, name: &OsStr) -> String {
        self.path.with_file_name(name).display().to_string()
    }

    /// Whether what is written is compressed.
    pub(super) fn are_packed(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "zst")
    }
}

/// The directory in which `path` lies.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn are_same(one: &File, other: &File) -> bool {
    let id = |file: &File| file.metadata().map(|found| (found.dev(), found.ino())).ok();
    id(one).is_some() && id(one) == id(other)
}

/// Names that are tried for a piece, if there are files of these names already.
const NAMES: usize = 1_000;

/// The name of a piece: `mx1.jsonl.zst` gives `mx1-20261122T030000Z.jsonl.zst`.
fn piece(path: &Path, start: Utc) -> OsString {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let dot = name.iter().position(|byte| *byte == b'.').filter(|dot| *dot > 0);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let second = start.to_string().replace(['-', ':'], "");
    let second = second.split(['.', 'Z']).next().unwrap_or_default();
    let mut piece = OsStr::from_bytes(stem).to_owned();
    piece.push(format!("-{second}Z"));
    piece.push(OsStr::from_bytes(extension));
    piece
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pieces_are_named_after_their_start() {
        let start = Utc::parse("2026-11-22T03:00:00.5Z").unwrap();
        let named = |path: &str| piece(Path::new(path), start).into_string().unwrap();
        assert_eq!(named("/var/mx1.jsonl.zst"), "mx1-20261122T030000Z.jsonl.zst");
        assert_eq!(named("mx1"), "mx1-20261122T030000Z");
        assert_eq!(named(".hidden"), ".hidden-20261122T030000Z");
    }

    #[test]
    fn old_pieces_go_whoever_removes_them_and_no_name_goes_back() {
        let name = format!("smtptrace-pieces-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let rotation = Rotation { size: Some(1), every: None, keep: Some(2) };
        let mut pieces = Pieces::new(&directory.join("r.jsonl"), rotation).unwrap();
        let at = |second: i64| Utc::from_micros(second * 1_000_000);
        let made: Vec<OsString> = [at(100), at(200), at(60), at(300)]
            .map(|start| {
                let made = pieces.create(start).unwrap().name;
                if start == at(200) {
                    fs::remove_file(directory.join("r-19700101T000140Z.jsonl")).unwrap();
                }
                pieces.prune();
                made
            })
            .into();
        let left: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|it| it.unwrap().file_name()).collect();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(made[2], "r-19700101T000321Z.jsonl");
        assert!(made.is_sorted(), "{made:?}");
        assert!(left.len() == 2 && left.contains(&made[2]) && left.contains(&made[3]), "{left:?}");
    }
}
