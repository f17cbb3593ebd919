//! The kernel's own counters of one connection, read with ss(8).

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use crate::namespace::Namespace;

/// `tcp_info` of one socket, as `ss -ti` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketStatistics {
    /// `tcpi_bytes_sent`: payload, retransmissions included.
    pub bytes_sent: u64,
    /// `tcpi_bytes_retrans`.
    pub bytes_retransmitted: u64,
    /// `tcpi_bytes_acked`.
    pub bytes_acked: u64,
    /// `tcpi_bytes_received`.
    pub bytes_received: u64,
    /// `tcpi_total_retrans`: segments.
    pub retransmits: u32,
}

impl SocketStatistics {
    /// Reads the counters of the connection with the local port of `local`.
    pub fn read(namespace: &Namespace, local: SocketAddr) -> Result<Self> {
        let filter = format!("sport = :{}", local.port());
        let output = namespace.run("ss", ["-tinHO", filter.as_str()])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut sockets = text.lines().filter(|line| !line.trim().is_empty());
        let line = sockets.next().with_context(|| format!("ss knows no socket at {local}"))?;
        ensure!(sockets.next().is_none(), "ss knows several sockets at {local}: {text}");
        Self::parse(line).with_context(|| format!("ss line {line:?}"))
    }

    fn parse(line: &str) -> Result<Self> {
        // Counters that are 0 are not printed.
        let mut statistics = Self::default();
        for word in line.split_ascii_whitespace() {
            let Some((name, value)) = word.split_once(':') else { continue };
            match name {
                "bytes_sent" => statistics.bytes_sent = value.parse()?,
                "bytes_retrans" => statistics.bytes_retransmitted = value.parse()?,
                "bytes_acked" => statistics.bytes_acked = value.parse()?,
                "bytes_received" => statistics.bytes_received = value.parse()?,
                // In flight / in total.
                "retrans" => {
                    let (_, total) = value.split_once('/').context("retrans without a total")?;
                    statistics.retransmits = total.parse()?;
                }
                _ => {}
            }
        }
        Ok(statistics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_counters_of_a_line() {
        let line = "ESTAB 0 0 10.71.1.2:40000 10.71.2.2:2525 cubic wscale:7,7 rto:204 rtt:0.1/0.05 \
                    bytes_sent:120 bytes_retrans:20 bytes_acked:101 bytes_received:300 segs_out:9 \
                    retrans:0/2 rcv_space:14600";
        let statistics = SocketStatistics::parse(line).unwrap();
        assert_eq!(
            statistics,
            SocketStatistics {
                bytes_sent: 120,
                bytes_retransmitted: 20,
                bytes_acked: 101,
                bytes_received: 300,
                retransmits: 2,
            }
        );
    }

    #[test]
    fn a_quiet_socket_has_counted_nothing() {
        let statistics = SocketStatistics::parse("ESTAB 0 0 a:1 b:2 cubic bytes_acked:1").unwrap();
        assert_eq!(statistics.retransmits, 0);
        assert!(SocketStatistics::parse("ESTAB bytes_sent:many").is_err());
    }
}
