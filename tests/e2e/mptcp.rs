//! Clients that use MPTCP: their connection is that of its first subflow.

use std::{
    net::SocketAddr,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};
use tests::{
    lab::Lab,
    needs,
    prerequisite::IPPROTO_MPTCP,
    server::{Script, Server},
    session::{COMM, Session},
    tracer::Tracer,
};

const PATIENCE: Duration = Duration::from_secs(10);

fn connect(lab: &Lab, to: SocketAddr) -> Session {
    let connect = || -> Result<Session> {
        let protocol = Some(Protocol::from(IPPROTO_MPTCP));
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, protocol)?;
        socket.connect(&to.into())?;
        Session::over(socket.into())
    };
    lab.client.enter(COMM, connect).unwrap()
}

/// Serves one connection, with MPTCP.
fn serve_one(lab: &Lab, address: SocketAddr) -> JoinHandle<()> {
    let listen = || -> Result<Socket> {
        let protocol = Some(Protocol::from(IPPROTO_MPTCP));
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, protocol)?;
        socket.bind(&address.into())?;
        socket.listen(1)?;
        Ok(socket)
    };
    let listener = lab.server.enter("listen", listen).unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        Script::mail_server("220 server.test ESMTP").play(stream.into()).unwrap();
    })
}

/// The client uses a session in the trace, which begins before it if `is_older`. The server has MPTCP if `both` have;
/// else the client falls back to TCP.
fn check([is_older, both]: [bool; 2], to: impl Fn(&Lab) -> SocketAddr) {
    let lab = Lab::up().unwrap();
    let script = Script::mail_server("220 server.test ESMTP");
    let with_mptcp = both.then(|| serve_one(&lab, to(&lab)));
    let _without = (!both).then(|| Server::start(&lab.server, to(&lab), script).unwrap());
    let before = is_older.then(|| {
        let mut session = connect(&lab, to(&lab));
        session.begin().unwrap();
        session
    });
    let tracer = Tracer::start(&lab).unwrap();
    let mut session = before.unwrap_or_else(|| {
        let mut session = connect(&lab, to(&lab));
        session.begin().unwrap();
        session
    });
    session.message(2_000).unwrap();
    thread::sleep(Duration::from_millis(700));
    session.message(2_000).unwrap();
    let local = session.local();
    session.quit().unwrap();
    with_mptcp.map_or(Ok(()), JoinHandle::join).unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let record = run.recording.single().unwrap();
    assert_eq!(record.client().unwrap(), local, "{}", record.json());
    assert_eq!(record.known("pid").unwrap(), u64::from(std::process::id()), "{}", record.json());
    let owners = record.owners().unwrap();
    assert_eq!(owners.len(), 1, "{owners:?}");
    assert_eq!(owners[0].0, u64::from(std::process::id()), "{owners:?}");
    if is_older {
        assert_eq!(record.text("seen_from").unwrap(), Some("midlife"), "{}", record.json());
    } else {
        assert_eq!(record.known("transactions").unwrap(), 2, "{}", record.json());
        assert!(!record.field("idle_gaps_us").unwrap().as_array().unwrap().is_empty());
    }
}

#[test]
fn client_has_one_record_and_owns_it() {
    needs!(Namespaces, Tracer, Mptcp);
    check([false, false], Lab::server_v4);
    check([false, true], Lab::server_v4);
    check([false, true], Lab::server_v6);
}

#[test]
fn session_older_than_the_trace_is_found() {
    needs!(Namespaces, Tracer, Mptcp);
    check([true, false], Lab::server_v4);
    check([true, true], Lab::server_v6);
}
