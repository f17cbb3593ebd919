//! Which connections are traced. The port is tested on every hook, the rest once, at the SYN.

use aya_ebpf::maps::lpm_trie::Key;
use tracer_common::{
    config::{Selected, setting},
    record::ConnectionState,
};

use crate::{config::is_set, maps};

/// Whether the new connection in `state` passes every filter that is on.
#[inline(always)]
pub(crate) fn passes(state: &ConnectionState) -> bool {
    (is_set(setting::INCLUDE_LOOPBACK) || !is_loopback(&state.dst))
        && selected(setting::FILTER_PID, u64::from(state.pid))
        && selected(setting::FILTER_UID, u64::from(state.uid))
        && selected(setting::FILTER_NETNS, u64::from(state.netns))
        && selected(setting::FILTER_CGROUP, state.cgroup)
        && (!is_set(setting::FILTER_COMM) || maps::COMMANDS.get_ptr(state.batch.comm).is_some())
        && (!is_set(setting::FILTER_DESTINATION)
            || maps::DESTINATIONS.get(Key::new(128, state.dst)).is_some())
}

#[inline(always)]
fn selected(filter: u32, value: u64) -> bool {
    !is_set(filter) || maps::SELECTED.get_ptr(Selected { filter, padding: 0, value }).is_some()
}

#[inline(always)]
fn is_loopback(address: &[u8; 16]) -> bool {
    const MAPPED_127: u128 = 0xffff_7f00_0000;
    let address = u128::from_be_bytes(*address);
    address == 1 || address & !0xff_ffff == MAPPED_127
}
