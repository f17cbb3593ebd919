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
    /// Bytes above which destinations are given up. More than the limit where the C library keeps what was freed;
    /// see [`Self::tolerate`].
    tolerated: u64,
    since_look: u32,
    /// Destinations that stay apart, as it was last said.
    said: Option<usize>,
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
            said: None,
        }
    }

    /// Sets the budget to `limit` bytes.
    pub(crate) fn limit_to(&mut self, limit: u64) {
        (self.limit, self.tolerated) = (limit, limit);
    }

    /// Call it for each connection that was added to `fold`: has it keep fewer destinations apart if this process takes
    /// more than its budget, and all again when it takes less than half of it.
    pub(crate) fn added(&mut self, fold: &mut Fold) {
        self.since_look += 1;
        if self.since_look < PERIOD {
            return;
        }
        self.since_look = 0;
        let Some(used) = self.resident() else { return };
        if used > self.tolerated {
            let kept = fold.keep_fewer();
            give_memory_back();
            let left = self.resident().unwrap_or(used);
            self.tolerated = self.tolerate(left);
            if self.is_news(kept) {
                let told = format!(
                    "{} of memory are in use, and --memory leaves {} for this: only the busiest {} destinations stay \
                     apart, the others are ~other; raise --memory if the machine has more",
                    bytes(Some(used)),
                    bytes(Some(self.limit)),
                    grouped(kept as u64)
                );
                say(Level::Warning, &told);
            }
            return;
        }
        self.tolerated = self.tolerated.min(self.tolerate(used));
        if used < self.limit / 2 {
            let kept = fold.keep_all();
            if self.said.is_some() && self.is_news(kept) {
                let told = format!(
                    "{} of memory are in use, less than half of what --memory leaves for this: up to {} destinations \
                     stay apart again",
                    bytes(Some(used)),
                    grouped(kept as u64)
                );
                say(Level::Info, &told);
            }
        }
    }

    /// Bytes above which destinations are given up when `used` are in use: what was freed is used again, also where the
    /// C library gives nothing back. So more than this is too much, and more than a quarter above the limit always is.
    fn tolerate(&self, used: u64) -> u64 {
        let most = self.limit.saturating_add(self.limit / 4);
        used.saturating_add(self.limit / 16).clamp(self.limit, most)
    }

    /// Whether that `kept` destinations stay apart is to be said: for the first time, or when half or twice as many did
    /// the last time.
    fn is_news(&mut self, kept: usize) -> bool {
        let is_near = |said| kept == said || kept > said / 2 && kept / 2 < said;
        let is_news = !self.said.is_some_and(is_near);
        if is_news {
            self.said = Some(kept);
        }
        is_news
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
        // When there is room again, all may come back.
        memory.limit_to(u64::MAX);
        memory.since_look = PERIOD;
        memory.added(&mut fold);
        assert_eq!(fold.max_destinations(), 1_000);
    }

    #[test]
    fn what_is_tolerated_has_a_bound_and_comes_down() {
        let mut memory = Memory::open(1 << 20);
        assert_eq!(memory.tolerate(0), 1 << 20);
        assert_eq!(memory.tolerate(1 << 20), (1 << 20) + (1 << 16));
        assert_eq!(memory.tolerate(u64::MAX), (1 << 20) + (1 << 18));
        memory.limit = u64::MAX / 2;
        memory.tolerated = u64::MAX;
        memory.since_look = PERIOD;
        memory.added(&mut Fold::new(1));
        assert_eq!(memory.tolerated, memory.limit);
    }

    #[test]
    fn the_number_of_destinations_is_said_again_when_it_changes_much() {
        let mut memory = Memory::open(1);
        let said = [7_500, 5_625, 4_218, 3_750, 2_812, 1_875, 1_406, 10_000, 7_500, 16, 16, 0, 0];
        let news: Vec<usize> = said.into_iter().filter(|kept| memory.is_news(*kept)).collect();
        assert_eq!(news, [7_500, 3_750, 1_875, 10_000, 16, 0]);
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
