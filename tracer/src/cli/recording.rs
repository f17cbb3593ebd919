//! Arguments about recordings.

use std::time::Duration;

use clap::Args;

use super::values::{duration, size};
use crate::recording::OnError;

/// A recording in pieces, each with its start in its name, and what is done about its disk.
#[derive(Debug, Args)]
pub(crate) struct RecordingArgs {
    /// Go on in a new file after this much (before compression), for example
    /// 500M; the files get their start in their name
    #[arg(long = "rotate-size", value_name = "SIZE", value_parser = size, requires = "record")]
    pub(crate) size: Option<u64>,
    /// Go on in a new file after this time, for example 1h
    #[arg(long = "rotate-every", value_name = "TIME")]
    #[arg(value_parser = duration, requires = "record")]
    pub(crate) every: Option<Duration>,
    /// Keep this many files of this run, the newest
    #[arg(long = "rotate-keep", value_name = "N", requires = "record")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
    /// What an error of the disk does to the recording, such as a full disk
    #[arg(long = "on-record-error", value_name = "ACTION", value_enum)]
    #[arg(default_value_t = OnError::Suspend, requires = "record")]
    pub(crate) on_error: OnError,
    /// Wait every --interval until the recording is on the disk (fsync), so that
    /// a crash of the machine loses no more; a thread of its own waits
    #[arg(long, requires = "record")]
    pub(crate) sync: bool,
}
