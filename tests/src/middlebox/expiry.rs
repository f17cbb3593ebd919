//! Resets at the moment a box forgets a session. The kernel has no rule for that: a thread in the router
//! watches the packets and sends the resets in the name of either side.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read as _},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;

/// TTL and hop limit of the resets: of another kind of host than client and server.
const TTL: u8 = 128;

/// How often the sessions are looked through.
const TICK: Duration = Duration::from_millis(20);

/// The thread that watches and resets. It stops when dropped.
#[derive(Debug)]
pub(super) struct Expiry {
    stopping: Arc<AtomicBool>,
    resets: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Expiry {
    /// Watches the sessions with `server` and `port` that pass `router`, and resets each that has had no
    /// packet for `idle`.
    pub(super) fn start(
        router: &Namespace,
        server: IpAddr,
        port: u16,
        idle: Duration,
    ) -> Result<Self> {
        let (tap, raw) = router.enter("sockets", || {
            let domain = if server.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
            let ip = if server.is_ipv4() { nix::libc::ETH_P_IP } else { nix::libc::ETH_P_IPV6 };
            let ip = i32::from(u16::try_from(ip)?.to_be());
            // Cooked: each packet begins with its IP header.
            let tap = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ip)))
                .context("open a packet socket")?;
            tap.set_read_timeout(Some(TICK)).context("set the read timeout")?;
            // IPPROTO_RAW: packets are sent with the IP header that they have.
            let raw = Socket::new(domain, Type::RAW, Some(Protocol::from(nix::libc::IPPROTO_RAW)))
                .context("open a raw socket")?;
            Ok((tap, raw))
        })?;
        let (stopping, resets) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
        let mut watch = Watch { server: (server, port), idle, raw, sessions: HashMap::new() };
        let thread = thread::Builder::new()
            .name("lab-box".into())
            .spawn({
                let (stopping, resets) = (Arc::clone(&stopping), Arc::clone(&resets));
                move || watch.run(&tap, &stopping, &resets)
            })
            .context("start the box")?;
        Ok(Self { stopping, resets, thread: Some(thread) })
    }

    /// Sessions reset so far.
    pub(super) fn resets(&self) -> usize {
        self.resets.load(Ordering::SeqCst)
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A session, as its last packets show it.
#[derive(Debug, Clone, Copy)]
struct Watched {
    last: Instant,
    /// What the client and the server would send next.
    next: [Option<u32>; 2],
}

struct Watch {
    server: (IpAddr, u16),
    idle: Duration,
    raw: Socket,
    sessions: HashMap<(IpAddr, u16), Watched>,
}

impl Watch {
    fn run(&mut self, tap: &Socket, stopping: &AtomicBool, resets: &AtomicUsize) {
        let mut buffer = [0; 2048];
        while !stopping.load(Ordering::SeqCst) {
            match (&mut &*tap).read(&mut buffer) {
                Ok(length) => self.packet(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return, // the network is gone
            }
            let idle = self.idle;
            let expired = |watched: &mut Watched| watched.last.elapsed() > idle;
            let expired: Vec<_> = self.sessions.extract_if(|_, watched| expired(watched)).collect();
            for (client, watched) in expired {
                if let [Some(from_client), Some(from_server)] = watched.next
                    && self.reset(client, from_client, from_server).is_ok()
                {
                    resets.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    }

    /// Each packet is seen twice, when it comes in and when it goes out; that makes no difference.
    fn packet(&mut self, packet: &[u8]) {
        let Ok(sliced) = SlicedPacket::from_ip(packet) else { return };
        let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { return };
        let (source, destination): (IpAddr, IpAddr) = match &sliced.net {
            Some(NetSlice::Ipv4(ip)) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            Some(NetSlice::Ipv6(ip)) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            _ => return,
        };
        let (source, destination) =
            ((source, tcp.source_port()), (destination, tcp.destination_port()));
        let (client, side) = if destination == self.server {
            (source, 0)
        } else if source == self.server {
            (destination, 1)
        } else {
            return;
        };
        if tcp.rst() || tcp.fin() {
            // What follows a FIN never shows both sides again.
            self.sessions.remove(&client);
            return;
        }
        let length = u32::try_from(tcp.payload().len()).unwrap_or(0);
        let next = tcp.sequence_number().wrapping_add(length + u32::from(tcp.syn()));
        let now = Instant::now();
        let watched = self.sessions.entry(client).or_insert(Watched { last: now, next: [None; 2] });
        watched.last = now;
        watched.next[side] = Some(next);
    }

    /// Sends a reset to both sides.
    fn reset(&self, client: (IpAddr, u16), from_client: u32, from_server: u32) -> Result<()> {
        self.send(self.server, client, from_server, from_client)?;
        self.send(client, self.server, from_client, from_server)
    }

    fn send(
        &self,
        from: (IpAddr, u16),
        to: (IpAddr, u16),
        sequence: u32,
        acknowledgement: u32,
    ) -> Result<()> {
        let builder = match (from.0, to.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), TTL)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                PacketBuilder::ipv6(from.octets(), to.octets(), TTL)
            }
            _ => anyhow::bail!("two families in one session"),
        };
        let builder = builder.tcp(from.1, to.1, sequence, 0).rst().ack(acknowledgement);
        let mut packet = Vec::with_capacity(builder.size(0));
        builder.write(&mut packet, &[]).context("write a reset")?;
        // The port of the address means nothing to a raw socket.
        let address = SocketAddr::new(to.0, 0);
        self.raw.send_to(&packet, &address.into()).context("send a reset")?;
        Ok(())
    }
}
