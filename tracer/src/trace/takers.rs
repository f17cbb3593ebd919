//! All that takes connections as they end.

use tracer_analysis::{connection::Connection, destination::Fold, recording::Line};

use crate::{live::Live, memory::Memory, metrics::Metrics, outlets::Outlets, replay::Replay};

/// What is made of the connections of a trace while it runs, and where they go.
pub(super) struct Takers {
    pub(super) fold: Fold,
    /// What the fold may take.
    pub(super) memory: Memory,
    /// For a report that shows it.
    pub(super) replay: Option<Replay>,
    pub(super) metrics: Option<Metrics>,
    /// The live view, if there is one.
    pub(super) live: Option<Live>,
    pub(super) outlets: Outlets,
    /// Connections taken so far.
    pub(super) connections: u64,
}

impl Takers {
    /// Hands one connection to all of them.
    pub(super) fn take(&mut self, connection: Connection) {
        self.connections += 1;
        self.fold.add(&connection);
        self.memory.added(&mut self.fold);
        if let Some(replay) = &mut self.replay {
            replay.add(&connection);
        }
        if let Some(live) = &mut self.live {
            live.ended(&connection);
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.add(&connection, &self.fold);
        }
        self.outlets.line(&Line::Connection(Box::new(connection)));
    }
}
