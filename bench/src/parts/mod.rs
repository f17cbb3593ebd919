//! What is measured, a file for each part.

mod kernel;
mod loss;
mod memory;
mod scaling;
mod soak;
mod traffic;
mod user;

use std::fmt;

use anyhow::Result;
use clap::ValueEnum;

use crate::command_line::CommandLine;

/// One part of `docs/performance.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Time in BPF programs, by program and by session
    Kernel,
    /// What the traffic feels: messages and requests per second with and without each tool
    Traffic,
    /// Starting, idling and reading recordings
    User,
    /// Memory with many destinations and many open connections
    Memory,
    /// Storms, slow readers, full maps: what is lost, and whether it is said
    Loss,
    /// Cost per session as connections and destinations grow
    Scaling,
    /// Memory over half an hour of traffic
    Soak,
}

impl Part {
    /// All, in the order of the document.
    pub(crate) const ALL: [Self; 7] = [
        Self::Kernel,
        Self::Traffic,
        Self::User,
        Self::Memory,
        Self::Loss,
        Self::Scaling,
        Self::Soak,
    ];

    /// Its name, on the command line and in the document.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Traffic => "traffic",
            Self::User => "user",
            Self::Memory => "memory",
            Self::Loss => "loss",
            Self::Scaling => "scaling",
            Self::Soak => "soak",
        }
    }

    /// Measures and returns text in Markdown.
    pub(crate) fn measure(self, options: &CommandLine) -> Result<String> {
        match self {
            Self::Kernel => kernel::measure(options),
            Self::Traffic => traffic::measure(options),
            Self::User => user::measure(options),
            Self::Memory => memory::measure(options),
            Self::Loss => loss::measure(options),
            Self::Scaling => scaling::measure(options),
            Self::Soak => soak::measure(options),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_a_place_for_each_part() {
        let document = include_str!("../../../docs/performance.md");
        for part in Part::ALL {
            assert!(document.contains(&format!("<!-- bench {part} -->")), "{part}");
        }
    }
}
