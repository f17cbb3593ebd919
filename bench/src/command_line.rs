//! The command line.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Parser;

use crate::parts::Part;

/// Measures what smtptrace costs.
#[derive(Debug, Parser)]
pub(crate) struct CommandLine {
    /// What to measure; all if none is named
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Rounds of each pair: what is compared takes turns
    #[arg(long, default_value_t = 7)]
    pub(crate) rounds: usize,
    /// Share of the full size of each measurement, 0.01 to 1: small for a try
    #[arg(long, default_value_t = 1.0)]
    pub(crate) scale: f64,
    /// The document whose tables are brought up to date
    #[arg(long)]
    pub(crate) document: Option<PathBuf>,
    /// Where the object with the empty programs is
    #[arg(long, required_unless_present = "hold")]
    floor: Option<PathBuf>,
    /// Measures nothing: opens connections to this address and holds them until stdin ends
    #[arg(long, hide = true)]
    pub(crate) hold: Option<SocketAddr>,
    /// How many
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) connections: usize,
}

impl CommandLine {
    /// What to measure, in order.
    pub(crate) fn parts(&self) -> Vec<Part> {
        if self.parts.is_empty() { Part::ALL.to_vec() } else { self.parts.clone() }
    }

    /// Where the object with the empty programs is.
    pub(crate) fn floor(&self) -> &Path {
        self.floor.as_deref().unwrap_or(Path::new(""))
    }

    /// `full` at the scale that was asked for, at least 1.
    pub(crate) fn scaled(&self, full: usize) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count; float to integer saturates"
        )]
        let scaled = (full as f64 * self.scale.clamp(0.0, 1.0)) as usize;
        scaled.max(1)
    }
}
