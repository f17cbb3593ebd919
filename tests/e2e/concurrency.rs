//! How many connections were open at once.

use std::time::Duration;

use tests::{
    lab::Lab,
    needs, report,
    server::{Script, Server},
    session::Session,
    tracer::Tracer,
};

const SESSIONS: usize = 10;

/// Traces what `work` does and returns `peak_concurrency` of the server.
fn peak(lab: &Lab, work: impl FnOnce()) -> u64 {
    let script = Script::mail_server("220 server.test ESMTP");
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let tracer = Tracer::start_with(lab, &["--format", "json"]).unwrap();
    work();
    lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let report = report::parse(&run.stdout).unwrap();
    let destination = report::destination(&report, "10.71.2.2").unwrap();
    assert_eq!(destination["connections"], SESSIONS, "{destination}");
    destination["peak_concurrency"].as_u64().unwrap()
}

fn open(lab: &Lab) -> Session {
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    session
}

#[test]
fn all_at_once() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let peak = peak(&lab, || {
        let sessions: Vec<Session> = (0..SESSIONS).map(|_| open(&lab)).collect();
        for session in sessions {
            session.quit().unwrap();
        }
    });
    assert_eq!(peak, 10);
}

#[test]
fn one_after_the_other() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let peak = peak(&lab, || {
        for _ in 0..SESSIONS {
            open(&lab).quit().unwrap();
            // The last acknowledgement is still under way when the client has closed.
            lab.wait_for_ends(Duration::from_secs(5)).unwrap();
        }
    });
    assert_eq!(peak, 1);
}
