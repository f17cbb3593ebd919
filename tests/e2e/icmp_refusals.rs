//! A filter that has forgotten a session, and answers its reuse by ICMP: the session is dead, whatever TCP calls it.

use std::{net::SocketAddr, thread, time::Duration};

use nix::errno::Errno;
use tests::{
    lab::{Lab, server_v4, server_v6},
    needs, report,
    server::{Script, Server},
    session::{Session, SocketKind},
    tracer::{self, Tracer},
};

const PATIENCE: Duration = Duration::from_secs(20);
const IDLE: Duration = Duration::from_millis(1_500);
const USER_TIMEOUT: Duration = Duration::from_millis(1_200);

/// What the filter answers, what the client then sees, and who is suspected.
const REFUSALS: [(&str, bool, Errno, Option<&str>); 5] = [
    ("icmp port-unreachable", false, Errno::ECONNREFUSED, Some("middlebox")),
    ("icmp admin-prohibited", false, Errno::EHOSTUNREACH, None),
    ("icmp net-unreachable", false, Errno::ENETUNREACH, None),
    ("icmpv6 port-unreachable", true, Errno::ECONNREFUSED, Some("middlebox")),
    ("icmpv6 admin-prohibited", true, Errno::EACCES, Some("middlebox")),
];

#[test]
fn refusal_by_icmp_is_a_death_on_reuse() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    lab.router.sysctl("net.ipv4.icmp_ratelimit", "0").unwrap();
    lab.router.sysctl("net.ipv6.icmp.ratelimit", "0").unwrap();
    let sessions: Vec<(SocketAddr, _)> = (0..)
        .zip(REFUSALS)
        .map(|(at, refusal)| {
            let ip = if refusal.1 { server_v6(at).into() } else { server_v4(at).into() };
            (SocketAddr::new(ip, lab.port()), refusal)
        })
        .collect();
    let _servers: Vec<_> = sessions
        .iter()
        .map(|(at, _)| {
            Server::start(&lab.server, *at, Script::mail_server("220 server.test ESMTP")).unwrap()
        })
        .collect();
    let tracer = Tracer::start(&lab).unwrap();
    let mut open: Vec<_> = sessions
        .iter()
        .map(|(at, _)| {
            let prepare =
                |socket: &socket2::Socket| socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
            let native = SocketKind::Native;
            let mut session = Session::connect_with(&lab.client, *at, native, prepare).unwrap();
            session.begin().unwrap();
            session.message(700).unwrap();
            session
        })
        .collect();
    thread::sleep(IDLE);
    let rules: Vec<String> = sessions
        .iter()
        .map(|(at, (answer, v6, ..))| {
            let family = if *v6 { "ip6" } else { "ip" };
            format!("{family} daddr {} tcp dport {} reject with {answer}", at.ip(), at.port())
        })
        .collect();
    lab.router_rules(&format!(
        "table inet box {{\n chain path {{\n type filter hook forward priority filter; policy \
         accept;\n {}\n }}\n}}\n",
        rules.join("\n")
    ))
    .unwrap();
    for session in &mut open {
        session.send(b"RSET\r\n").unwrap();
    }
    for (session, (_, (answer, _, errno, _))) in open.iter_mut().zip(&sessions) {
        let error = session.wait_for_end(PATIENCE).unwrap().unwrap();
        assert_eq!(error.raw_os_error(), Some(*errno as i32), "{answer}: {error}");
    }
    drop(open);
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let said = tracer::command([
        "report".as_ref(),
        run.file.as_os_str(),
        "--format".as_ref(),
        "json".as_ref(),
    ]);
    let report = report::parse(&String::from_utf8(said.unwrap().stdout).unwrap()).unwrap();
    for (at, (answer, _, _, suspect)) in &sessions {
        let records = run.recording.connections.iter();
        let record = records.clone().find(|it| it.server().unwrap() == *at).unwrap();
        println!("{answer}: {}", record.json());
        record.ensure_ending([Some("timeout"), Some("reuse"), *suspect]).unwrap();
        assert!(record.known("end_idle_us").unwrap() >= 1_400_000, "{}", record.json());
        let destination = report::destination(&report, &at.ip().to_string()).unwrap();
        assert_eq!(destination["idle_limit"]["dead_on_reuse"], 1, "{destination:#}");
        assert_eq!(destination["died"], 1, "{destination:#}");
    }
}
