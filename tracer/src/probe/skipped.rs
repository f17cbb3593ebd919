//! Runs of programs that the kernel skipped.

use std::{
    fs,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// How often the kernel skipped `program`, because it was at work on that processor already: an interrupt
/// came, or another thread took its place. Runs for sockets that are not traced count too.
///
/// From `bpf_prog_show_fdinfo` (`recursion_misses`, since Linux 5.12; for raw tracepoints, BTF ones included,
/// since 6.2, which is when they began to be skipped). 0 where the kernel does not count.
pub(crate) fn skipped_runs(program: BorrowedFd<'_>) -> u64 {
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
    fn the_count_is_found() {
        let text =
            "pos:\t0\nprog_type:\t26\nrun_cnt:\t7\nrecursion_misses:\t71\nverified_insns:\t9\n";
        assert_eq!(count_in(text), Some(71));
        assert_eq!(count_in("pos:\t0\nrun_cnt:\t7\n"), None, "an older kernel");
    }
}
