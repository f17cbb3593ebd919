//! Recordings from their begin to their end, on disks that fail.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
};

use tracer_analysis::recording::{Filters, Line, Trust};

use super::*;
use crate::input::Input;

const OPTIONS: Options = Options {
    rotation: Rotation { size: None, every: None, keep: None },
    on_error: OnError::Suspend,
    sync: None,
};

/// A line that counts as a connection, of about this many bytes.
fn connection(bytes: usize) -> String {
    format!("{{\"kind\":\"connection\",\"x\":\"{}\"}}\n", "x".repeat(bytes))
}

fn header() -> Header {
    Header {
        schema: 1,
        version: "0".into(),
        host: "mx".into(),
        kernel: "6".into(),
        start: Utc::from_micros(0),
        hooks: Vec::new(),
        filters: Filters::default(),
    }
}

fn last() -> Trailer {
    let trust = Trust { connections_lost: Some(0), ..Trust::default() };
    Trailer { schema: 1, host: "mx".into(), end: Utc::from_micros(0), connections: 0, trust }
}

pub(super) fn trailer() -> Line {
    Line::Trailer(Box::new(Trailer { trust: Trust::default(), ..last() }))
}

/// A directory of this test; removed when dropped.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("smtptrace-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// All files: their names and texts, in order.
    fn files(&self) -> Vec<(String, String)> {
        let all = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap());
        let mut all: Vec<_> = all
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        all.sort();
        all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A pipe in the place of a disk: its end to read from, and the file to be written, with these flags.
fn pipe(path: &Path, flags: i32) -> (File, Opened) {
    let _ = fs::remove_file(path);
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).unwrap();
    let file = File::options().append(true).custom_flags(flags).open(path).unwrap();
    (reader, Opened { file, name: "fifo".into(), is_new: false })
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    ::tests::wait::until(what, Duration::from_secs(60), || Ok(done().then_some(()))).unwrap();
}

/// The kinds of the lines of a text.
fn kinds(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split('"').nth(3).unwrap()).collect()
}

#[test]
fn what_is_written_is_read() {
    let place = Place::new("written");
    for name in ["plain.jsonl", "packed.jsonl.zst"] {
        let path = place.file(name);
        let mut recording = Recording::open(&path, OPTIONS, header().start).unwrap();
        recording.begin(&header()).unwrap();
        recording.finish(last()).unwrap();
        let error = Recording::open(&path, OPTIONS, header().start).err().unwrap().to_string();
        assert!(error.contains("exists and is not empty"), "{error}");
        let mut lines = Vec::new();
        read(&Input::open(&path).unwrap(), |line| lines.push(line.clone())).unwrap();
        assert_eq!(lines, [Line::Header(Box::new(header())), Line::Trailer(Box::new(last()))]);
    }
}

#[test]
fn every_piece_is_whole_and_old_ones_go() {
    let place = Place::new("rotated");
    let rotation = Rotation { size: Some(1), every: None, keep: Some(2) };
    let options = Options { rotation, ..OPTIONS };
    let mut recording = Recording::open(&place.file("r.jsonl"), options, header().start).unwrap();
    recording.begin(&header()).unwrap();
    for _ in 0..4 {
        assert!(!recording.is_due());
        recording.line(&connection(1));
        assert!(recording.is_due());
        until("room for a border", || {
            recording.next_piece(last(), header(), false);
            !recording.is_due()
        });
    }
    recording.line(&connection(1));
    recording.finish(last()).unwrap();
    let files = place.files();
    assert_eq!(files.len(), 2, "{files:?}");
    for (_, text) in files {
        assert_eq!(kinds(&text), ["header", "connection", "trailer"]);
        assert!(text.contains("\"connections\":1"), "{text}");
    }
}

