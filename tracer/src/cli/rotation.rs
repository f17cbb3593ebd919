//! Arguments about recordings in pieces.

use std::time::Duration;

use clap::Args;

use super::values::{duration, size};

/// A recording in pieces, each with its start in its name.
#[derive(Debug, Args)]
pub(crate) struct RotationArgs {
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
}
