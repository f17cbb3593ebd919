//! Which process uses a connection.

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    generated::{bpf_get_current_cgroup_id, bpf_get_current_task},
};
use tracer_common::record::{ConnectionState, Holder, OwnerChange, kind};

use crate::{
    connection::now_ns,
    emit,
    load::{Probed, load_field},
    maps,
};

#[inline(always)]
pub(crate) fn current_process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The current process, as the one that holds a connection.
#[inline(always)]
pub(crate) fn current_holder() -> Holder {
    Holder {
        // SAFETY: the helper has no preconditions.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        pid: current_process(),
        uid: (bpf_get_current_uid_gid() & 0xffff_ffff) as u32,
        comm: bpf_get_current_comm().unwrap_or_default(),
    }
}

/// Whether `pid` is the process that looks for open connections. While it looks at a file it holds it, so
/// that a close may be carried out in its name.
#[inline(always)]
fn is_observer(pid: u32) -> bool {
    maps::OBSERVER.get(0).is_some_and(|observer| *observer == pid)
}

/// Whether the current task is one of the kernel: it works for a process that is not known here.
#[inline(always)]
pub(crate) fn is_kernel_thread() -> bool {
    /// `include/linux/sched.h`
    const PF_KTHREAD: u32 = 0x0020_0000;
    // SAFETY: the helper has no preconditions; the current task is there while the program runs.
    let flags: u32 =
        unsafe { load_field::<Probed, _>(bpf_get_current_task() as *const _, |o| &o.task_flags) };
    flags & PF_KTHREAD != 0
}

/// Notes the current process as the one that uses the connection. Only for hooks that run in process
/// context.
#[inline(always)]
pub(crate) fn used_by_current(state: &mut ConnectionState, hook: u32) {
    let pid = current_process();
    if pid == state.owner || pid == 0 || is_observer(pid) || is_kernel_thread() {
        return;
    }
    state.owner = pid;
    let change = OwnerChange {
        kind: kind::OWNER,
        pid,
        id: state.id,
        time_ns: now_ns(),
        comm: bpf_get_current_comm().unwrap_or_default(),
    };
    emit::owner(&change, hook);
}
