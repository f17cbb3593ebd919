//! Who opened a connection.

use serde::{Deserialize, Serialize};

use crate::{connection::Connection, origin::origin};

/// What the name of a sender is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SenderKind {
    /// A systemd unit of the host.
    Unit,
    /// A container, or a systemd unit within one.
    Container,
    /// A command in a network namespace that `ip netns` named.
    Netns,
    /// A command in no unit and no container, or in a unit that is only the session of a user.
    Command,
    /// None of these is known.
    Unknown,
    /// All senders beyond the number that is kept apart.
    Other,
}

/// Who opened a connection: the facts by which senders are told apart. Of a systemd unit and of a container
/// the commands and namespaces are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Who<S> {
    /// The host that recorded it.
    pub host: S,
    /// The container.
    pub container: Option<S>,
    /// The systemd unit, of the host or within the container.
    pub unit: Option<S>,
    /// The user whose systemd manager runs the unit or container; `None` if it is that of the system.
    pub user: Option<u32>,
    /// The path of the cgroup of the unit or container: names are given by whoever owns the cgroup above.
    pub cgroup: Option<S>,
    /// Name of the network namespace.
    pub netns_name: Option<S>,
    /// Inode number of the network namespace.
    pub netns: Option<u32>,
    /// Name of the command.
    pub comm: Option<S>,
}

impl<'a> Who<&'a str> {
    /// Who opened `connection`.
    pub fn of(connection: &'a Connection) -> Self {
        let named = match connection.cgroup_path.as_deref() {
            Some(path) => {
                let it = origin(path);
                let cgroup = Some(it.cgroup).filter(|cgroup| !cgroup.is_empty());
                let (container, unit) = (it.container, it.unit);
                Self { container, unit, user: it.user, cgroup, ..Self::default() }
            }
            None => Self {
                container: connection.container.as_deref(),
                unit: connection.unit.as_deref(),
                ..Self::default()
            },
        };
        let who = Self { host: &connection.host, ..named };
        let (container, unit) = (who.container, who.unit);
        match unit {
            Some(unit) if container.is_none() && is_session(unit) => {
                Self { comm: connection.comm.as_deref(), ..who }
            }
            None if container.is_none() => Self {
                netns_name: connection.netns_name.as_deref(),
                netns: connection.netns,
                comm: connection.comm.as_deref(),
                ..who
            },
            _ => who,
        }
    }

    /// What its name is the name of.
    pub const fn kind(&self) -> SenderKind {
        match self {
            Self { container: Some(_), .. } => SenderKind::Container,
            Self { unit: Some(_), comm: None, .. } => SenderKind::Unit,
            Self { netns_name: Some(_), .. } => SenderKind::Netns,
            Self { comm: Some(_), .. } => SenderKind::Command,
            _ => SenderKind::Unknown,
        }
    }

    /// One name, for people: `postfix@-.service`, `container 6df79a0a53f3`, `smtp in netns mail`,
    /// `mutt.service of user 1000`.
    pub fn name(&self) -> String {
        let name = self.own_name();
        match self.user {
            Some(user) => format!("{name} of user {user}"),
            None => name,
        }
    }

    fn own_name(&self) -> String {
        match (self.container, self.unit, self.netns_name, self.comm) {
            (Some(container), Some(unit), ..) => {
                format!("{unit} in container {}", short(container))
            }
            (Some(container), None, ..) => format!("container {}", short(container)),
            (None, Some(unit), _, Some(comm)) => format!("{comm} in {unit}"),
            (None, Some(unit), _, None) => unit.to_owned(),
            (None, None, Some(netns), Some(comm)) => format!("{comm} in netns {netns}"),
            (None, None, Some(netns), None) => format!("netns {netns}"),
            (None, None, None, Some(comm)) => format!("command {comm}"),
            (None, None, None, None) => "not known".to_owned(),
        }
    }

    /// The same, to keep.
    pub fn to_owned(&self) -> Who<Box<str>> {
        Who {
            host: self.host.into(),
            container: self.container.map(Into::into),
            unit: self.unit.map(Into::into),
            user: self.user,
            cgroup: self.cgroup.map(Into::into),
            netns_name: self.netns_name.map(Into::into),
            netns: self.netns,
            comm: self.comm.map(Into::into),
        }
    }
}

impl Who<Box<str>> {
    /// The same, to look at.
    pub fn as_ref(&self) -> Who<&str> {
        Who {
            host: &self.host,
            container: self.container.as_deref(),
            unit: self.unit.as_deref(),
            user: self.user,
            cgroup: self.cgroup.as_deref(),
            netns_name: self.netns_name.as_deref(),
            netns: self.netns,
            comm: self.comm.as_deref(),
        }
    }
}

/// Whether a unit is only the session of a user who has logged in: it does not tell what was started there.
fn is_session(unit: &str) -> bool {
    let number = unit.strip_prefix("session-").and_then(|it| it.strip_suffix(".scope"));
    number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// The id of a container as runtimes show it: its first twelve digits. A name stays as it is.
fn short(container: &str) -> &str {
    let is_id = container.len() == 64 && container.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { &container[..12] } else { container }
}
