//! What the kernel side could not hand over, and what it cost.

use std::{collections::BTreeMap, os::fd::AsFd as _, time::Duration};

use anyhow::{Context as _, Result};
use tracer_common::counters::{self, hook, reason};

use super::Kernel;
use crate::probe::{self, hook_of, is_second, tls_probes};

/// Hooks without which a connection has no record.
const LIFE: [&str; 2] = ["inet_sock_set_state", "tcp_destroy_sock"];

/// What the kernel side could not hand over.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Losses {
    /// Records of any kind.
    pub(crate) events: u64,
    /// Times the map of connections was full.
    pub(crate) map_full: u64,
    /// Connections refused to users who held much of the map while little of it was free.
    pub(crate) over_quota: u64,
    /// Connections without a record; `None` if that cannot be known.
    pub(crate) connections: Option<u64>,
}

impl Kernel {
    /// Notes how often the programs ran and for how long, if the kernel measures that, and how many runs it
    /// skipped.
    pub(crate) fn measure(&mut self) {
        let Some(ebpf) = &self.ebpf else { return };
        let mut measured: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        self.skipped.clear();
        for (name, program) in ebpf.programs() {
            let symbol = match name {
                name if tls_probes::PROGRAMS.contains(&name) => tls_probes::HOOK,
                probe::seed::NEXT | probe::seed::MPTCP => probe::seed::HOOK,
                name => hook_of(name),
            };
            if let Ok(loaded) = program.fd() {
                let skipped = self.skipped.entry(symbol.to_owned()).or_default();
                skipped.count(loaded.as_fd(), is_second(name));
            }
            let info = program.info().ok().filter(|info| info.run_count() > 0);
            if let Some(info) = info {
                let (runs, nanos) = measured.entry(symbol).or_default();
                *runs += info.run_count();
                *nanos += u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX);
            }
        }
        for hook in &mut self.hooks {
            if let Some(&(runs, nanos)) = measured.get(hook.hook.as_str()) {
                (hook.run_count, hook.run_time_ns) = (Some(runs), Some(nanos));
            }
        }
    }

    /// Counts what the kernel side could not hand over; of runs that were skipped those that were last
    /// [measured](Self::measure).
    pub(crate) fn losses(&mut self) -> Result<Losses> {
        let mut losses = Losses::default();
        for hook in &mut self.hooks {
            hook.events_lost =
                self.skipped.get(&hook.hook).map_or(0, |it| it.events(self.preempts_programs));
            losses.events += hook.events_lost;
        }
        let mut connections = 0;
        let rows = [
            (hook::INET_SOCK_SET_STATE, "inet_sock_set_state"),
            (hook::TCP_DESTROY_SOCK, "tcp_destroy_sock"),
            (hook::TCP_PROBE, "tcp_probe"),
            (hook::TCP_SENDMSG_LOCKED, "tcp_sendmsg_locked"),
            (hook::TCP_RCV_SPACE_ADJUST, "tcp_rcv_space_adjust"),
            (hook::TCP_RETRANSMIT_SKB, "tcp_retransmit_skb"),
            (hook::SKB_COPY_DATAGRAM_IOVEC, "skb_copy_datagram_iovec"),
            (hook::TLS_PROBES, tls_probes::HOOK),
            (hook::TASK_FILE, probe::seed::HOOK),
        ];
        for (row, name) in rows {
            let count = |reason| self.drop_count(counters::index(row, reason));
            let full = count(reason::CONNECTIONS_FULL)?;
            let closed = count(reason::CLOSED_RING_FULL)?;
            let over_quota = count(reason::OVER_QUOTA)?;
            let own = [reason::CONNECTIONS_FULL, reason::OVER_QUOTA];
            let reasons = (0..reason::COUNT).filter(|it| !own.contains(it));
            let events = reasons.map(count).sum::<Result<u64>>()?;
            connections += full + over_quota + closed;
            losses.over_quota += over_quota;
            losses.events += events;
            losses.map_full += full;
            if let Some(hook) = self.hooks.iter_mut().find(|it| it.hook == name) {
                hook.events_lost += events;
                hook.map_full = full;
            }
        }
        // It may have been where a connection opened or ended, or one that is not traced.
        let skips = |hook: &&str| {
            self.skipped.get(*hook).is_some_and(|it| it.events(self.preempts_programs) > 0)
        };
        let skips_life = LIFE.iter().any(skips);
        losses.connections = (!skips_life).then_some(connections);
        Ok(losses)
    }

    fn drop_count(&self, index: u32) -> Result<u64> {
        let values = self.drops.get(&index, 0).context("cannot read the map DROPS")?;
        Ok(values.iter().sum())
    }

    /// Time spent in the BPF programs, if the kernel measured it.
    pub(crate) fn run_time(&self) -> Option<Duration> {
        let measured: Vec<u64> = self.hooks.iter().filter_map(|hook| hook.run_time_ns).collect();
        (!measured.is_empty()).then(|| Duration::from_nanos(measured.iter().sum()))
    }
}
