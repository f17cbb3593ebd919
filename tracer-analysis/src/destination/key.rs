//! By what connections are grouped into destinations, and the keys that result.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// What makes two connections go to the same destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupBy {
    /// The server address.
    #[default]
    Address,
    /// The network of the server address: /24 for IPv4, /48 for IPv6.
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

    /// The key of a connection to `address` whose server is called `host`.
    ///
    /// A server without a name is its address literal under `host` and `provider`.
    pub fn key(self, address: IpAddr, host: Option<&str>) -> String {
        match (self, host) {
            (Self::Address, _) => address.to_string(),
            (Self::Prefix, _) => network(address),
            (Self::Host, Some(host)) => host.to_owned(),
            (Self::Provider, Some(host)) => registrable_domain(host).to_owned(),
            (Self::Host | Self::Provider, None) => address_literal(address),
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

/// The /24 or /48 that an address is in.
fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => {
            let network = std::net::Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80);
            format!("{network}/48")
        }
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
        by.key(address.parse().unwrap(), host)
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
