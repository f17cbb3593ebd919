//! Time and segments that were spent without use.

use crate::connection::{Connection, EndCause};

/// Payload of a full segment on a path with an MTU of 1500 bytes, with timestamps.
const SEGMENT: u64 = 1448;

/// What a set of connections cost beyond what it had to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Time spent in connects that failed, in microseconds; without those that ended on this side.
    pub failed_us: u64,
    /// Established connections that neither died nor went unanswered: only theirs is counted below.
    pub healthy: u64,
    /// Those of them that had to send something again.
    pub lossy: u64,
    /// Segments they sent again.
    pub resent: u64,
    /// Segments they sent, estimated from bytes and turns.
    pub segments: u64,
}

impl Cost {
    /// Adds one connection.
    pub fn add(&mut self, connection: &Connection) {
        if !connection.established() {
            if connection.end_cause != EndCause::Open && !connection.connect_ended_here() {
                let lifetime = connection.lifetime_us.unwrap_or(0);
                self.failed_us = self.failed_us.saturating_add(lifetime);
            }
            return;
        }
        let healthy = matches!(connection.end_cause, EndCause::LocalFin | EndCause::PeerFin);
        if let (true, Some(resent), Some(bytes)) =
            (healthy, connection.retransmits, connection.bytes_sent)
        {
            self.healthy += 1;
            self.lossy += u64::from(resent > 0);
            self.resent += u64::from(resent);
            // SYN, FIN, and each turn at least one.
            let turns = u64::from(connection.turns.unwrap_or(0));
            let segments = 2 + turns.max(bytes.div_ceil(SEGMENT));
            self.segments = self.segments.saturating_add(segments);
        }
    }

    /// Adds all connections of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.failed_us = self.failed_us.saturating_add(other.failed_us);
        self.healthy += other.healthy;
        self.lossy += other.lossy;
        self.resent += other.resent;
        self.segments = self.segments.saturating_add(other.segments);
    }
}
