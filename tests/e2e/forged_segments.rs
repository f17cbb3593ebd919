//! Segments that the kernel refuses, because they are outside of the window: they change nothing.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use etherparse::PacketBuilder;
use socket2::{Domain, Protocol, Socket, Type};
use tests::{lab::Lab, needs, recording::Record, server::Server, session::Session, tracer::Tracer};

const PATIENCE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_millis(1_500);
/// TTL of the server's packets when they arrive.
const SERVER_TTL: u64 = 63;
/// TTL of the forged packets.
const FORGED_TTL: u8 = 9;
const TEXT: &[u8] = b"421 4.4.2 server.test timeout\r\n";

/// What a forged segment does.
#[derive(Clone, Copy)]
enum Kind {
    Data,
    Fin,
    Reset,
}

/// Sends the client of `session` segments in the name of its server, from the router: four that are spread over the
/// space of sequence numbers. Which ones are ahead of the window nobody knows here, but at least one is, and one
/// is behind it; that one is within it happens once in some ten thousand runs.
fn forge(session: &Session, kind: Kind) -> Result<()> {
    let (server, client) = (session.server()?, session.local());
    let socket = Socket::new(
        Domain::for_address(server),
        Type::RAW,
        Some(Protocol::from(nix::libc::IPPROTO_RAW)),
    )?;
    let builder = || match (server.ip(), client.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            Ok(PacketBuilder::ipv4(from.octets(), to.octets(), FORGED_TTL))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Ok(PacketBuilder::ipv6(from.octets(), to.octets(), FORGED_TTL))
        }
        _ => bail!("two families in one session"),
    };
    for quarter in 0..4_u32 {
        let sequence = quarter << 30 | 0x1234;
        let segment = builder()?.tcp(server.port(), client.port(), sequence, 1_000).ack(1);
        let (segment, payload): (_, &[u8]) = match kind {
            Kind::Data => (segment.psh(), TEXT),
            Kind::Fin => (segment.fin(), TEXT),
            Kind::Reset => (segment.rst(), b""),
        };
        let mut packet = Vec::with_capacity(segment.size(payload.len()));
        segment.write(&mut packet, payload)?;
        // The port of the address means nothing to a raw socket.
        socket.send_to(&packet, &SocketAddr::new(client.ip(), 0).into())?;
    }
    Ok(())
}

/// Traces a session that idles, with forged segments in the middle of that.
fn trace(to: impl Fn(&Lab) -> SocketAddr, kinds: &[Kind]) -> (Record, Duration) {
    let lab = Lab::up().unwrap();
    let script = tests::server::Script::mail_server("220 server.test ESMTP");
    let _server = Server::start(&lab.server, to(&lab), script).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let mut session = Session::connect(&lab.client, to(&lab)).unwrap();
    let greeted = session.reply().unwrap();
    assert!(greeted.starts_with("220"), "{greeted}");
    let before = Instant::now();
    session.command("EHLO client.test", "250").unwrap();
    let start = Instant::now();
    thread::sleep(IDLE / 2);
    for kind in kinds {
        lab.router.enter("forger", || forge(&session, *kind)).unwrap();
    }
    thread::sleep(IDLE.saturating_sub(start.elapsed()));
    session.command("NOOP", "250").unwrap();
    let most = before.elapsed();
    session.message(700).unwrap();
    session.quit().unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    (tracer.stop_cleanly().unwrap().recording.single().unwrap().clone(), most)
}

/// The gap is all of the idle time, which the forged segments do not cut in two; `most` is from the command before it to
/// the answer after it.
fn check((record, most): &(Record, Duration)) {
    let gap = Duration::from_micros(record.known("idle_max_survived_us").unwrap());
    assert!((IDLE..=*most).contains(&gap), "{gap:?}, {most:?}: {}", record.json());
    // EHLO, NOOP, MAIL, RCPT, DATA, body, QUIT.
    assert_eq!(record.known("turns").unwrap(), 7, "{}", record.json());
    assert_eq!(record.known("transactions").unwrap(), 1, "{}", record.json());
    let replies = serde_json::json!({"220": 1, "221": 1, "250": 5, "354": 1});
    assert_eq!(record.field("replies").unwrap(), &replies, "{}", record.json());
    assert_eq!(record.known("peer_ttl").unwrap(), SERVER_TTL, "{}", record.json());
    assert_eq!(record.known("fin_ttl").unwrap(), SERVER_TTL, "{}", record.json());
}

#[test]
fn segments_outside_of_the_window_change_nothing() {
    needs!(Namespaces, Tracer);
    for to in [Lab::server_v4, Lab::server_v6] {
        check(&trace(to, &[Kind::Data]));
        check(&trace(to, &[Kind::Fin, Kind::Reset, Kind::Data]));
    }
}
