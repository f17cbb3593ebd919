//! TCP connections reassembled from captured packets, as the client's side saw them.

use std::{collections::HashMap, net::SocketAddr};

use anyhow::{Context as _, Result};
use etherparse::{NetSlice, SlicedPacket, TcpSlice, TransportSlice};

/// Nanoseconds since 1970-01-01T00:00:00Z.
pub type Nanos = i64;

/// Which side sent a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The side that sent the SYN.
    FromClient,
    /// The side that answered it.
    FromServer,
}

/// A flag that ends a direction or the whole connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosingFlag {
    /// First FIN of its direction.
    Fin,
    /// Reset.
    Rst,
}

/// One packet that closed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// When it was seen.
    pub at: Nanos,
    /// Who sent it, or whose address it bears.
    pub direction: Direction,
    /// Which kind.
    pub flag: ClosingFlag,
    /// TTL or hop limit as it arrived.
    pub ttl: u8,
}

/// Payload bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Payload {
    /// Each byte of the stream once.
    pub unique: u64,
    /// Retransmissions included.
    pub total: u64,
}

/// Payload that was not there before, of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// When it was seen.
    pub at: Nanos,
    /// Who sent it.
    pub direction: Direction,
    /// Payload bytes of this direction up to its end.
    pub end: u64,
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Address of the client.
    pub client: SocketAddr,
    /// Address of the server.
    pub server: SocketAddr,
    /// Sequence number of the SYN: tells connections apart that use the same ports.
    pub initial_sequence: u32,
    /// First SYN.
    pub syn: Nanos,
    /// SYNs sent again.
    pub syn_retransmits: u32,
    /// SYN-ACK.
    pub established: Option<Nanos>,
    /// First payload of the server.
    pub first_received: Option<Nanos>,
    /// Last packet.
    pub last: Nanos,
    /// Payload of the client.
    pub sent: Payload,
    /// Payload of the server.
    pub received: Payload,
    /// Unique payload of the server that the client had acknowledged when it sent its FIN, or that came
    /// before it sent a reset. What is on its way up while the socket closes may be counted or not.
    pub received_before_close: u64,
    /// Segments with payload that the client sent again.
    pub retransmitted_segments: u32,
    /// Payload in order, retransmissions left out.
    pub progress: Vec<Progress>,
    /// FINs and resets in order.
    pub closings: Vec<Closing>,
    /// Whether the client had the server's FIN when it sent its own. A FIN can cross the wire while
    /// the client is closing; this is what the client's kernel knew.
    pub client_fin_is_answer: bool,
    /// When the client's FIN was acknowledged.
    pub client_fin_acked: Option<Nanos>,
    /// TTL or hop limit of the server's SYN-ACK.
    pub server_ttl: Option<u8>,
    client_stream: Stream,
    server_stream: Stream,
}

/// How far one direction has come, relative to its initial sequence number.
#[derive(Debug, Clone, Copy, Default)]
struct Stream {
    initial: u32,
    /// Highest payload byte seen, counted from 0.
    high: u64,
    /// Position of the FIN, in payload bytes.
    fin: Option<u64>,
}

impl Stream {
    fn starting_at(initial: u32) -> Self {
        Self { initial, ..Self::default() }
    }

    /// Payload position of a sequence number. Captures here stay far below 2 GiB.
    fn position(self, sequence: u32) -> u64 {
        u64::from(sequence.wrapping_sub(self.initial.wrapping_add(1)))
    }
}

impl Flow {
    /// The first FIN or reset: who sent it and which it was.
    pub fn first_closing(&self) -> Option<(Direction, ClosingFlag)> {
        self.closings.first().map(|closing| (closing.direction, closing.flag))
    }

    /// When the kernel's CLOSE of the client's socket must have been: at a reset, or when the
    /// acknowledgement of our FIN came, whichever is earlier. `None` if nothing ended it.
    pub fn end(&self) -> Option<Nanos> {
        let reset = self.closings.iter().find(|closing| closing.flag == ClosingFlag::Rst);
        match (reset.map(|closing| closing.at), self.client_fin_acked) {
            (Some(reset), Some(acked)) => Some(reset.min(acked)),
            (reset, acked) => reset.or(acked),
        }
    }

    /// When so many bytes of the server's payload were there.
    pub fn arrival(&self, bytes: u64) -> Option<Nanos> {
        let mut arrivals = self.progress.iter().filter(|it| it.direction == Direction::FromServer);
        arrivals.find(|it| it.end >= bytes).map(|it| it.at)
    }

    /// When the client wrote last.
    pub fn last_write(&self) -> Option<Nanos> {
        let mut writes = self.progress.iter().rev();
        writes.find(|it| it.direction == Direction::FromClient).map(|it| it.at)
    }

    /// How long neither side had sent payload at this moment.
    pub fn idle_before(&self, moment: Nanos) -> Option<Nanos> {
        let last = self.progress.iter().rev().find(|it| it.at < moment)?;
        Some(moment - last.at)
    }

    /// Idle times of at least `least` before payload of the client.
    pub fn gaps(&self, least: Nanos) -> Vec<Nanos> {
        let pairs = self.progress.iter().zip(self.progress.iter().skip(1));
        let gaps = pairs.filter(|(_, after)| after.direction == Direction::FromClient);
        gaps.map(|(before, after)| after.at - before.at).filter(|gap| *gap >= least).collect()
    }

