//! Loads the BPF object: configuration, offsets and map sizes go in before the programs.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    path::PathBuf,
};

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{
        HashMap, MapData,
        lpm_trie::{Key, LpmTrie},
    },
};
use ipnet::IpNet;
use tracer_analysis::selection::Selection;
use tracer_common::{
    config::{Config, PortBitmap, Selected, setting},
    record::Holder,
};

use super::{
    Tier, preflight,
    seed::SeedBy,
    types::{KernelTypes, OwnTypes},
};
use crate::clock;

/// Bytes in the ring buffer at which user space is woken before its time.
const WAKE_BYTES: u32 = 128 << 10;

/// Threads that may be in a call of a TLS library at the same time, with TLS probes.
const TLS_CALLS: u32 = 16_384;

/// The object that `build.rs` built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracer-ebpf.o"));

/// What the kernel side is to trace. The default has no port and no room: it traces nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// Hooks that may be used.
    pub(crate) tier: Tier,
    /// BTF of this kernel in a file, for one that does not show its own.
    pub(crate) btf: Option<PathBuf>,
    /// Destination ports.
    pub(crate) ports: Vec<u16>,
    /// Destination networks; empty for all.
    pub(crate) networks: Vec<IpNet>,
    /// Process ids; empty for all.
    pub(crate) pids: Vec<u32>,
    /// User ids; empty for all.
    pub(crate) uids: Vec<u32>,
    /// Command names; empty for all.
    pub(crate) comms: Vec<String>,
    /// Network namespaces; empty for all.
    pub(crate) netns: Vec<u32>,
    /// Cgroups; empty for all.
    pub(crate) cgroups: Vec<u64>,
    /// Units and containers; the kernel side cannot tell them, so user space leaves out the others.
    pub(crate) senders: Selection,
    /// Whether loopback destinations are traced.
    pub(crate) include_loopback: bool,
    /// Whether server replies are read.
    pub(crate) replies: bool,
    /// Whether TLS libraries are probed.
    pub(crate) tls_probes: bool,
    /// TLS libraries to probe from the start.
    pub(crate) tls_libraries: Vec<PathBuf>,
    /// How to find connections that are open already; `None` for the best that works.
    pub(crate) seed_by: Option<SeedBy>,
    /// Size of the ring buffer in bytes.
    pub(crate) ring_size: u32,
    /// Most connections at the same time.
    pub(crate) max_connections: u32,
}

impl Settings {
    fn config(&self) -> Config {
        let bits = [
            (self.include_loopback, setting::INCLUDE_LOOPBACK),
            (self.replies, setting::REPLIES),
            (self.tls_probes, setting::TLS_PROBES),
            (!self.networks.is_empty(), setting::FILTER_DESTINATION),
            (!self.pids.is_empty(), setting::FILTER_PID),
            (!self.uids.is_empty(), setting::FILTER_UID),
            (!self.comms.is_empty(), setting::FILTER_COMM),
            (!self.netns.is_empty(), setting::FILTER_NETNS),
            (!self.cgroups.is_empty(), setting::FILTER_CGROUP),
        ];
        let settings = bits.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit);
        Config {
            settings,
            wake_bytes: WAKE_BYTES.min(self.ring_size / 2),
            ticks_per_second: clock::ticks_per_second().unwrap_or(0),
            max_connections: self.max_connections,
            // The standard library takes its keys from the random numbers of the system.
            quota_salt: (RandomState::new().hash_one(0) >> 32) as u32 | 1,
        }
    }

    /// Whether the filters on processes let through the connections of `holder`.
    pub(super) fn let_through(&self, holder: &Holder) -> bool {
        fn lets<T: PartialEq>(filter: &[T], value: &T) -> bool {
            filter.is_empty() || filter.contains(value)
        }
        lets(&self.pids, &holder.pid)
            && lets(&self.uids, &holder.uid)
            && lets(&self.cgroups, &holder.cgroup)
            && (self.comms.is_empty()
                || self.comms.iter().any(|comm| command_name(comm) == holder.comm))
    }

    fn port_bitmap(&self) -> PortBitmap {
        let mut bitmap = [0; 1024];
        for port in &self.ports {
            bitmap[usize::from(port >> 6)] |= 1 << (port & 63);
        }
        bitmap
    }

    /// Entries of the map `SELECTED`.
    fn selected(&self) -> impl Iterator<Item = Selected> {
        let of = |filter| move |value| Selected { filter, padding: 0, value };
        self.pids
            .iter()
            .map(|pid| u64::from(*pid))
            .map(of(setting::FILTER_PID))
            .chain(self.uids.iter().map(|uid| u64::from(*uid)).map(of(setting::FILTER_UID)))
            .chain(self.netns.iter().map(|netns| u64::from(*netns)).map(of(setting::FILTER_NETNS)))
            .chain(self.cgroups.iter().copied().map(of(setting::FILTER_CGROUP)))
    }
}

