//! How often each BPF program ran and for how long, by the kernel's own count.

use std::{collections::BTreeMap, os::fd::OwnedFd, time::Duration};

use anyhow::{Context as _, Result};
use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};

/// While this lives the kernel counts (`BPF_ENABLE_STATS`, as `kernel.bpf_stats_enabled` does).
pub(crate) struct Counting(#[expect(dead_code, reason = "it is kept open")] OwnedFd);

impl Counting {
    /// Begins.
    pub(crate) fn begin() -> Result<Self> {
        enable_stats(Stats::RunTime).map(Self).context("have the kernel measure BPF programs")
    }
}

/// What programs of one name did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Calls.
    pub(crate) runs: u64,
    /// Time in all of them.
    pub(crate) time: Duration,
}

impl Work {
    /// Mean time of a call in nanoseconds; 0 if there was none.
    pub(crate) fn nanos_per_run(&self) -> f64 {
        if self.runs == 0 { 0.0 } else { self.time.as_nanos() as f64 / self.runs as f64 }
    }
}

/// All programs of this machine, by their id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot(BTreeMap<u32, (String, Work)>);

impl Snapshot {
    /// As it is now. Programs that vanish meanwhile are left out.
    pub(crate) fn take() -> Self {
        let programs = loaded_programs().filter_map(|info| {
            let info = info.ok()?;
            let work = Work { runs: info.run_count(), time: info.run_time() };
            Some((info.id(), (info.name_as_str().unwrap_or("?").to_owned(), work)))
        });
        Self(programs.collect())
    }

    /// What each program that is not in `others` has done since `earlier`, by name (the first 15
    /// characters, as the kernel keeps it).
    pub(crate) fn since(&self, earlier: &Self, others: &Self) -> BTreeMap<String, Work> {
        let mut by_name: BTreeMap<String, Work> = BTreeMap::new();
        for (id, (name, now)) in &self.0 {
            if others.0.contains_key(id) {
                continue;
            }
            let before = earlier.0.get(id).map(|(_, work)| *work).unwrap_or_default();
            let sum = by_name.entry(name.clone()).or_default();
            sum.runs += now.runs.saturating_sub(before.runs);
            sum.time += now.time.saturating_sub(before.time);
        }
        by_name
    }
}

/// The sum over all programs.
pub(crate) fn sum(works: &BTreeMap<String, Work>) -> Work {
    works.values().fold(Work::default(), |sum, work| Work {
        runs: sum.runs + work.runs,
        time: sum.time + work.time,
    })
}
