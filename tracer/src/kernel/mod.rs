//! The running kernel side: what it hands over, what it still holds, what it lost and what it cost.

mod losses;

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd, OwnedFd},
};

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, PerCpuArray, RingBuf},
    sys::{Stats, enable_stats},
};
use tracer_analysis::{
    connection::{Connection, Table},
    decoder::{self, Event},
    recording::{HookState, HookStatus},
};
use tracer_common::record::ConnectionState;

use crate::{
    memory::give_memory_back,
    origins::{Absent, LeftOut, Origins},
    privilege,
    probe::{
        self, Attacher, OwnTypes, ReplyBuffers, Settings, Skipped, TlsProbes,
        preflight::kernel_release, tls_probes,
    },
};

/// Records taken from the ring buffer before the connections they end are passed on.
const BATCH: usize = 16_384;

type StateBytes = [u8; size_of::<ConnectionState>()];

/// The kernel side, attached. Dropping it detaches everything.
pub(crate) struct Kernel {
    /// The programs; `None` once detached.
    ebpf: Option<Ebpf>,
    /// The kernel's types, until nobody waits for the start any more.
    types: Option<OwnTypes>,
    hooks: Vec<HookStatus>,
    events: RingBuf<MapData>,
    replies: ReplyBuffers,
    stopped: HashMap<MapData, u64, u8>,
    connections: HashMap<MapData, u64, StateBytes>,
    drops: PerCpuArray<MapData, u64>,
    /// Runs that the kernel skipped, by hook.
    skipped: BTreeMap<String, Skipped>,
    /// Whether this kernel preempts programs on tracepoints.
    preempts_programs: bool,
    undecodable: u64,
    batch: Vec<Event>,
    /// Names of what the records know by number.
    origins: Origins,
    left_out: LeftOut,
    tls: Option<TlsProbes>,
    /// Processes that may use a TLS library that is not known yet.
    suspects: Vec<u32>,
    /// While this is open the kernel measures the time spent in BPF programs.
    _stats: Option<OwnedFd>,
}

impl Kernel {
    /// Loads and attaches. With an `attacher`, TLS libraries are probed as they are found.
    pub(crate) fn start(
        settings: &Settings,
        measure_overhead: bool,
        attacher: Option<Attacher>,
    ) -> Result<Self> {
        let stats = measure_overhead.then(|| enable_stats(Stats::RunTime)).transpose().context(
            "cannot have the kernel measure BPF programs (--measure-overhead), which takes \
                 CAP_SYS_ADMIN",
        )?;
        let origins = Origins::read(&settings.senders)?;
        let (mut ebpf, mut types) = probe::load(settings)?;
        // The buffers come before the hooks, or the first records would find none.
        let replies = if settings.replies {
            ReplyBuffers::open(take(&mut ebpf, "REPLIES")?)?
        } else {
            ReplyBuffers::default()
        };
        let mut hooks = probe::attach(&mut ebpf, types.btf(), settings.tier)?;
        hooks.push(probe::seed::seed(&mut ebpf, types.btf(), settings));
        let mut tls = None;
        if settings.tls_probes {
            let (probes, statuses) =
                TlsProbes::start(&mut ebpf, &settings.tls_libraries, attacher)?;
            tls = probes;
            hooks.extend(statuses);
        }
        types.finish_reading();
        Ok(Self {
            types: Some(types),
            events: RingBuf::try_from(take(&mut ebpf, "EVENTS")?)?,
            replies,
            stopped: HashMap::try_from(take(&mut ebpf, "STOPPED")?)?,
            connections: HashMap::try_from(take(&mut ebpf, "CONNECTIONS")?)?,
            drops: PerCpuArray::try_from(take(&mut ebpf, "DROPS")?)?,
            hooks,
            skipped: BTreeMap::new(),
            preempts_programs: probe::preempts_programs(&kernel_release()),
            undecodable: 0,
            batch: Vec::new(),
            origins,
            left_out: LeftOut::default(),
            tls,
            suspects: Vec::new(),
            _stats: stats,
            ebpf: Some(ebpf),
        })
    }

    /// Lets go of what only the start needed, which takes some time.
    pub(crate) fn forget_start(&mut self) {
        self.types = None;
        give_memory_back(); // some 60 MB that are never wanted again
    }

    /// Whether its maps can be read by a thread without capabilities.
    pub(crate) fn is_readable_without_capabilities(&self) -> bool {
        let drops = &self.drops;
        privilege::works_with(&[], || drops.get(&0, 0).is_ok())
    }

    /// How each hook is attached.
    pub(crate) fn hooks(&self) -> &[HookStatus] {
        &self.hooks
    }

    /// A descriptor that becomes readable when the ring buffer fills before its time.
    pub(crate) fn wake_up(&self) -> Result<OwnedFd> {
        self.events.as_fd().try_clone_to_owned().context("cannot poll the ring buffer")
    }