/// Loads the object into the kernel; no program is loaded yet. With it comes the kernel's own BTF, if it
/// shows it.
pub(crate) fn load(settings: &Settings) -> Result<(Ebpf, OwnTypes)> {
    let KernelTypes { offsets, own, mut loader } = KernelTypes::read(settings.btf.as_deref())?;
    let config = settings.config();
    let ports = settings.port_bitmap();
    if settings.tls_probes {
        loader
            .map_max_entries("TLS_CALLS", TLS_CALLS)
            .map_max_entries("TLS_SESSIONS", settings.max_connections.max(TLS_CALLS));
    }
    let mut ebpf = loader
        .btf(own.btf())
        .override_global("OFFSETS", bytemuck::bytes_of(&offsets), true)
        .override_global("CONFIG", bytemuck::bytes_of(&config), true)
        .override_global("PORTS", &ports[..], true)
        .map_max_entries("EVENTS", settings.ring_size)
        .map_max_entries("CONNECTIONS", settings.max_connections)
        .load(OBJECT)
        .with_context(|| {
            let limit = preflight::locked_memory().map_or_else(String::new, |limit| limit + ". ");
            format!(
                "cannot create the BPF maps; is there memory for them? {limit}(--max-connections and \
                 --ring-size set their size)"
            )
        })?;
    fill_filters(&mut ebpf, settings).context("cannot fill the filters")?;
    Ok((ebpf, own))
}

fn fill_filters(ebpf: &mut Ebpf, settings: &Settings) -> Result<()> {
    // `Selected` and byte arrays go in as plain byte arrays, which aya knows to be plain data.
    let mut selected: HashMap<&mut MapData, [u8; size_of::<Selected>()], u8> =
        HashMap::try_from(ebpf.map_mut("SELECTED").context("no map SELECTED")?)?;
    for key in settings.selected() {
        selected
            .insert(bytemuck::cast::<Selected, [u8; size_of::<Selected>()]>(key), 1, 0)
            .context("too many processes, users, namespaces and cgroups are selected (1024 fit)")?;
    }
    let mut commands: HashMap<&mut MapData, [u8; 16], u8> =
        HashMap::try_from(ebpf.map_mut("COMMANDS").context("no map COMMANDS")?)?;
    for comm in &settings.comms {
        commands
            .insert(command_name(comm), 1, 0)
            .context("too many command names are selected (256 fit)")?;
    }
    let mut networks: LpmTrie<&mut MapData, [u8; 16], u8> =
        LpmTrie::try_from(ebpf.map_mut("DESTINATIONS").context("no map DESTINATIONS")?)?;
    for network in &settings.networks {
        let (prefix, address) = mapped(network);
        networks
            .insert(&Key::new(prefix, address), 1, 0)
            .context("too many destinations are selected (1024 fit)")?;
    }
    Ok(())
}

/// A command name as the kernel keeps it: at most 15 bytes, padded with zeros.
pub(super) fn command_name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().take(15).zip(text.bytes()) {
        *to = from;
    }
    name
}

/// Prefix length and address, IPv4 as `::ffff:a.b.c.d`.
fn mapped(network: &IpNet) -> (u32, [u8; 16]) {
    let prefix = u32::from(network.prefix_len());
    match network.network() {
        IpAddr::V4(address) => (prefix + 96, address.to_ipv6_mapped().octets()),
        IpAddr::V6(address) => (prefix, address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::config::has_port;

    use super::*;

    fn settings() -> Settings {
        Settings {
            ports: vec![25, 65_535],
            pids: vec![7],
            cgroups: vec![7],
            replies: true,
            ring_size: 4096,
            max_connections: 10,
            ..Settings::default()
        }
    }

    #[test]
    fn bitmap_has_the_ports_and_no_other() {
        let bitmap = settings().port_bitmap();
        let ports: Vec<u16> =
            (0..=u16::MAX).filter(|port| has_port(bitmap[usize::from(port >> 6)], *port)).collect();
        assert_eq!(ports, [25, 65_535]);
    }

    #[test]
    fn only_filters_in_use_are_on() {
        let config = settings().config();
        assert_eq!(
            config.settings,
            setting::REPLIES | setting::FILTER_PID | setting::FILTER_CGROUP
        );
        assert_eq!(config.wake_bytes, 2048);
        let keys: Vec<Selected> = settings().selected().collect();
        assert_ne!(keys[0], keys[1], "a process and a cgroup of one number are apart");
    }

    #[test]
    fn ipv4_networks_are_mapped() {
        let (prefix, address) = mapped(&"192.0.2.0/24".parse().unwrap());
        assert_eq!(prefix, 120);
        assert_eq!(address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 0]);
    }
}