/// The first file is a full disk (ENOSPC), or a broken one (EIO; address 0 of this process is not there): the recording
/// goes on in a new piece, and nothing is lost.
#[test]
fn an_error_suspends_the_recording_and_it_goes_on_in_a_new_piece() {
    for disk in ["/dev/full", "/proc/self/mem"] {
        let place = Place::new("suspended");
        let path = place.file("r.jsonl");
        fs::write(&path, "somebody else's\n").unwrap();
        let pieces = Pieces::new(&path, Rotation::default()).unwrap();
        let disk = File::options().write(true).open(disk).unwrap();
        let first = Opened { file: disk, name: "disk".into(), is_new: false };
        let mut recording = Recording::of(&path, OPTIONS, pieces, first);
        recording.begin(&header()).unwrap();
        until("the recording to be suspended", || recording.state().failed);
        recording.line(&connection(1));
        recording.flush();
        until("the recording to go on", || !recording.state().failed);
        recording.line(&connection(1));
        recording.finish(last()).unwrap();
        let files = place.files();
        let [(name, text), (_, untouched)] = files.as_slice() else { panic!("{files:?}") };
        assert_eq!(untouched, "somebody else's\n");
        assert!(name.starts_with("r-2"), "{name}");
        assert_eq!(kinds(text), ["header", "connection", "connection", "trailer"]);
        assert!(text.contains("\"not_recorded\":0"), "{text}");
    }
}

#[test]
fn an_error_ends_the_recording_if_that_is_wanted() {
    let place = Place::new("stopped");
    let path = place.file("r.jsonl");
    let pieces = Pieces::new(&path, Rotation::default()).unwrap();
    let full = File::options().append(true).open("/dev/full").unwrap();
    let first = Opened { file: full, name: "full".into(), is_new: false };
    let options = Options { on_error: OnError::Stop, ..OPTIONS };
    let mut recording = Recording::of(&path, options, pieces, first);
    recording.begin(&header()).unwrap();
    until("the recording to end", || recording.has_failed());
    recording.line(&connection(1));
    assert_eq!(recording.state(), State { not_recorded: 1, failed: true });
    let error = format!("{:#}", recording.finish(last()).unwrap_err());
    assert!(
        error.contains("cannot write to the recording") && error.contains("No space"),
        "{error}"
    );
    assert_eq!(place.files(), []);
}

/// Nobody reads the pipe that stands for the disk: it stalls. The lines that find no room are counted, and the
/// recording ends in time.
#[test]
fn a_disk_that_stalls_delays_nothing() {
    let place = Place::new("stalled");
    let path = place.file("r.jsonl");
    let fifo = place.file("fifo");
    let (mut disk, first) = pipe(&fifo, 0);
    let pieces = Pieces::new(&path, Rotation::default()).unwrap();
    let mut recording = Recording::of(&path, OPTIONS, pieces, first);
    recording.begin(&header()).unwrap();
    let line = connection(10_000);
    let lines = 2 * queue::CAPACITY / line.len();
    for _ in 0..lines {
        recording.line(&line);
        recording.flush();
    }
    let state = recording.state();
    assert!(state.failed && state.not_recorded > 0, "{state:?}");
    recording.next_piece(last(), header(), false);
    let error = recording.finish_within(last(), Duration::from_millis(100)).unwrap_err();
    assert!(error.to_string().contains("does not answer"), "{error}");
    // What the pipe took was written; all the rest is counted.
    let mut written = vec![0; 1 << 20];
    let written = disk.read(&mut written).unwrap() / line.len();
    let counted = usize::try_from(recording.state().not_recorded).unwrap();
    assert!(counted <= lines && counted + written + 8 >= lines, "{counted} of {lines}");
}

/// A pipe that nobody reads takes a part of the lines: the new piece has just the others.
#[test]
fn lines_that_stand_are_not_written_twice() {
    const LINES: usize = 200;
    let place = Place::new("partly");
    let (path, fifo) = (place.file("r.jsonl"), place.file("fifo"));
    let (mut disk, first) = pipe(&fifo, nix::libc::O_NONBLOCK);
    let pieces = Pieces::new(&path, Rotation::default()).unwrap();
    let mut recording = Recording::of(&path, OPTIONS, pieces, first);
    recording.begin(&header()).unwrap();
    for _ in 0..LINES {
        recording.line(&connection(1_000));
    }
    recording.flush();
    until("a new piece", || path.exists() && !recording.state().failed);
    recording.finish(last()).unwrap();
    let mut text = vec![0; 1 << 20];
    let read = disk.read(&mut text).unwrap();
    let text = String::from_utf8(text[..read].to_vec()).unwrap();
    let (whole, _) = text.rsplit_once('\n').unwrap();
    // A pipe looks like a file that was truncated: each batch has a header.
    let in_pipe = kinds(whole).iter().filter(|kind| **kind == "connection").count();
    let text = fs::read_to_string(&path).unwrap();
    assert!(in_pipe > 0);
    assert_eq!(kinds(&text).len(), 2 + LINES - in_pipe, "header, trailer and the rest");
    assert!(text.contains(&format!("\"connections\":{}", LINES - in_pipe)), "{text}");
}

