//! A command in the SYN: TCP Fast Open.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};
use tests::{
    lab::Lab,
    needs,
    recording::Record,
    server::{Script, Server, Step},
    session::{COMM, Session, tcp_info},
    tracer::Tracer,
};

const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(600);
const EHLO: &[u8] = b"EHLO client.test\r\n";

/// Both sides take data in a SYN, without a cookie, on every listener: bits of `ip-sysctl.rst` of the kernel.
const WITHOUT_COOKIE: u32 = 0x1 | 0x2 | 0x4 | 0x200 | 0x400;
/// The client sends data in a SYN; the server does not take it, so that it is sent again behind the handshake.
const REFUSED: u32 = 0x1 | 0x4;

/// Connects and sends [`EHLO`] with the SYN; returns whether the server has taken it there.
fn connect(to: SocketAddr) -> Result<(Session, bool)> {
    const TCPI_OPT_SYN_DATA: u8 = 32;
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    let sent = socket.send_to_with_flags(EHLO, &to.into(), libc::MSG_FASTOPEN)?;
    ensure!(sent == EHLO.len(), "{sent} bytes sent");
    let taken = tcp_info(&socket)?.tcpi_options & TCPI_OPT_SYN_DATA != 0;
    Ok((Session::over(socket.into()).context("the session")?, taken))
}

/// Returns also how long the client took for the connect and the first replies.
fn trace(to: fn(&Lab) -> SocketAddr, server_takes: bool) -> (Record, Duration) {
    let lab = Lab::up().unwrap();
    lab.client.sysctl("net.ipv4.tcp_fastopen", &WITHOUT_COOKIE.to_string()).unwrap();
    let bits = if server_takes { WITHOUT_COOKIE } else { REFUSED };
    lab.server.sysctl("net.ipv4.tcp_fastopen", &bits.to_string()).unwrap();
    let script = Script::default()
        .then(Step::Command)
        .pause(PAUSE)
        .send("220 server.test ESMTP\r\n250-server.test\r\n250 PIPELINING\r\n")
        .then(Step::Serve);
    let server = Server::start(&lab.server, to(&lab), script).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let begun = Instant::now();
    let (mut session, taken) = lab.client.enter(COMM, || connect(to(&lab))).unwrap();
    assert_eq!(taken, server_takes);
    assert!(session.reply().unwrap().starts_with("220"));
    assert!(session.reply().unwrap().starts_with("250"));
    let most = begun.elapsed();
    session.message(700).unwrap();
    session.quit().unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    assert_eq!(server.failures(), Vec::<String>::new());
    (tracer.stop_cleanly().unwrap().recording.single().unwrap().clone(), most)
}

#[test]
fn command_in_the_syn_is_an_exchange() {
    needs!(Namespaces, Tracer);
    for to in [Lab::server_v4, Lab::server_v6] {
        for server_takes in [true, false] {
            let (record, most) = trace(to, server_takes);
            // EHLO, MAIL, RCPT, DATA, body, QUIT.
            assert_eq!(record.known("turns").unwrap(), 6, "{}", record.json());
            // The reply came in one segment with the greeting: what is not known is null.
            if let Some(us) = record.number("ehlo_us").unwrap() {
                let told = Duration::from_micros(us);
                assert!((PAUSE..=most).contains(&told), "{most:?}: {}", record.json());
            }
            assert_eq!(record.known("transactions").unwrap(), 1, "{}", record.json());
            let sent = record.known("bytes_sent").unwrap();
            assert!(sent > 700 + EHLO.len() as u64, "{}", record.json());
        }
    }
}
