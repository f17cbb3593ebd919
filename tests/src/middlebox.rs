//! Middleboxes: firewalls in the router that forget sessions without traffic.
//!
//! Each has one address of the server behind it, so that a lab can have many at the same time, with different
//! manners and times, next to addresses without any. They are what the kernel offers: connection tracking with
//! a timeout of its own per box, and rules for packets that belong to no session it knows.

mod expiry;

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};

use self::expiry::Expiry;
use crate::lab::Lab;

/// What a box does about a session that it has forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Drops its packets, from both sides.
    Silent,
    /// Answers its next packet with a reset, in the name of the other side.
    ResetOnReuse,
    /// Sends a reset to both sides when it forgets the session, then drops its packets.
    ResetWhileIdle,
}

/// A box to be put in front of one address of the server.
#[derive(Debug, Clone, Copy)]
pub struct Middlebox {
    server: IpAddr,
    forgets: Option<(Duration, Manner)>,
    translates: bool,
}

impl Middlebox {
    /// A box that only watches.
    pub fn before(server: impl Into<IpAddr>) -> Self {
        Self { server: server.into(), forgets: None, translates: false }
    }

    /// Has it forget sessions after `idle` without a packet, in whole seconds.
    #[must_use]
    pub fn forgetting(mut self, idle: Duration, manner: Manner) -> Self {
        self.forgets = Some((idle, manner));
        self
    }

    /// Has it translate the client's address to its own.
    #[must_use]
    pub fn translating(mut self) -> Self {
        self.translates = true;
        self
    }

    /// Puts the box into the router of `lab`. It knows the sessions that begin from now on.
    pub fn install(self, lab: &Lab) -> Result<Installed> {
        // Without this a packet in the middle of an unknown session would start a new one.
        lab.router_rules(&self.rules(lab.port())).with_context(|| format!("install {self:?}"))?;
        lab.router.sysctl("net.netfilter.nf_conntrack_tcp_loose", "0")?;
        let expiry = match self.forgets {
            Some((idle, Manner::ResetWhileIdle)) => {
                Some(Expiry::start(&lab.router, self.server, lab.port(), idle)?)
            }
            _ => None,
        };
        Ok(Installed { expiry })
    }

    fn rules(&self, port: u16) -> String {
        let ip = if self.server.is_ipv4() { "ip" } else { "ip6" };
        let server = self.server;
        let table = server.to_string().replace(['.', ':'], "_");
        let forgets = self.forgets.map(|(idle, manner)| {
            let seconds = idle.as_secs();
            let verdict = match manner {
                Manner::Silent | Manner::ResetWhileIdle => "counter drop",
                Manner::ResetOnReuse => "counter reject with tcp reset",
            };
            format!(
                "ct timeout idle {{\n protocol tcp;\n l3proto {ip};\n \
                 policy = {{ established : {seconds} }}\n }}\n\
                 chain begin {{\n type filter hook prerouting priority -150; policy accept;\n \
                 {ip} daddr {server} tcp dport {port} ct timeout set \"idle\"\n }}\n\
                 chain judge {{\n ct state invalid {verdict}\n \
                 tcp flags & syn != syn ct state new {verdict}\n }}\n\
                 chain path {{\n type filter hook forward priority filter; policy accept;\n \
                 {ip} daddr {server} tcp dport {port} jump judge\n \
                 {ip} saddr {server} tcp sport {port} jump judge\n }}\n"
            )
        });
        let translates = self.translates.then(|| {
            format!(
                "chain translate {{\n type nat hook postrouting priority srcnat;\n \
                 {ip} daddr {server} tcp dport {port} masquerade\n }}\n"
            )
        });
        let rules = forgets.into_iter().chain(translates).collect::<String>();
        format!("table inet box_{table} {{\n{rules}}}\n")
    }
}

/// A box at work. One that sends resets by itself stops to do so when this is dropped; the rules stay as
/// long as the router.
#[derive(Debug)]
pub struct Installed {
    expiry: Option<Expiry>,
}

impl Installed {
    /// Sessions that the box reset when it forgot them; 0 for other manners.
    pub fn resets(&self) -> usize {
        self.expiry.as_ref().map_or(0, Expiry::resets)
    }
}
