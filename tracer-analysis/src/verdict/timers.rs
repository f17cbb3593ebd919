//! Idle timers of middleboxes that are documented.
//!
//! A timer inside a bracket is a hint where to look, no proof: several products share the same number,
//! and most can be set.

/// The idle timer of a product, as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    /// The product.
    pub name: &'static str,
    /// Its timer for established TCP connections.
    pub seconds: u32,
    /// What it does with an expired connection, as far as its makers say.
    pub expiry: &'static str,
    /// Where that stands.
    pub source: &'static str,
}

const fn timer(
    seconds: u32,
    name: &'static str,
    expiry: &'static str,
    source: &'static str,
) -> Timer {
    Timer { name, seconds, expiry, source }
}

/// Known timers, the shortest first.
pub const TIMERS: [Timer; 15] = [
    timer(
        240,
        "Azure NAT gateway",
        "silent, reset on the next packet",
        "MicrosoftDocs/azure-docs nat-gateway-resource.md",
    ),
    timer(
        240,
        "Azure Load Balancer",
        "silent, or a reset to both ends if enabled",
        "learn.microsoft.com/azure/load-balancer/load-balancer-tcp-reset",
    ),
    timer(
        350,
        "AWS NAT gateway",
        "reset on the next packet",
        "docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html",
    ),
    timer(
        350,
        "AWS Network Load Balancer",
        "reset on the next packet",
        "aws.amazon.com/about-aws/whats-new/2024/09/aws-network-load-balancer-tcp-idle-timeout",
    ),
    timer(
        350,
        "AWS Network Firewall",
        "silent",
        "docs.aws.amazon.com/network-firewall/latest/APIReference/API_FlowTimeouts.html",
    ),
    timer(
        350,
        "EC2 security groups on Nitro v6",
        "silent",
        "AWS networking blog, Best Practices for TCP Connection Management on EC2",
    ),
    timer(
        600,
        "Google Cloud VPC firewall",
        "inbound packets dropped until the next outbound one",
        "cloud.google.com/compute/docs/troubleshooting",
    ),
    timer(1_200, "Google Cloud NAT", "silent", "cloud.google.com/nat/docs/tune-nat-configuration"),
    timer(1_800, "Juniper SRX", "not documented", "juniper.net, policy application timeout"),
    timer(
        3_600,
        "Cisco ASA",
        "silent, or a reset if configured",
        "Cisco ASA configuration guide, connection settings",
    ),
    timer(
        3_600,
        "Palo Alto PAN-OS",
        "session closed",
        "docs.paloaltonetworks.com, configure session timeouts",
    ),
    timer(
        3_600,
        "FortiGate",
        "silent, or a reset if configured (timeout-send-rst)",
        "community.fortinet.com ta-p/194357",
    ),
    timer(7_440, "a NAT that keeps to RFC 5382", "not specified", "RFC 5382, REQ-5"),
    timer(86_400, "pf (OpenBSD, pfSense)", "silent", "docs.netgate.com, advanced firewall and NAT"),
    timer(
        432_000,
        "Linux conntrack",
        "picked up again, or dropped if strict",
        "kernel.org, nf_conntrack-sysctl",
    ),
];

/// The shortest of them, in microseconds.
pub(super) const SHORTEST_US: u64 = TIMERS[0].seconds as u64 * 1_000_000;

/// Timers that a gap of `alive_us` does not rule out and one of `dead_us` does not either.
pub(super) fn between(alive_us: u64, dead_us: u64) -> impl Iterator<Item = &'static Timer> {
    TIMERS.iter().filter(move |timer| {
        let us = u64::from(timer.seconds) * 1_000_000;
        alive_us < us && us <= dead_us
    })
}

/// Timers by name, those of the same length together: `350 s: one, two`.
pub(super) fn named(timers: impl Iterator<Item = &'static Timer>) -> String {
    let timers: Vec<_> = timers.collect();
    let each = timers.chunk_by(|a, b| a.seconds == b.seconds).map(|same| {
        let names: Vec<_> = same.iter().map(|timer| timer.name).collect();
        format!("{} s: {}", same[0].seconds, names.join(", "))
    });
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_with_a_source() {
        assert!(TIMERS.is_sorted_by_key(|timer| timer.seconds));
        assert!(TIMERS.iter().all(|timer| !timer.source.is_empty() && !timer.expiry.is_empty()));
    }

    #[test]
    fn between_alive_and_dead() {
        let seconds = |alive: u64, dead: u64| -> Vec<u32> {
            between(alive * 1_000_000, dead * 1_000_000).map(|timer| timer.seconds).collect()
        };
        assert_eq!(seconds(239, 240), [240, 240]);
        assert_eq!(seconds(240, 300), [] as [u32; 0]);
        assert_eq!(seconds(300, 1_200), [350, 350, 350, 350, 600, 1_200]);
        let text = named(between(0, 350_000_000));
        assert!(text.starts_with("240 s: Azure NAT gateway, Azure Load Balancer; 350 s: AWS NAT"));
    }
}
