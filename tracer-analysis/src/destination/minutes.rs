//! Connections opened in each minute.

use std::collections::BTreeMap;

use crate::utc::Utc;

/// Counts per UTC-aligned minute, bounded to [`Self::KEPT`] minutes.
///
/// Beyond that the oldest are retired: only the highest count of them is remembered. A connection of
/// a retired minute that comes later is counted in that minute anew, so the peak can then be too low.
/// That takes recordings of more than two weeks each, read one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Minutes {
    counts: BTreeMap<i64, u32>,
    retired_peak: u32,
}

impl Minutes {
    /// Minutes that are kept: two weeks of them.
    const KEPT: usize = 14 * 24 * 60;

    /// Counts one connection opened at `at`.
    pub(super) fn count(&mut self, at: Utc) {
        self.add(at.micros().div_euclid(60_000_000), 1);
    }

    /// Adds the counts of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        self.retired_peak = self.retired_peak.max(other.retired_peak);
        for (&minute, &count) in &other.counts {
            self.add(minute, count);
        }
    }

    /// The highest count of a minute.
    pub(super) fn peak(&self) -> u64 {
        self.counts.values().copied().max().unwrap_or(0).max(self.retired_peak).into()
    }

    fn add(&mut self, minute: i64, count: u32) {
        let sum = self.counts.entry(minute).or_default();
        *sum = sum.saturating_add(count);
        if self.counts.len() > Self::KEPT
            && let Some((_, count)) = self.counts.pop_first()
        {
            self.retired_peak = self.retired_peak.max(count);
        }
    }
}
