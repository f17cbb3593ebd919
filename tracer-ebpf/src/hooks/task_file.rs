//! Iterator `task_file`: every open file of every process, for connections open before the start.
//!
//! Runs in our own process, which reads it, once per file; in all network namespaces; since Linux 5.8, with
//! `bpf_sock_from_file` since 5.11. The kernel holds the file meanwhile: the socket cannot be closed, so it
//! cannot be destroyed before its entry is made. A socket that several processes hold is met several times; the
//! first that passes the filters becomes its owner, in the order of process ids. The connection of an MPTCP socket is that
//! of its first subflow, which has no file: the iterator `tcp` finds it, and here it is only said that there is one.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_sock_from_file};
use tracer_common::{config::Offsets, record::Holder};

use crate::{
    config::offset,
    load::{Load, Probed, Typed},
    seed,
    sock::Sock,
};

/// `struct bpf_iter__task_file`, each member in eight bytes.
#[repr(C)]
struct Context {
    meta: *const c_void,
    task: *const c_void,
    fd: u64,
    file: *const c_void,
}

/// Called once more at the end, without task and file.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn task_file(context: *const Context) -> i32 {
    // SAFETY: the kernel passes such a context.
    let (task, file) = unsafe { ((*context).task, (*context).file) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    // SAFETY: `file` is a file that the kernel holds.
    let socket = unsafe { bpf_sock_from_file(file.cast_mut().cast()) };
    let Some(offset) = offset(|o| &o.socket_sk) else { return 0 };
    if socket.is_null() {
        return 0;
    }
    // SAFETY: `socket` is the `struct socket` of that file.
    let sk: *const c_void = unsafe { Typed::load(socket.cast_const().cast(), offset) };
    if sk.is_null() {
        return 0;
    }
    let sk = Sock::<Typed>::new(sk);
    if !seed::is_wanted(sk) {
        return 0;
    }
    if let Some(tcp) = sk.tcp() {
        seed::observe();
        seed::seed(sk, tcp, &holder(task));
    } else if sk.is_mptcp() {
        // SAFETY: the kernel passes such a context.
        seed::tell(unsafe { (*context).meta }, 1);
    }
    0
}

/// The process of `task`.
#[inline(always)]
fn holder(task: *const c_void) -> Holder {
    let mut holder = Holder { cgroup: 0, pid: 0, uid: 0, comm: [0; 16] };
    holder.pid = read(task, |o| &o.task_tgid);
    holder.uid = read(pointer(task, |o| &o.task_cred), |o| &o.cred_uid);
    let cgroup = pointer(pointer(task, |o| &o.task_cgroups), |o| &o.css_set_dfl_cgrp);
    holder.cgroup = read(pointer(cgroup, |o| &o.cgroup_kn), |o| &o.kernfs_node_id);
    let leader = pointer(task, |o| &o.task_group_leader);
    if let Some(offset) = offset(|o| &o.task_comm) {
        // SAFETY: 16 bytes on this stack; the helper reads the source safely.
        unsafe {
            bpf_probe_read_kernel(
                holder.comm.as_mut_ptr().cast(),
                16,
                leader.byte_add(offset as usize),
            );
        }
    }
    // Behind the end may stand what is left of a longer name.
    let mut ended = false;
    for byte in &mut holder.comm {
        ended |= *byte == 0;
        if ended {
            *byte = 0;
        }
    }
    holder
}

#[inline(always)]
fn pointer(base: *const c_void, field: fn(&Offsets) -> &u32) -> *const c_void {
    read::<usize>(base, field) as *const c_void
}

/// Reads a field of what hangs on the task; zero if there is none.
#[inline(always)]
fn read<T: Copy + Default>(base: *const c_void, field: fn(&Offsets) -> &u32) -> T {
    match offset(field) {
        // SAFETY: the helper reads safely, and callers pick fields of what `base` points to.
        Some(offset) if !base.is_null() => unsafe { Probed::load(base, offset) },
        _ => T::default(),
    }
}
