//! What the kernel at hand grants to whom, found out by trying: it differs between versions and distributions.

use std::{fs, io, os::fd::FromRawFd as _, os::fd::OwnedFd, thread};

use caps::{CapSet, Capability};
use nix::libc;

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
    /// `PERF_ATTR_SIZE_VER1`.
    const SIZE: u64 = 72;
    const DISABLED: u64 = 1;
    const ANY_PROCESS: i32 = -1;
    const CPU: i32 = 0;
    const NO_GROUP: i32 = -1;
    /// `PERF_FLAG_FD_CLOEXEC`.
    const CLOSE_ON_EXEC: u64 = 8;
    let kind = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")?;
    let kind: u32 = kind.trim().parse().map_err(io::Error::other)?;
    let file = c"/proc/self/exe";
    // type and size; config; sample_period; sample_type; read_format; flags; wakeup_events and bp_type;
    // config1, the file; config2, the offset in it.
    let first = if cfg!(target_endian = "little") {
        u64::from(kind) | SIZE << 32
    } else {
        u64::from(kind) << 32 | SIZE
    };
    let attributes = [first, 0, 0, 0, 0, DISABLED, 0, file.as_ptr().addr() as u64, 0];
    // SAFETY: the attributes are SIZE bytes as the kernel lays them out, and they and the name of the file
    // live until the call returns.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            ANY_PROCESS,
            CPU,
            NO_GROUP,
            CLOSE_ON_EXEC,
        )
    };
    match i32::try_from(descriptor) {
        // SAFETY: the kernel has just put it into our table, and nobody else knows its number.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
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
        let exists = fs::exists("/sys/bus/event_source/devices/uprobe/type").unwrap();
        assert_eq!(open_uprobe().is_ok(), may && exists, "{:?}", open_uprobe());
    }
}