    fn packet(&mut self, packet: &Packet<'_>, direction: Direction) {
        let tcp = &packet.tcp;
        self.last = packet.at;
        if tcp.syn() {
            if direction == Direction::FromClient {
                self.syn_retransmits += 1;
            } else if self.established.is_none() {
                self.established = Some(packet.at);
                self.server_ttl = Some(packet.ttl);
                self.server_stream = Stream::starting_at(tcp.sequence_number());
            }
            return;
        }
        if tcp.rst() {
            self.close(packet, direction, ClosingFlag::Rst);
            return;
        }
        self.payload(packet, direction);
        if tcp.fin() {
            let stream = self.stream(direction);
            let end = stream.position(tcp.sequence_number()) + packet.payload;
            if stream.fin.replace(end).is_none() {
                self.close(packet, direction, ClosingFlag::Fin);
                if direction == Direction::FromClient {
                    let known = self.server_stream.position(tcp.acknowledgment_number());
                    self.client_fin_is_answer =
                        self.server_stream.fin.is_some_and(|fin| known == fin + 1);
                    self.received_before_close = self.received_before_close.min(known);
                }
            }
        }
        if direction == Direction::FromServer
            && tcp.ack()
            && let Some(fin) = self.client_stream.fin
            && self.client_fin_acked.is_none()
            && self.client_stream.position(tcp.acknowledgment_number()) == fin + 1
        {
            self.client_fin_acked = Some(packet.at);
        }
    }

    fn payload(&mut self, packet: &Packet<'_>, direction: Direction) {
        if packet.payload == 0 {
            return;
        }
        let stream = self.stream(direction);
        let start = stream.position(packet.tcp.sequence_number());
        let again = start < stream.high;
        let before = stream.high;
        stream.high = stream.high.max(start + packet.payload);
        let high = stream.high;
        if high > before {
            self.progress.push(Progress { at: packet.at, direction, end: high });
        }
        match direction {
            Direction::FromClient => {
                self.sent.total += packet.payload;
                self.sent.unique = high;
                self.retransmitted_segments += u32::from(again);
            }
            Direction::FromServer => {
                self.first_received.get_or_insert(packet.at);
                self.received.total += packet.payload;
                self.received.unique = high;
                let closed =
                    self.closings.iter().any(|closing| closing.direction == Direction::FromClient);
                if !closed {
                    self.received_before_close = high;
                }
            }
        }
    }

    fn close(&mut self, packet: &Packet<'_>, direction: Direction, flag: ClosingFlag) {
        self.closings.push(Closing { at: packet.at, direction, flag, ttl: packet.ttl });
    }

    fn stream(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::FromClient => &mut self.client_stream,
            Direction::FromServer => &mut self.server_stream,
        }
    }
}

struct Packet<'a> {
    at: Nanos,
    ttl: u8,
    payload: u64,
    tcp: TcpSlice<'a>,
}

/// Sorts packets into connections.
#[derive(Debug, Default)]
pub struct FlowTable {
    flows: Vec<Flow>,
    /// Newest connection of each pair of addresses: (client, server).
    newest: HashMap<(SocketAddr, SocketAddr), usize>,
}

impl FlowTable {
    /// Adds one Ethernet frame. Frames without TCP and packets of connections whose SYN is not in
    /// the capture are left out.
    pub fn add(&mut self, at: Nanos, frame: &[u8]) -> Result<()> {
        let sliced = SlicedPacket::from_ethernet(frame).context("dissect a frame")?;
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { return Ok(()) };
        let (source, destination, ttl) = match sliced.net {
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header();
                (header.source_addr().into(), header.destination_addr().into(), header.ttl())
            }
            Some(NetSlice::Ipv6(ip)) => {
                let header = ip.header();
                (header.source_addr().into(), header.destination_addr().into(), header.hop_limit())
            }
            _ => return Ok(()),
        };
        let source = SocketAddr::new(source, tcp.source_port());
        let destination = SocketAddr::new(destination, tcp.destination_port());
        let payload = u64::try_from(tcp.payload().len())?;
        let packet = Packet { at, ttl, payload, tcp };
        if packet.tcp.syn() && !packet.tcp.ack() && !self.knows(source, destination, &packet) {
            self.newest.insert((source, destination), self.flows.len());
            self.flows.push(new_flow(source, destination, &packet));
        } else if let Some(&index) = self.newest.get(&(source, destination)) {
            self.flows[index].packet(&packet, Direction::FromClient);
        } else if let Some(&index) = self.newest.get(&(destination, source)) {
            self.flows[index].packet(&packet, Direction::FromServer);
        }
        Ok(())
    }

    /// Whether a SYN is a retransmission of one seen before.
    fn knows(&self, source: SocketAddr, destination: SocketAddr, packet: &Packet<'_>) -> bool {
        self.newest.get(&(source, destination)).is_some_and(|&index| {
            self.flows[index].initial_sequence == packet.tcp.sequence_number()
        })
    }

    /// The connections in the order of their SYNs.
    pub fn into_flows(self) -> Vec<Flow> {
        self.flows
    }
}

fn new_flow(client: SocketAddr, server: SocketAddr, packet: &Packet<'_>) -> Flow {
    let initial_sequence = packet.tcp.sequence_number();
    Flow {
        client,
        server,
        initial_sequence,
        syn: packet.at,
        syn_retransmits: 0,
        established: None,
        first_received: None,
        last: packet.at,
        sent: Payload::default(),
        received: Payload::default(),
        received_before_close: 0,
        retransmitted_segments: 0,
        progress: Vec::new(),
        closings: Vec::new(),
        client_fin_is_answer: false,
        client_fin_acked: None,
        server_ttl: None,
        client_stream: Stream::starting_at(initial_sequence),
        server_stream: Stream::default(),
    }
}
