//! What makes up a destination.

use clap::{Args, ValueEnum};
use tracer_analysis::destination::{self, Grouping, Prefixes};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GroupBy {
    /// Server address
    Address,
    /// Network: /24 of IPv4, /48 of IPv6, or as --prefix4 and --prefix6 say
    Prefix,
    /// Host name in the greeting
    Host,
    /// Registrable domain of that host name
    Provider,
}

impl From<GroupBy> for destination::GroupBy {
    fn from(by: GroupBy) -> Self {
        match by {
            GroupBy::Address => Self::Address,
            GroupBy::Prefix => Self::Prefix,
            GroupBy::Host => Self::Host,
            GroupBy::Provider => Self::Provider,
        }
    }
}

/// Lengths of the networks that are destinations.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct PrefixArgs {
    /// Length of the networks of IPv4 under --group-by prefix [default: 24]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=32))]
    pub(crate) prefix4: Option<u8>,
    /// Length of the networks of IPv6 under --group-by prefix [default: 48]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=128))]
    pub(crate) prefix6: Option<u8>,
}

/// Lengths were given where destinations are no networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{option} says how large networks are, and needs --group-by prefix")]
pub(crate) struct WrongPrefix {
    option: &'static str,
}

impl PrefixArgs {
    /// The grouping by `by`.
    pub(crate) fn grouping(self, by: GroupBy) -> Result<Grouping, WrongPrefix> {
        self.refused_unless(by == GroupBy::Prefix)?;
        let usual = Prefixes::default();
        let ipv4 = self.prefix4.unwrap_or(usual.ipv4);
        let ipv6 = self.prefix6.unwrap_or(usual.ipv6);
        Ok(Grouping { by: by.into(), prefixes: Prefixes { ipv4, ipv6 } })
    }

    /// The grouping that was asked for, if any was.
    pub(crate) fn chosen(self, by: Option<GroupBy>) -> Result<Option<Grouping>, WrongPrefix> {
        self.refused_unless(by == Some(GroupBy::Prefix))?;
        by.map(|by| self.grouping(by)).transpose()
    }

    fn refused_unless(self, networks: bool) -> Result<(), WrongPrefix> {
        let given = [("--prefix4", self.prefix4), ("--prefix6", self.prefix6)];
        match given.into_iter().find(|(_, bits)| bits.is_some()) {
            Some((option, _)) if !networks => Err(WrongPrefix { option }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_for_networks_only() {
        let none = PrefixArgs { prefix4: None, prefix6: None };
        let six = PrefixArgs { prefix4: None, prefix6: Some(56) };
        let usual = Grouping::from(destination::GroupBy::Prefix);
        assert_eq!(none.grouping(GroupBy::Prefix), Ok(usual));
        assert_eq!(none.chosen(None), Ok(None));
        let prefixes = Prefixes { ipv4: 24, ipv6: 56 };
        assert_eq!(six.chosen(Some(GroupBy::Prefix)), Ok(Some(Grouping { prefixes, ..usual })));
        let wrong = WrongPrefix { option: "--prefix6" };
        assert_eq!(six.grouping(GroupBy::Host), Err(wrong));
        assert_eq!(six.chosen(None), Err(wrong));
    }
}
