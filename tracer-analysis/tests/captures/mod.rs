//! Captures, read into turns as the kernel side cuts them.

use std::collections::HashMap;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use tracer_common::record::Turn;

/// A turn, and how many segments each side sent in it.
pub(crate) struct CutTurn {
    pub(crate) turn: Turn,
    pub(crate) client_segments: u32,
    pub(crate) server_segments: u32,
}

/// A connection of a capture.
#[derive(Default)]
pub(crate) struct Cut {
    pub(crate) turns: Vec<CutTurn>,
    /// The turn in which TLS began.
    pub(crate) hello: Option<usize>,
    /// What the server said before.
    pub(crate) clear: Vec<u8>,
    /// Sequence numbers expected next from client and server.
    next: [u32; 2],
    /// The server spoke last.
    answered: bool,
}

/// The connections of a capture, in order of their SYN.
pub(crate) fn connections(pcap: &[u8]) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = Vec::new();
    let mut by_ends: HashMap<[(Vec<u8>, u16); 2], usize> = HashMap::new();
    for (time_ns, packet) in packets(pcap) {
        let (Some(net), Some(TransportSlice::Tcp(tcp))) = (&packet.net, &packet.transport) else {
            continue;
        };
        let [from, to] = addresses(net).map(<[u8]>::to_vec);
        let ends = [(from, tcp.source_port()), (to, tcp.destination_port())];
        let back = [ends[1].clone(), ends[0].clone()];
        let after = tcp.sequence_number().wrapping_add(1);
        if tcp.syn() && !tcp.ack() {
            let known = by_ends.get(&ends).is_some_and(|at| cuts[*at].next[0] == after);
            if !known {
                by_ends.insert(ends, cuts.len());
                cuts.push(Cut { next: [after, 0], ..Cut::default() });
            }
        } else if let Some(at) = by_ends.get(&ends) {
            cuts[*at].client(tcp.sequence_number(), tcp.payload(), time_ns);
        } else if let Some(at) = by_ends.get(&back) {
            if tcp.syn() {
                cuts[*at].next[1] = after;
            }
            cuts[*at].server(tcp.sequence_number(), tcp.payload(), time_ns);
        }
    }
    cuts
}

impl Cut {
    /// New bytes of a segment; 0 for a retransmission.
    fn advance(&mut self, side: usize, sequence: u32, payload: &[u8]) -> u32 {
        let end = sequence.wrapping_add(u32::try_from(payload.len()).unwrap());
        let new = end.wrapping_sub(self.next[side]).cast_signed();
        if payload.is_empty() || new <= 0 {
            return 0;
        }
        self.next[side] = end;
        new.cast_unsigned()
    }

    fn client(&mut self, sequence: u32, payload: &[u8], time_ns: u64) {
        let new = self.advance(0, sequence, payload);
        if new == 0 {
            return;
        }
        if self.turns.is_empty() || self.answered {
            let turn = Turn {
                start_ns: time_ns,
                first_byte_ns: 0,
                last_write_ns: time_ns,
                last_ns: time_ns,
                client_bytes: 0,
                server_bytes: 0,
            };
            self.turns.push(CutTurn { turn, client_segments: 0, server_segments: 0 });
            self.answered = false;
        }
        let current = self.turns.last_mut().unwrap();
        current.turn.client_bytes += new;
        current.turn.last_write_ns = time_ns;
        current.turn.last_ns = time_ns;
        current.client_segments += 1;
    }

    fn server(&mut self, sequence: u32, payload: &[u8], time_ns: u64) {
        let new = self.advance(1, sequence, payload);
        if new > 0 && payload.starts_with(&[22, 3]) {
            self.hello.get_or_insert(self.turns.len().wrapping_sub(1));
        }
        if new > 0 && self.hello.is_none() {
            self.clear.extend_from_slice(payload);
        }
        let Some(current) = self.turns.last_mut().filter(|_| new > 0) else { return };
        if current.turn.first_byte_ns == 0 {
            current.turn.first_byte_ns = time_ns;
        }
        current.turn.server_bytes += new;
        current.turn.last_ns = time_ns;
        current.server_segments += 1;
        self.answered = true;
    }
}

fn addresses<'a>(net: &'a NetSlice<'a>) -> [&'a [u8]; 2] {
    match net {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().slice();
            [&header[12..16], &header[16..20]]
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().slice();
            [&header[8..24], &header[24..40]]
        }
        NetSlice::Arp(_) => [&[], &[]],
    }
}

/// Times in nanoseconds, and packets from the IP header on.
fn packets(pcap: &[u8]) -> Vec<(u64, SlicedPacket<'_>)> {
    let word = |at: usize| u32::from_le_bytes(pcap[at..at + 4].try_into().unwrap());
    let unit = if word(0) == 0xa1b2_3c4d { 1 } else { 1_000 };
    let link_bytes = match word(20) {
        1 => 14,
        113 => 16,
        276 => 20,
        other => panic!("link type {other}"),
    };
    let mut packets = Vec::new();
    let mut at = 24;
    while at + 16 <= pcap.len() {
        let time_ns = u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4)) * unit;
        let end = at + 16 + word(at + 8) as usize;
        if let Ok(packet) = SlicedPacket::from_ip(&pcap[at + 16 + link_bytes..end]) {
            packets.push((time_ns, packet));
        }
        at = end;
    }
    packets
}
