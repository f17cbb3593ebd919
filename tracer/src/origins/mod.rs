//! Where processes run, by names: the path of the cgroup and what it tells, the name of the network namespace.
//!
//! The kernel side knows numbers only. Their names are looked up when the first connection of a cgroup is
//! opened, because short-lived containers are gone when its record comes. Needs no privilege: what is read is
//! open to everybody.

mod cgroups;
mod namespaces;

use tracer_analysis::{connection::Connection, origin::origin};

use cgroups::Cgroups;
use namespaces::Namespaces;

/// The names found so far. Bounded.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    cgroups: Cgroups,
    namespaces: Namespaces,
}

impl Origins {
    /// The names that there are now.
    pub(crate) fn read() -> Self {
        let mut origins = Self::default();
        origins.cgroups.walk();
        origins.namespaces.read();
        origins
    }

    /// A process of `cgroup` opens a connection, the first that is seen of it.
    pub(crate) fn opened(&mut self, cgroup: u64, pid: u32) {
        self.cgroups.path(cgroup, Some(pid));
    }

    /// Puts names to the numbers of a connection.
    pub(crate) fn name(&mut self, connection: &mut Connection) {
        connection.netns_name =
            connection.netns.and_then(|netns| self.namespaces.name(netns)).map(str::to_owned);
        let Some(cgroup) = connection.cgroup else { return };
        let Some(path) = self.cgroups.path(cgroup, connection.pid) else { return };
        let origin = origin(path);
        connection.container = origin.container.map(str::to_owned);
        connection.unit = origin.unit.map(str::to_owned);
        connection.cgroup_path = Some(path.to_owned());
    }
}
