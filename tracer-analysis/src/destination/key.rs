//! By what connections are grouped into destinations, and the keys that result.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// What makes two connections go to the same destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum GroupBy {
    /// The server address.
    #[default]
    Address,
    /// The network of the server address; [`Prefixes`] says how large.
    Prefix,
    /// The host name in the greeting.
    Host,
    /// The registrable domain of that host name (Public Suffix List).
    Provider,
}

impl GroupBy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Address, Self::Prefix, Self::Host, Self::Provider];

    /// Its name on the command line and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Prefix => "prefix",
            Self::Host => "host",
            Self::Provider => "provider",
        }
    }
}

/// Lengths of the networks that are destinations under [`GroupBy::Prefix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Prefixes {
    /// Of IPv4, 0 to 32.
    pub ipv4: u8,
    /// Of IPv6, 0 to 128.
    pub ipv6: u8,
}

impl Default for Prefixes {
    /// What is announced on its own at the smallest: /24 and /48.
    fn default() -> Self {
        Self { ipv4: 24, ipv6: 48 }
    }
}

impl Prefixes {
    /// The network that an address is in.
    fn network(self, address: IpAddr) -> String {
        // A shift by all bits would leave them as they are.
        match address {
            IpAddr::V4(v4) => {
                let length = self.ipv4.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                format!("{}/{length}", Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let length = self.ipv6.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                format!("{}/{length}", Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        }
    }
}

/// How connections become destinations, in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Grouping {
    /// By what.
    pub by: GroupBy,
    /// Lengths of networks; they matter under [`GroupBy::Prefix`] only.
    pub prefixes: Prefixes,
}

impl From<GroupBy> for Grouping {
    /// With networks of the usual lengths.
    fn from(by: GroupBy) -> Self {
        Self { by, prefixes: Prefixes::default() }
    }
}

impl Grouping {
    /// The key of a connection to `address` whose server is called `host`.
    ///
    /// A server without a name is its address literal under `host` and `provider`.
    pub fn key(self, address: IpAddr, host: Option<&str>) -> String {
        match (self.by, host) {
            (GroupBy::Address, _) => address.to_string(),
            (GroupBy::Prefix, _) => self.prefixes.network(address),
            (GroupBy::Host, Some(host)) => host.to_owned(),
            (GroupBy::Provider, Some(host)) => registrable_domain(host).to_owned(),
            (GroupBy::Host | GroupBy::Provider, None) => address_literal(address),
        }
    }

    /// The lengths of networks, if destinations are networks.
    pub fn used_prefixes(self) -> Option<Prefixes> {
        (self.by == GroupBy::Prefix).then_some(self.prefixes)
    }
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.used_prefixes() {
            Some(Prefixes { ipv4, ipv6 }) => write!(f, "{} (/{ipv4}, /{ipv6})", self.by),
            None => self.by.fmt(f),
        }
    }
}

impl fmt::Display for GroupBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is none of [`GroupBy::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown grouping {0:?}; use address, prefix, host or provider")]
pub struct UnknownGroupBy(pub String);

impl FromStr for GroupBy {
    type Err = UnknownGroupBy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|by| by.as_str() == text)
            .ok_or_else(|| UnknownGroupBy(text.to_owned()))
    }
}

/// An address as RFC 5321 writes it in place of a host name.
fn address_literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("[{v4}]"),
        IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
    }
}

/// The registrable domain of a host; the host itself if it has none.
fn registrable_domain(host: &str) -> &str {
    if host.parse::<IpAddr>().is_ok() || host.split('.').any(str::is_empty) {
        return host; // not a domain name
    }
    psl::domain_str(host).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(by: GroupBy, address: &str, host: Option<&str>) -> String {
        Grouping::from(by).key(address.parse().unwrap(), host)
    }

    #[test]
    fn networks_of_other_lengths() {
        for (ipv4, ipv6, keys) in [
            (0, 0, ["0.0.0.0/0", "::/0"]),
            (20, 33, ["192.0.16.0/20", "2001:db8:8000::/33"]),
            (32, 128, ["192.0.31.7/32", "2001:db8:ffff::7/128"]),
            (33, 129, ["192.0.31.7/32", "2001:db8:ffff::7/128"]),
        ] {
            let by = Grouping { by: GroupBy::Prefix, prefixes: Prefixes { ipv4, ipv6 } };
            let addresses = ["192.0.31.7", "2001:db8:ffff::7"];
            assert_eq!(addresses.map(|it| by.key(it.parse().unwrap(), None)), keys);
        }
    }

    #[test]
    fn addresses_and_networks() {
        assert_eq!(key(GroupBy::Address, "192.0.2.7", Some("mx.example.org")), "192.0.2.7");
        assert_eq!(key(GroupBy::Address, "2001:db8::7", None), "2001:db8::7");
        assert_eq!(key(GroupBy::Prefix, "192.0.2.7", None), "192.0.2.0/24");
        assert_eq!(key(GroupBy::Prefix, "2001:db8:1:ffff::7", None), "2001:db8:1::/48");
    }

    #[test]
    fn hosts_and_providers() {
        let host = "mx1.mail.example.co.uk";
        assert_eq!(key(GroupBy::Host, "192.0.2.7", Some(host)), host);
        assert_eq!(key(GroupBy::Provider, "192.0.2.7", Some(host)), "example.co.uk");
        for bare in ["co.uk", "localhost", "192.0.2.7", "", ".", "a..b."] {
            let provider = key(GroupBy::Provider, "192.0.2.7", Some(bare));
            assert!(bare.ends_with(&provider), "{bare:?} -> {provider:?}");
        }
        assert_eq!(key(GroupBy::Provider, "192.0.2.7", Some("co.uk")), "co.uk");
    }

    #[test]
    fn a_server_without_a_name_is_its_literal() {
        assert_eq!(key(GroupBy::Host, "192.0.2.1", None), "[192.0.2.1]");
        assert_eq!(key(GroupBy::Provider, "2001:db8::1", None), "[IPv6:2001:db8::1]");
    }

    #[test]
    fn names_round_trip() {
        for by in GroupBy::ALL {
            assert_eq!(by.to_string().parse(), Ok(by));
        }
        assert!("Address".parse::<GroupBy>().is_err());
    }
}
