//! Sockets that the kernel reads by itself, on top of whatever process it has interrupted.

use std::time::Duration;

use tests::{lab::Lab, needs, session::Session, sink::Sink, sockmap::Sockmap, tracer::Tracer};

const PATIENCE: Duration = Duration::from_secs(10);

/// The server is another process: it runs while the kernel reads what it has sent.
#[test]
fn interrupted_process_is_no_owner() {
    needs!(Namespaces, Tracer, Postfix);
    for hooks in ["auto", "raw"] {
        let lab = Lab::up().unwrap();
        let _sink = Sink::start(&lab.server, lab.server_v4(), &[]).unwrap();
        let tracer = Tracer::start_with(&lab, &["--hooks", hooks]).unwrap();
        let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
        session.begin().unwrap();
        let sockmap = Sockmap::with(&session).unwrap();
        for _ in 0..50 {
            session.command("NOOP", "250").unwrap();
        }
        session.close();
        drop(sockmap);
        lab.wait_for_ends(PATIENCE).unwrap();
        let run = tracer.stop().unwrap();
        let record = run.recording.single().unwrap();
        let owners = record.owners().unwrap();
        assert_eq!(owners.len(), 1, "--hooks {hooks}: {owners:?}");
        assert_eq!(owners[0].0, u64::from(std::process::id()), "--hooks {hooks}: {owners:?}");
    }
}