/// A pipe takes lines, and refuses to wait until they are on a disk.
#[test]
fn it_waits_for_the_disk_if_that_is_wanted() {
    let place = Place::new("synced");
    let (path, fifo) = (place.file("r.jsonl"), place.file("fifo"));
    for sync in [None, Some(Duration::from_millis(1))] {
        let (mut disk, first) = pipe(&fifo, 0);
        let pieces = Pieces::new(&path, Rotation::default()).unwrap();
        let mut recording = Recording::of(&path, Options { sync, ..OPTIONS }, pieces, first);
        recording.begin(&header()).unwrap();
        until("the header", || disk.read(&mut [0; 4_096]).is_ok_and(|read| read > 0));
        if sync.is_some() {
            until("a wait that fails", || recording.state().failed);
        }
        recording.finish(last()).unwrap();
        assert_eq!(path.exists(), sync.is_some(), "where the recording ended");
        let _ = fs::remove_file(&path);
    }
}

#[test]
fn a_moved_a_truncated_and_a_removed_file_is_followed_by_one_with_a_header() {
    for name in ["r.jsonl", "r.jsonl.zst"] {
        let place = Place::new("followed");
        let (path, old) = (place.file(name), place.file("old"));
        let mut recording = Recording::open(&path, OPTIONS, header().start).unwrap();
        let read_all = |path: &Path| {
            let mut text = String::new();
            if let Ok(input) = Input::open(path) {
                let _ = read(&input, |line| text += &(line.to_json().unwrap() + "\n"));
            }
            kinds(&text).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        recording.begin(&header()).unwrap();
        until("the header", || read_all(&path) == ["header"]);
        // SIGHUP, and nobody has moved the file.
        recording.next_piece(last(), header(), true);
        // Moved, then SIGHUP.
        until("the border", || !recording.queue.has_border());
        fs::rename(&path, &old).unwrap();
        recording.next_piece(last(), header(), true);
        until("a new file", || read_all(&path) == ["header"]);
        assert_eq!(read_all(&old), ["header", "trailer"]);
        // Truncated, as by copytruncate.
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        let line = trailer().to_json().unwrap() + "\n";
        recording.line(&line);
        recording.flush();
        until("the file begins again", || read_all(&path) == ["header", "trailer"]);
        // Removed.
        fs::remove_file(&path).unwrap();
        recording.line(&line);
        recording.flush();
        until("another file", || read_all(&path) == ["header", "trailer"]);
        recording.finish(last()).unwrap();
        assert_eq!(read_all(&path), ["header", "trailer", "trailer"]);
    }
}

/// The directory is removed, and later made again.
#[test]
fn a_directory_that_comes_back_has_the_recording_again() {
    let place = Place::new("vanished");
    let directory = place.file("sub");
    let path = directory.join("r.jsonl");
    fs::create_dir(&directory).unwrap();
    let mut recording = Recording::open(&path, OPTIONS, header().start).unwrap();
    recording.begin(&header()).unwrap();
    until("the header", || fs::read(&path).is_ok_and(|text| !text.is_empty()));
    fs::remove_dir_all(&directory).unwrap();
    recording.line(&connection(1));
    recording.flush();
    until("the recording to be suspended", || recording.state().failed);
    fs::create_dir(&directory).unwrap();
    until("the recording to go on", || !recording.state().failed);
    recording.finish(last()).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(kinds(&text), ["header", "connection", "trailer"]);
}
