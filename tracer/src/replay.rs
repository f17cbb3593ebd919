//! The replay that a report in HTML shows beside its numbers: what other cache times would have needed.

use tracer_analysis::{
    connection::Connection,
    report::Report,
    whatif::{Context, Demand, WhatIf},
};

use crate::cli::Format;

/// Messages that are kept for it: 24 MB. Those of further connections are only counted, and the page says
/// how many.
const MESSAGES: usize = 1_000_000;

/// The messages to replay.
#[derive(Debug)]
pub(crate) struct Replay(Demand);

impl Replay {
    /// One for a format that shows it.
    pub(crate) fn for_format(format: Format, max_destinations: usize) -> Option<Self> {
        (format == Format::Html).then(|| Self(Demand::with_room_for(MESSAGES, max_destinations)))
    }

    /// Adds the messages of a connection.
    pub(crate) fn add(&mut self, connection: &Connection) {
        self.0.add(connection);
    }

    /// What each cache time of the curve would have needed, for the destinations of `report`.
    pub(crate) fn answer(&self, report: &Report) -> WhatIf {
        let context = Context {
            hosts: report.hosts.clone(),
            version: report.version.clone(),
            start: report.window.start,
            end: report.window.end,
            trust: report.trust.clone(),
            cache_times_us: Vec::new(),
            max_messages: None,
            max_age_us: None,
        };
        WhatIf::new(&self.0, report.grouping(), context)
    }
}
