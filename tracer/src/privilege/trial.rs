//! What the kernel at hand grants to whom, found out by trying: it differs between versions and distributions.

use std::{io, os::fd::OwnedFd, thread};

use caps::{CapSet, Capability};

use crate::probe::uprobe;

/// Whether `attempt` works for a thread with no other capabilities than these. It is made on a thread of its
/// own, which gives up the others; the process keeps its own.
pub(crate) fn works_with(
    capabilities: &[Capability],
    attempt: impl FnOnce() -> bool + Send,
) -> bool {
    let capabilities = capabilities.iter().copied().collect();
    thread::scope(|scope| {
        let attempt = || caps::set(None, CapSet::Effective, &capabilities).is_ok() && attempt();
        let thread = thread::Builder::new().spawn_scoped(scope, attempt);
        thread.is_ok_and(|thread| thread.join().unwrap_or(false))
    })
}

/// Whether `CAP_PERFMON` is enough for uprobes. It was from Linux 5.8 on; since 6.16 they take `CAP_SYS_ADMIN`
/// again (commit ba677dbe77af), also in stable releases of older kernels from July 2025 on.
pub(super) fn perfmon_is_enough_for_uprobes() -> bool {
    works_with(&[Capability::CAP_PERFMON], || open_uprobe().is_ok())
}

/// Makes a uprobe that is never switched on.
fn open_uprobe() -> io::Result<OwnedFd> {
    uprobe::open(c"/proc/self/exe", 0, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attempt_is_made_with_these_capabilities_only() {
        let none = || caps::read(None, CapSet::Effective).is_ok_and(|all| all.is_empty());
        assert!(works_with(&[], none));
        assert!(!works_with(&[], || false));
    }

    #[test]
    fn a_uprobe_takes_a_privilege() {
        assert!(!works_with(&[], || open_uprobe().is_ok()));
        let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap();
        // Where uprobes are not compiled in, there is no such device.
        let exists = std::fs::exists("/sys/bus/event_source/devices/uprobe/type").unwrap();
        assert_eq!(open_uprobe().is_ok(), may && exists, "{:?}", open_uprobe());
    }
}
