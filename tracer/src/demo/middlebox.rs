//! The box between client and servers: it forwards packets, and forgets sessions that idle.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read as _, Write as _},
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use etherparse::{IpNumber, Ipv4Header, PacketBuilder, TcpHeader};

/// Largest packet; the devices have an MTU of 1500.
const LONGEST: usize = 2048;
/// Sessions that are remembered at the same time. Those beyond are dropped, as a full box does.
const MOST_SESSIONS: usize = 4096;
/// What the box writes into packets of its own. It is one hop from the client, and servers are two.
const OWN_TTL: u8 = 64;

/// What the box does about packets of a session that it has forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Nothing: they are dropped.
    Silent,
    /// It answers with a reset.
    Reset,
}

/// How long the box remembers idle sessions of a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) time: Duration,
    pub(super) manner: Manner,
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It goes on, as it then looks.
    Forward(Vec<u8>),
    /// Its sender gets this.
    Answer(Vec<u8>),
    Drop,
}

/// Which session: the client has one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Session {
    server: Ipv4Addr,
    client_port: u16,
}

/// A stateful box.
#[derive(Debug)]
pub(super) struct Middlebox {
    /// Servers whose sessions it forgets.
    memory: HashMap<Ipv4Addr, Memory>,
    /// When each of their sessions was last heard of.
    sessions: HashMap<Session, Instant>,
}

impl Middlebox {
    pub(super) fn new(memory: HashMap<Ipv4Addr, Memory>) -> Self {
        Self { memory, sessions: HashMap::new() }
    }

    /// Forwards between two devices as long as this process lives.
    pub(super) fn start(self, client: File, servers: File) -> Result<()> {
        let ends = Arc::new((client, servers));
        let shared = Arc::new(Mutex::new(self));
        for from_client in [true, false] {
            let (ends, shared) = (Arc::clone(&ends), Arc::clone(&shared));
            let work = move || {
                let (near, far) = if from_client { (&ends.0, &ends.1) } else { (&ends.1, &ends.0) };
                forward(&shared, near, far);
            };
            thread::Builder::new()
                .name("demo-middlebox".into())
                .spawn(work)
                .context("cannot start a thread")?;
        }
        Ok(())
    }

    fn fate(&mut self, packet: &[u8], now: Instant) -> Fate {
        let Ok((mut ip, segment)) = Ipv4Header::from_slice(packet) else { return Fate::Drop };
        if ip.protocol != IpNumber::TCP || ip.time_to_live < 2 {
            return Fate::Drop;
        }
        let Ok((tcp, _)) = TcpHeader::from_slice(segment) else { return Fate::Drop };
        if let Some(manner) = self.forgotten(&ip, &tcp, now) {
            return match manner {
                Manner::Reset => reset(&ip, &tcp).map_or(Fate::Drop, Fate::Answer),
                Manner::Silent => Fate::Drop,
            };
        }
        ip.time_to_live -= 1;
        ip.header_checksum = ip.calc_header_checksum();
        let mut out = Vec::with_capacity(packet.len());
        match ip.write(&mut out) {
            Ok(()) => {
                out.extend_from_slice(segment);
                Fate::Forward(out)
            }
            Err(_) => Fate::Drop,
        }
    }

    /// What is done about a packet of a session that is not known, or no longer; `None` if it may pass.
    fn forgotten(&mut self, ip: &Ipv4Header, tcp: &TcpHeader, now: Instant) -> Option<Manner> {
        let [source, destination] = [ip.source, ip.destination].map(Ipv4Addr::from);
        let (server, client_port) = if self.memory.contains_key(&destination) {
            (destination, tcp.source_port)
        } else {
            (source, tcp.destination_port)
        };
        let Memory { time, manner } = *self.memory.get(&server)?;
        let session = Session { server, client_port };
        let is_alive = |last: &Instant| now.duration_since(*last) <= time;
        let begins = tcp.syn && !tcp.ack && self.sessions.len() < MOST_SESSIONS;
        if begins || self.sessions.get(&session).is_some_and(is_alive) {
            self.sessions.insert(session, now);
            return None;
        }
        self.sessions.retain(|_, last| is_alive(last));
        Some(manner)
    }
}

/// The answer in the name of the other side (RFC 9293, section 3.10.7.1); none to a reset.
fn reset(ip: &Ipv4Header, tcp: &TcpHeader) -> Option<Vec<u8>> {
    if tcp.rst || !tcp.ack {
        return None;
    }
    let mut packet = Vec::new();
    PacketBuilder::ipv4(ip.destination, ip.source, OWN_TTL)
        .tcp(tcp.destination_port, tcp.source_port, tcp.acknowledgment_number, 0)
        .rst()
        .write(&mut packet, &[])
        .ok()?;
    Some(packet)
}

