//! One user's connections do not fill the table for everybody.

use std::{io, net::TcpStream, time::Duration};

use nix::libc;
use tests::{
    lab::Lab,
    needs,
    server::{Script, Server},
    tracer::Tracer,
};

/// Entries of the table; an eighth of them is kept.
const TABLE: usize = 80;
const KEPT: usize = TABLE / 8;

/// Opens `count` connections as the user `uid`.
fn open(lab: &Lab, uid: u32, count: usize) -> Vec<TcpStream> {
    let connect = || {
        // The call itself changes the user of this thread only; the C library would change that of all.
        // SAFETY: three numbers, and nothing else depends on the user of this thread.
        let done = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
        if done != 0 {
            return Err(io::Error::last_os_error().into());
        }
        Ok((0..count).map(|_| TcpStream::connect(lab.server_v4()).unwrap()).collect())
    };
    lab.client.enter("mail", connect).unwrap()
}

fn close(lab: &Lab, connections: Vec<TcpStream>) {
    drop(connections);
    lab.wait_for_ends(Duration::from_secs(15)).unwrap();
}

#[test]
fn the_rest_of_the_table_is_for_users_that_hold_less() {
    const HOG: u32 = 61_001;
    const OTHER: u32 = 61_002;
    needs!(Namespaces, Tracer);
    for hooks in [&[][..], &["--hooks", "raw"]] {
        let lab = Lab::up().unwrap();
        let script = Script::mail_server("220 server.test ESMTP");
        let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
        let room = TABLE.to_string();
        let arguments = [&["--max-connections", &room][..], hooks].concat();
        let tracer = Tracer::start_with(&lab, &arguments).unwrap();
        // Twice: what is closed is given back.
        for _ in 0..2 {
            let hog = open(&lab, HOG, TABLE + KEPT);
            let other = open(&lab, OTHER, KEPT);
            close(&lab, hog.into_iter().chain(other).collect());
        }
        let run = tracer.stop().unwrap();
        assert!(run.status.success(), "{}", run.stderr);
        let of = |uid: u32| {
            let records = run.recording.connections.iter();
            records.filter(|record| record.known("uid").unwrap() == u64::from(uid)).count()
        };
        assert_eq!((of(HOG), of(OTHER)), (2 * (TABLE - KEPT), 2 * KEPT), "{hooks:?}");
        let trust = |name| run.recording.trust(name).unwrap().unwrap();
        let refused = 2 * 2 * KEPT as u64;
        assert_eq!(
            (trust("over_quota"), trust("connections_lost")),
            (refused, refused),
            "{hooks:?}"
        );
        // The kernel's; that of smtptrace itself holds what has ended until it is drained.
        let hooks = &run.recording.trailer.as_ref().unwrap()["trust"]["hooks"];
        let full = hooks.as_array().unwrap().iter().map(|hook| hook["map_full"].as_u64().unwrap());
        assert_eq!(full.sum::<u64>(), 0, "the table was never full: {hooks}");
    }
}
