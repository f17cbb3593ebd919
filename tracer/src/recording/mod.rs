//! Recordings on disk: JSON Lines, written as connections end, read back line by line.

mod parse;
mod read;
mod rotate;
mod write;

#[cfg(any(test, fuzzing))]
pub(crate) use read::read_bytes;
pub(crate) use read::{Found, read, start};
pub(crate) use rotate::{Recording, Rotation};
pub(crate) use write::Writer;

#[cfg(test)]
mod tests {
    use tracer_analysis::{
        recording::{Line, Trailer, Trust},
        utc::Utc,
    };

    use super::*;

    pub(super) fn trailer() -> Line {
        let end = Utc::from_micros(0);
        let trust = Trust::default();
        let host = "mx".into();
        Line::Trailer(Box::new(Trailer { schema: 1, host, end, connections: 0, trust }))
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = std::env::temp_dir().join(format!("smtptrace-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        for name in ["plain.jsonl", "packed.jsonl.zst"] {
            let path = directory.join(name);
            let mut writer = Writer::create(&path).unwrap();
            writer.line(&trailer()).unwrap();
            writer.finish().unwrap();
            assert!(Writer::create(&path).is_err(), "a recording is never overwritten");
            let mut lines = Vec::new();
            read(&path, |line| lines.push(line.clone())).unwrap();
            assert_eq!(lines, [trailer()]);
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