    /// Takes everything that waits and passes on each connection that ended. Returns the number of
    /// records taken.
    ///
    /// A reply is written before the record of its connection's end. So the ends are taken first, then
    /// the replies, and only then are the ends put together with the replies.
    pub(crate) fn drain(&mut self, table: &mut Table, mut ended: impl FnMut(Connection)) -> usize {
        let mut taken = 0;
        loop {
            let events = self.take_events();
            taken += events + self.take_replies(table);
            for event in self.batch.drain(..) {
                if let (Some(pid), true) = (tls_suspect(&event), self.tls.is_some()) {
                    self.suspects.push(pid);
                }
                if let Event::Opened(opened) = &event {
                    self.origins.opened(opened.cgroup, opened.pid);
                }
                if let Some(mut connection) = table.event(&event)
                    && self.left_out.passes(self.origins.name(&mut connection))
                {
                    ended(connection);
                }
            }
            if table.is_full() {
                table.keep_only(&self.live());
            }
            if events < BATCH {
                return taken;
            }
        }
    }

    /// Has TLS libraries looked for in the processes that have opened or taken over a connection since the
    /// last call. Returns the status of each library that was probed since then.
    pub(crate) fn find_tls_libraries(&mut self) -> Vec<HookStatus> {
        let Some(tls) = &mut self.tls else { return Vec::new() };
        self.suspects.sort_unstable();
        self.suspects.dedup();
        for pid in self.suspects.drain(..) {
            tls.look_at(pid);
        }
        let found = tls.found();
        let attached = found.iter().any(|library| library.state == HookState::Attached);
        let hook = self.hooks.iter_mut().find(|hook| hook.hook == tls_probes::HOOK);
        if let (Some(hook), true) = (hook, attached) {
            (hook.state, hook.reason) = (HookState::Attached, None);
        }
        self.hooks.extend_from_slice(&found);
        found
    }

    fn take_events(&mut self) -> usize {
        let mut taken = 0;
        while taken < BATCH {
            let Some(bytes) = self.events.next() else { break };
            taken += 1;
            match decoder::event(&bytes) {
                Ok(event) => self.batch.push(event),
                Err(_) => self.undecodable += 1,
            }
        }
        taken
    }

    fn take_replies(&mut self, table: &mut Table) -> usize {
        let mut waiting = Vec::new();
        self.replies.for_each(|record| match decoder::reply(record) {
            Ok((meta, payload)) => waiting.push((meta, payload.to_vec())),
            Err(_) => self.undecodable += 1,
        });
        // A connection may have gone from one CPU to another and back.
        waiting.sort_by_key(|(meta, _)| meta.time_ns);
        for (meta, payload) in &waiting {
            if table.reply(meta, payload) {
                // An LRU map: an insert cannot find it full.
                let _ = self.stopped.insert(meta.id, 1, 0);
            }
        }
        waiting.len()
    }

    /// Ids of the connections that the kernel side holds.
    fn live(&self) -> HashSet<u64> {
        self.held().map(|state| state.id).collect()
    }

    /// Connections that the kernel side holds, at most `limit`, and whether these are all. Costs two system
    /// calls for each.
    pub(crate) fn held_at_most(&mut self, limit: usize) -> (Vec<ConnectionState>, bool) {
        let mut held: Vec<_> = self.held().take(limit + 1).collect();
        let all = held.len() <= limit;
        held.truncate(limit);
        held.retain(|state| self.origins.selects(state) == Some(true));
        // Where entries come and go meanwhile, one may be met twice.
        held.sort_unstable_by_key(|state| state.id);
        held.dedup_by_key(|state| state.id);
        (held, all)
    }

    fn held(&self) -> impl Iterator<Item = ConnectionState> {
        held(&self.connections)
    }

    /// Detaches every hook. Run times are kept in the hooks' status, and how many runs were skipped.
    pub(crate) fn detach(&mut self) {
        self.measure();
        self.ebpf = None;
        self.tls = None;
    }

    /// Server address of each connection that is open or being opened.
    pub(crate) fn open(&mut self) -> impl Iterator<Item = IpAddr> {
        let Self { connections, origins, .. } = self;
        let open = held(connections)
            .filter(|state| state.closed_ns == 0 && origins.selects(state) == Some(true));
        open.map(|state| IpAddr::from(Ipv6Addr::from(state.dst)).to_canonical())
    }

    /// The connections that are still held: open ones, and dead ones that their application has not
    /// closed. Call it after `detach` and `drain`.
    pub(crate) fn remaining(&mut self, table: &mut Table, now_ns: u64) -> Vec<Connection> {
        let mut open: Vec<_> = self.held().map(|state| table.close(&state, now_ns)).collect();
        open.retain_mut(|connection| self.left_out.passes(self.origins.name(connection)));
        open
    }

    /// The senders that are wanted, and of which there is no cgroup now.
    pub(crate) fn absent_senders(&self) -> Vec<Absent> {
        self.origins.absent()
    }

    /// Connections that were not handed over, because of their senders.
    pub(crate) fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// Records that could not be decoded.
    pub(crate) fn undecodable(&self) -> u64 {
        self.undecodable
    }
}

/// The connections in the map of the kernel side.
fn held(connections: &HashMap<MapData, u64, StateBytes>) -> impl Iterator<Item = ConnectionState> {
    connections.iter().filter_map(|entry| {
        let (_, bytes) = entry.ok()?;
        let state: ConnectionState = bytemuck::pod_read_unaligned(&bytes);
        decoder::check_state(&state).is_ok().then_some(state)
    })
}

/// The process that `event` shows with a connection in its hands.
fn tls_suspect(event: &Event) -> Option<u32> {
    match event {
        Event::Opened(opened) => Some(opened.pid),
        Event::Owner(change) => Some(change.pid),
        _ => None,
    }
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the BPF object has no map {name}"))
}
