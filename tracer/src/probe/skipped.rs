//! Runs of programs that the kernel skipped.

use std::{
    fs,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use super::preflight;

/// Runs of a hook's programs that the kernel skipped, because the same program was at work on that
/// processor already: an interrupt came, or another thread took its place. Runs for sockets that are not
/// traced count too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Skipped {
    first: u64,
    /// Of the programs that are there for where the first is skipped, if there are any.
    second: Option<u64>,
}

impl Skipped {
    /// Adds those of a program.
    pub(crate) fn count(&mut self, program: BorrowedFd<'_>, is_second: bool) {
        let runs = skipped_runs(program);
        if is_second {
            *self.second.get_or_insert_default() += runs;
        } else {
            self.first += runs;
        }
    }

    /// At most so many events met no program. `preempts`: whether this kernel [preempts](preempts_programs)
    /// them.
    pub(crate) fn events(&self, preempts: bool) -> u64 {
        match self.second {
            None => self.first,
            Some(second) if preempts => second.min(self.first),
            // The one that is skipped is at work below a softirq. So the other is not, and it cannot be
            // skipped in that softirq: what interrupts a softirq does not run TCP.
            Some(_) => 0,
        }
    }
}

/// Whether threads may take the processor from a program on a tracepoint: since Linux 7.0, where tracepoints
/// are guarded by SRCU (`__DECLARE_TRACE` in `include/linux/tracepoint.h`) and no longer by switching
/// preemption off. Also if the `release` says nothing.
pub(crate) fn preempts_programs(release: &str) -> bool {
    preflight::version(release).is_none_or(|version| version >= (7, 0))
}

/// How often the kernel skipped `program`. From `bpf_prog_show_fdinfo` (`recursion_misses`, since Linux 5.12; for raw tracepoints, BTF ones included,
/// since 6.2 and later releases of 6.1, which is when they began to be skipped). 0 where the kernel does not count.
fn skipped_runs(program: BorrowedFd<'_>) -> u64 {
    let file = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    fs::read_to_string(file).ok().and_then(|text| count_in(&text)).unwrap_or(0)
}

fn count_in(text: &str) -> Option<u64> {
    let count = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_programs_lose_what_both_miss() {
        let lost = |first, second, preempts| Skipped { first, second }.events(preempts);
        assert_eq!([lost(3, None, false), lost(3, None, true)], [3, 3], "one program");
        assert_eq!([lost(3, Some(2), true), lost(0, Some(2), true)], [2, 0]);
        assert_eq!(lost(3, Some(2), false), 0, "one below the other");
    }

    #[test]
    fn programs_are_preempted_from_7_0_on() {
        assert!(!preempts_programs("6.19.3-amd64"));
        assert!(preempts_programs("7.0.0-rc1"));
        assert!(preempts_programs("unheard of"));
    }

    #[test]
    fn the_count_is_found() {
        let text =
            "pos:\t0\nprog_type:\t26\nrun_cnt:\t7\nrecursion_misses:\t71\nverified_insns:\t9\n";
        assert_eq!(count_in(text), Some(71));
        assert_eq!(count_in("pos:\t0\nrun_cnt:\t7\n"), None, "an older kernel");
    }
}
