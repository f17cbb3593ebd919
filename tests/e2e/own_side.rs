//! What goes wrong on this side is not blamed on the server: connects without a free source port, and
//! clients whose patience is shorter than the path.

use std::{net::SocketAddr, thread, time::Duration};

use serde_json::Value;
use tests::{
    lab::{Lab, server_v4, server_v6},
    namespace::Namespace,
    needs, report,
    server::{Script, Server},
    session::{Session, failing_connect, give_up_connect},
    tracer::{self, Run, Tracer},
};

/// Codes that blame the server or the path.
const BLAME: [&str; 5] =
    ["throttled", "rate_limited", "concurrency_limited", "retry_storm", "family_asymmetry"];

fn mail_server(lab: &Lab, at: SocketAddr) -> Server {
    Server::start(&lab.server, at, Script::mail_server("220 server.test ESMTP")).unwrap()
}

/// Opens `n` sessions, each of which carries a message.
fn sessions(client: &Namespace, to: SocketAddr, n: usize) -> Vec<Session> {
    let open = |_| {
        let mut session = Session::connect(client, to).unwrap();
        session.begin().unwrap();
        session.message(100).unwrap();
        session
    };
    (0..n).map(open).collect()
}

/// The report on a run, with all servers of the lab as one destination.
fn report_on(run: &Run) -> Value {
    let file = run.file.to_str().unwrap();
    let arguments = ["report", "--group-by", "host", "--format", "json", file];
    let output = tracer::command(arguments).unwrap();
    report::parse(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

fn blamed(report: &Value) -> Vec<&Value> {
    let verdicts = report["verdicts"].as_array().unwrap();
    verdicts.iter().filter(|it| BLAME.iter().any(|code| it["code"] == *code)).collect()
}

/// Either no record, or one that says why: a connect that the kernel refuses sends no SYN.
#[test]
fn no_free_source_port() {
    needs!(Namespaces, Tracer);
    for hooks in [&[][..], &["--hooks", "raw"]] {
        let lab = Lab::up().unwrap();
        lab.client.run("sysctl", ["-qw", "net.ipv4.ip_local_port_range=40000 40003"]).unwrap();
        let servers = [lab.server_v4(), lab.server_v6()];
        let _listening = servers.map(|at| mail_server(&lab, at));
        let tracer = Tracer::start_with(&lab, hooks).unwrap();
        let mut refused = 0;
        for _ in 0..2 {
            for to in servers {
                let held = sessions(&lab.client, to, 4); // all ports that there are
                for _ in 0..4 {
                    let failed = failing_connect(&lab.client, to).unwrap();
                    assert_eq!(failed.error.raw_os_error(), Some(99), "{failed:?}"); // EADDRNOTAVAIL
                    refused += 1;
                }
                for session in held {
                    session.quit().unwrap();
                }
                lab.wait_for_ends(Duration::from_secs(5)).unwrap();
            }
        }
        // The raw tier reads no replies here, and counts those as lost.
        let run = tracer.stop().unwrap();
        let records = &run.recording.connections;
        assert_eq!(run.recording.trust("connections_lost").unwrap(), Some(0), "{hooks:?}");
        let failed: Vec<_> =
            records.iter().filter(|it| it.number("connect_us").unwrap().is_none()).collect();
        assert!([0, refused].contains(&failed.len()), "{hooks:?}: {failed:?}");
        for record in failed {
            let text = |name| record.text(name).unwrap();
            assert_eq!(text("connect_error"), Some("EADDRNOTAVAIL"), "{}", record.json());
            assert_eq!(text("end_cause"), Some("connect_error"), "{}", record.json());
        }
        let report = report_on(&run);
        assert_eq!(blamed(&report), [&Value::Null; 0], "{hooks:?}");
    }
}

/// A client that tries both families gives IPv6 up when IPv4 has answered. With more patience the same
/// silence is a dead family.
#[test]
fn patience_shorter_than_the_path() {
    needs!(Namespaces, Tracer);
    for (patience, dead) in
        [(Duration::from_millis(250), false), (Duration::from_millis(2_200), true)]
    {
        let lab = Lab::up().unwrap();
        let v4 = SocketAddr::from((server_v4(1), lab.port()));
        let v6 = SocketAddr::from((server_v6(1), lab.port()));
        let _listening = [v4, v6].map(|at| mail_server(&lab, at));
        let tracer = Tracer::start(&lab).unwrap();
        // Greeted over IPv6 once, so that both are the same host.
        for to in [v4, v6] {
            for session in sessions(&lab.client, to, 1) {
                session.quit().unwrap();
            }
        }
        let port = lab.port();
        lab.router_drop(&format!("meta nfproto ipv6 tcp dport {port}")).unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| give_up_connect(&lab.client, v6, patience).unwrap());
                for session in sessions(&lab.client, v4, 1) {
                    session.quit().unwrap();
                }
            }
        });
        lab.wait_for_ends(Duration::from_secs(5)).unwrap();
        let run = tracer.stop_cleanly().unwrap();
        let report = report_on(&run);
        let families = &report["totals"]["families"];
        assert_eq!(families["ipv6"]["failures"]["gave_up"], 8, "{families}");
        let blamed = blamed(&report);
        if !dead {
            assert_eq!(blamed, [&Value::Null; 0], "after {patience:?}");
            continue;
        }
        let asymmetry = blamed.iter().find(|it| it["code"] == "family_asymmetry");
        let asymmetry = asymmetry.unwrap_or_else(|| panic!("{report:#}"));
        assert_eq!(asymmetry["evidence"]["worse"], "IPv6", "{asymmetry:#}");
        assert_eq!(asymmetry["evidence"]["ipv6_connects_ended_here"], 0, "{asymmetry:#}");
    }
}
