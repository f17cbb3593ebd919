//! Where processes run, by names: the path of the cgroup and what it tells, the name of the network namespace.
//!
//! The kernel side knows numbers only. Their names are looked up when the first connection of a cgroup is
//! opened, because short-lived containers are gone when its record comes. Needs no privilege: what is read is
//! open to everybody.

mod absent;
mod cgroups;
mod left_out;
mod namespaces;

use anyhow::{Result, bail};
use tracer_analysis::{connection::Connection, origin::origin, selection::Selection};
use tracer_common::record::ConnectionState;

pub(crate) use absent::Absent;
use cgroups::Cgroups;
pub(crate) use left_out::LeftOut;
use namespaces::Namespaces;

/// The names found so far. Bounded.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// Senders that are wanted.
    wanted: Selection,
    cgroups: Cgroups,
    namespaces: Namespaces,
}

impl Origins {
    /// The names that there are now. `wanted`: senders whose connections are wanted.
    pub(crate) fn read(wanted: &Selection) -> Result<Self> {
        let mut origins = Self { wanted: wanted.clone(), ..Self::default() };
        origins.cgroups.walk();
        origins.namespaces.read();
        if !wanted.is_empty() && !origins.cgroups.is_there() {
            bail!(
                "cannot tell units and containers: no cgroup hierarchy of version 2 at {}; mount it \
                 there, or do without --unit and --container",
                cgroups::ROOTS.join(" or ")
            );
        }
        Ok(origins)
    }

    /// A process of `cgroup` opens a connection, the first that is seen of it.
    pub(crate) fn opened(&mut self, cgroup: u64, pid: u32) {
        self.cgroups.path(cgroup, Some(pid));
    }

    /// Puts names to the numbers of a connection. Returns whether its sender is wanted; `None` if that
    /// cannot be said.
    pub(crate) fn name(&mut self, connection: &mut Connection) -> Option<bool> {
        connection.netns_name =
            connection.netns.and_then(|netns| self.namespaces.name(netns)).map(str::to_owned);
        let cgroup = connection.cgroup;
        let path = cgroup.and_then(|cgroup| self.cgroups.path(cgroup, connection.pid));
        let wanted = self.wanted.selects(path);
        let Some(path) = path else { return wanted };
        let origin = origin(path);
        connection.container = origin.container.map(str::to_owned);
        connection.unit = origin.unit.map(str::to_owned);
        connection.cgroup_path = Some(path.to_owned());
        wanted
    }

    /// Whether the sender of a connection that the kernel side holds is wanted; `None` if that cannot be
    /// said.
    pub(crate) fn selects(&mut self, state: &ConnectionState) -> Option<bool> {
        if self.wanted.is_empty() {
            return Some(true);
        }
        self.wanted.selects(self.cgroups.path(state.cgroup, Some(state.pid)))
    }

    /// The senders that are wanted, and of which there is no cgroup now.
    pub(crate) fn absent(&self) -> Vec<Absent> {
        absent::absent(&self.wanted, &self.cgroups.known().collect::<Vec<_>>())
    }
}
