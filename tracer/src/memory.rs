//! How much memory this process may take, and what the fold gives up when it takes more.

use std::{fs::File, os::unix::fs::FileExt as _};

use nix::unistd::{SysconfVar, sysconf};
use tracer_analysis::destination::Fold;

use crate::{
    diagnostics::{Level, say},
    sink::quantity::{bytes, grouped},
};

/// Connections between two looks: what one adds is bounded, and a look is one system call.
const PERIOD: u32 = 1_024;

/// A budget of memory. Destinations are kept apart as long as it suffices.
///
/// What counts is the memory of the whole process that is resident, as the kernel counts it for a limit of a cgroup
/// (`MemoryMax=`): no sum of estimates can forget a part. Maps of the kernel side are not in it.
pub(crate) struct Memory {
    /// `/proc/self/statm`, opened before privileges are given up; `None` where it is not to be had: then there is no budget.
    statm: Option<File>,
    page: u64,
    limit: u64,
    /// What is put up with: more than the limit after all was given up that could be.
    tolerated: u64,
    since_look: u32,
    was_said: bool,
}

impl Memory {
    /// A budget of `limit` bytes.
    pub(crate) fn open(limit: u64) -> Self {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        Self {
            statm: File::open("/proc/self/statm").ok(),
            page: page.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4 << 10),
            limit,
            tolerated: limit,
            since_look: 0,
            was_said: false,
        }
    }

    /// Sets the budget to `limit` bytes.
    pub(crate) fn limit_to(&mut self, limit: u64) {
        (self.limit, self.tolerated) = (limit, limit);
    }

    /// Call it for each connection that was added to `fold`: has it keep fewer destinations apart if this process takes
    /// more than its budget.
    pub(crate) fn added(&mut self, fold: &mut Fold) {
        self.since_look += 1;
        if self.since_look < PERIOD {
            return;
        }
        self.since_look = 0;
        let Some(used) = self.resident().filter(|used| *used > self.tolerated) else { return };
        let kept = fold.keep_fewer();
        give_memory_back();
        let left = self.resident().unwrap_or(used);
        // Where the C library gives nothing back, what was freed is used again: only more than this is too much.
        self.tolerated = self.limit.max(left.saturating_add(self.limit / 16));
        if !std::mem::replace(&mut self.was_said, true) {
            let told = format!(
                "{} of memory are in use, and --memory leaves {} for this: only the busiest {} destinations stay \
                 apart, the others are ~other; raise --memory if the machine has more",
                bytes(Some(used)),
                bytes(Some(self.limit)),
                grouped(kept as u64)
            );
            say(Level::Warning, &told);
        }
    }

    /// Bytes of this process that are in memory.
    fn resident(&self) -> Option<u64> {
        let mut text = [0; 128];
        let read = self.statm.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = str::from_utf8(&text[..read]).ok()?;
        let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(pages.saturating_mul(self.page))
    }
}

/// Hands the system the memory that was freed.
pub(crate) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the function has no preconditions.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use tracer_analysis::destination::GroupBy;

    use super::*;
    use crate::sink::tests::connection;

    #[test]
    fn the_least_busy_destinations_are_given_up_until_it_suffices() {
        let mut memory = Memory::open(1);
        assert!(memory.resident().unwrap() > 1 << 20, "of this test");
        let mut fold = Fold::new(1_000);
        // As little as this can never suffice; the busiest stay.
        for round in 0..40 {
            for n in 0..100 {
                let address = format!("192.0.2.{n}");
                if n < 20 || round == 0 {
                    fold.add(&connection(&address, None, 0, 1_000));
                    memory.tolerated = 0;
                    memory.added(&mut fold);
                }
            }
            memory.since_look = PERIOD;
        }
        assert!(fold.max_destinations() < 100, "{}", fold.max_destinations());
        let groups = fold.groups(GroupBy::Address);
        assert_eq!(groups.map(|group| group.all.connections).sum::<u64>(), 20 * 40 + 80);
    }

    #[test]
    fn what_is_within_the_budget_stays_apart() {
        let mut memory = Memory::open(u64::MAX);
        let mut fold = Fold::new(100);
        for n in 0..50 {
            fold.add(&connection(&format!("192.0.2.{n}"), None, 0, 1_000));
            memory.since_look = PERIOD;
            memory.added(&mut fold);
        }
        assert_eq!(fold.max_destinations(), 100);
    }
}
