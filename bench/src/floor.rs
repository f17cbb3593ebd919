//! The floor: empty programs on the same hooks.

use std::path::Path;

use anyhow::{Context as _, Result};
use aya::{Btf, Ebpf, programs::BtfTracePoint};

/// Hooks that `tracer-ebpf/src/floor.rs` has.
const HOOKS: [&str; 6] = [
    "inet_sock_set_state",
    "skb_copy_datagram_iovec",
    "tcp_destroy_sock",
    "tcp_probe",
    "tcp_rcv_space_adjust",
    "tcp_sendmsg_locked",
];

/// Attaches an empty program to each hook that this kernel has. They are detached with the value.
pub(crate) fn attach(object: &Path) -> Result<Ebpf> {
    let btf = Btf::from_sys_fs().context("read the kernel's types")?;
    let mut ebpf = Ebpf::load_file(object)
        .with_context(|| format!("load {}: is it built?", object.display()))?;
    for hook in HOOKS {
        let program: &mut BtfTracePoint =
            ebpf.program_mut(hook).with_context(|| format!("no program {hook}"))?.try_into()?;
        if program.load(hook, &btf).is_ok() {
            program.attach().with_context(|| format!("attach to {hook}"))?;
        }
    }
    Ok(ebpf)
}
