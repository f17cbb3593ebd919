//! Connects that fail in ways of their own: each has its record at once, with the reason.

use std::{net::SocketAddr, thread, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tests::{
    lab::Lab,
    needs,
    recording::Recording,
    server::Server,
    session::{COMM, Session},
    tracer::Tracer,
    wait,
};

const PATIENCE: Duration = Duration::from_secs(10);

fn socket(to: SocketAddr) -> anyhow::Result<Socket> {
    Ok(Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?)
}

/// Records so far, once there are `count`.
fn recorded(tracer: &Tracer, count: usize) -> Recording {
    wait::until("records", PATIENCE, || {
        let recording = tracer.recording_so_far()?;
        Ok((recording.connections.len() >= count).then_some(recording))
    })
    .unwrap()
}

fn texts(recording: &Recording, name: &str) -> Vec<Option<String>> {
    let text = |record: &tests::recording::Record| record.text(name).unwrap().map(str::to_owned);
    recording.connections.iter().map(text).collect()
}

/// The socket of a connect that was refused lives on: unused, or for a port that is not traced.
#[test]
fn refused_connect_has_its_record_at_once() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let other = SocketAddr::new(lab.server_v4().ip(), lab.port() + 1);
    let listener = tests::server::listen(&lab.server, other).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let refused = |to: SocketAddr| {
        lab.client
            .enter(COMM, || {
                let socket = socket(to)?;
                let error = socket.connect(&to.into()).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::ECONNREFUSED as i32));
                Ok(socket)
            })
            .unwrap()
    };
    let unused = refused(lab.server_v4());
    recorded(&tracer, 1);
    let used = refused(SocketAddr::from((tests::lab::server_v4(1), lab.port())));
    used.connect(&other.into()).unwrap();
    let recording = recorded(&tracer, 2);
    assert_eq!(texts(&recording, "connect_error"), vec![Some("ECONNREFUSED".to_owned()); 2]);
    // A session that ends without a close, too: the socket is told to forget its peer.
    let (ended, _ending) = connect_and_forget(&lab);
    ended.connect(&other.into()).unwrap();
    recorded(&tracer, 3);
    drop((unused, used, ended, listener));
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    assert_eq!(run.recording.connections.len(), 3, "each has one record: {:?}", run.recording);
}

/// A socket that had a session, and was then disconnected by `connect` to no address.
fn connect_and_forget(lab: &Lab) -> (Socket, Server) {
    let server = Server::mail(lab).unwrap();
    let socket = lab
        .client
        .enter(COMM, || {
            let socket = socket(lab.server_v4())?;
            socket.connect(&lab.server_v4().into())?;
            Ok(socket)
        })
        .unwrap();
    let nowhere = nix::libc::sockaddr {
        sa_family: u16::try_from(nix::libc::AF_UNSPEC).unwrap(),
        sa_data: [0; 14],
    };
    // SAFETY: the address is that of a `sockaddr`, and its length the right one.
    let result = unsafe {
        nix::libc::connect(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            &raw const nowhere,
            u32::try_from(size_of_val(&nowhere)).unwrap(),
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    (socket, server)
}

/// A connect that the path refuses while the call still holds the socket: the application learns the error by
/// `SO_ERROR`, which the kernel then forgets.
#[test]
fn icmp_error_is_no_close_of_ours() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    lab.router_rules(&format!(
        "table inet refusing {{ chain path {{ type filter hook forward priority filter;\n\
         ip daddr {} tcp dport {} reject with icmp host-unreachable\n\
         ip daddr {} tcp dport {} reject with icmp admin-prohibited\n\
         ip6 daddr {} tcp dport {} reject with icmpv6 addr-unreachable\n }}\n}}\n",
        lab.server_v4().ip(),
        lab.port(),
        tests::lab::server_v4(1),
        lab.port(),
        lab.server_v6().ip(),
        lab.port()
    ))
    .unwrap();
    for (ip, takes_error, errno) in [
        (lab.server_v4().ip(), true, nix::errno::Errno::EHOSTUNREACH),
        (lab.server_v4().ip(), false, nix::errno::Errno::EHOSTUNREACH),
        (tests::lab::server_v4(1).into(), true, nix::errno::Errno::EHOSTUNREACH),
        (lab.server_v6().ip(), false, nix::errno::Errno::EHOSTUNREACH),
    ] {
        let to = SocketAddr::new(ip, lab.port());
        let tracer = Tracer::start(&lab).unwrap();
        lab.client
            .enter(COMM, || {
                let socket = socket(to)?;
                socket.set_nonblocking(true)?;
                assert!(socket.connect(&to.into()).is_err());
                thread::sleep(Duration::from_millis(100));
                if takes_error {
                    let error = socket.take_error()?.and_then(|error| error.raw_os_error());
                    assert_eq!(error, Some(errno as i32), "{to}");
                }
                Ok(())
            })
            .unwrap();
        let run = tracer.stop_cleanly().unwrap();
        let record = run.recording.single().unwrap();
        let name = format!("{errno:?}");
        assert_eq!(record.text("connect_error").unwrap(), Some(name.as_str()), "{}", record.json());
        record.ensure_ending([Some("connect_error"), Some("connect"), None]).unwrap();
    }
}

/// All source ports are taken: no SYN leaves, and nobody but this host is to blame.
#[test]
fn no_free_port_is_told() {
    needs!(Namespaces, Tracer);
    for hooks in ["auto", "raw"] {
        let lab = Lab::up().unwrap();
        let _server = Server::mail(&lab).unwrap();
        let tracer = Tracer::start_with(&lab, &["--hooks", hooks]).unwrap();
        lab.client.sysctl("net.ipv4.ip_local_port_range", "40000 40003").unwrap();
        let held: Vec<Session> =
            (0..4).map(|_| Session::connect(&lab.client, lab.server_v4()).unwrap()).collect();
        let failure = tests::session::failing_connect(&lab.client, lab.server_v4()).unwrap();
        let errno = Some(nix::errno::Errno::EADDRNOTAVAIL as i32);
        assert_eq!(failure.error.raw_os_error(), errno, "{failure:?}");
        drop(held);
        lab.wait_for_ends(PATIENCE).unwrap();
        let run = tracer.stop().unwrap();
        let failed: Vec<_> = texts(&run.recording, "connect_error").into_iter().flatten().collect();
        assert_eq!(failed, ["EADDRNOTAVAIL"], "--hooks {hooks}: {:?}", run.recording);
    }
}