/// Moves packets in one direction until a device is gone.
fn forward(shared: &Mutex<Middlebox>, mut near: &File, mut far: &File) {
    let mut buffer = [0; LONGEST];
    while let Ok(length) = near.read(&mut buffer) {
        let fate = shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fate(&buffer[..length], Instant::now());
        // A packet that the kernel does not take is a lost packet.
        let _ = match fate {
            Fate::Forward(packet) => far.write(&packet),
            Fate::Answer(packet) => near.write(&packet),
            Fate::Drop => Ok(0),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: [u8; 4] = [192, 0, 2, 1];
    const SERVER: [u8; 4] = [192, 0, 2, 11];
    const TIME: Duration = Duration::from_secs(3);

    fn middlebox(manner: Manner) -> Middlebox {
        Middlebox::new(HashMap::from([(SERVER.into(), Memory { time: TIME, manner })]))
    }

    fn segment(from_client: bool, syn: bool) -> Vec<u8> {
        let (from, to, ports) =
            if from_client { (CLIENT, SERVER, [9, 25]) } else { (SERVER, CLIENT, [25, 9]) };
        let tcp = PacketBuilder::ipv4(from, to, 64).tcp(ports[0], ports[1], 1000, 500);
        let tcp = if syn { tcp.syn() } else { tcp.ack(77) };
        let mut packet = Vec::new();
        tcp.write(&mut packet, b"").unwrap();
        packet
    }

    fn passes(fate: &Fate) -> bool {
        matches!(fate, Fate::Forward(_))
    }

    #[test]
    fn a_session_is_forgotten_when_it_idles_too_long() {
        let (mut middlebox, start) = (middlebox(Manner::Silent), Instant::now());
        assert_eq!(middlebox.fate(&segment(true, false), start), Fate::Drop, "never begun");
        assert!(passes(&middlebox.fate(&segment(true, true), start)));
        assert!(passes(&middlebox.fate(&segment(false, false), start + TIME)));
        assert!(passes(&middlebox.fate(&segment(true, false), start + TIME * 2)));
        let late = start + TIME * 3 + Duration::from_millis(1);
        assert_eq!(middlebox.fate(&segment(true, false), late), Fate::Drop);
        assert_eq!(middlebox.fate(&segment(false, false), late), Fate::Drop);
        assert!(middlebox.sessions.is_empty());
        assert!(passes(&middlebox.fate(&segment(true, true), late)), "a new one begins");
    }

    #[test]
    fn a_forwarded_packet_has_made_one_hop() {
        let Fate::Forward(packet) =
            middlebox(Manner::Silent).fate(&segment(true, true), Instant::now())
        else {
            panic!("not forwarded")
        };
        let (ip, rest) = Ipv4Header::from_slice(&packet).unwrap();
        assert_eq!((ip.time_to_live, ip.header_checksum), (63, ip.calc_header_checksum()));
        assert_eq!(rest, &segment(true, true)[20..]);
    }

    #[test]
    fn the_reset_is_in_the_name_of_the_other_side() {
        let Fate::Answer(packet) =
            middlebox(Manner::Reset).fate(&segment(true, false), Instant::now())
        else {
            panic!("not answered")
        };
        let (ip, rest) = Ipv4Header::from_slice(&packet).unwrap();
        let (tcp, _) = TcpHeader::from_slice(rest).unwrap();
        assert_eq!((ip.source, ip.destination, ip.time_to_live), (SERVER, CLIENT, OWN_TTL));
        assert_eq!((tcp.source_port, tcp.destination_port, tcp.sequence_number), (25, 9, 77));
        assert!(tcp.rst && !tcp.ack);
        assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(&ip, &[]).unwrap());
        let again = middlebox(Manner::Reset).fate(&packet, Instant::now());
        assert_eq!(again, Fate::Drop, "no answer to a reset");
    }

    #[test]
    fn what_is_no_tcp_is_dropped() {
        let mut udp = Vec::new();
        PacketBuilder::ipv4(CLIENT, SERVER, 64).udp(9, 25).write(&mut udp, b"x").unwrap();
        for packet in [&udp[..], b"", &[0x60; 40], &segment(true, true)[..30]] {
            assert_eq!(middlebox(Manner::Reset).fate(packet, Instant::now()), Fate::Drop);
        }
    }
}
