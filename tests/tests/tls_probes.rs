//! Messages under TLS, counted by probes on the TLS library, against the server's own count.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tests::{
    lab::Lab,
    postfix::{self, Postfix, Starttls},
    prerequisite::{Prerequisite, skipped},
    tracer::Tracer,
};

const NEEDS: [Prerequisite; 4] =
    [Prerequisite::Namespaces, Prerequisite::Tracer, Prerequisite::Postfix, Prerequisite::Openssl];

#[test]
fn one_session_of_tlsproxy_many_messages() {
    if skipped("one_session_of_tlsproxy_many_messages", &NEEDS) {
        return;
    }
    let lab = Lab::up().unwrap();
    let _receiver = Postfix::receiver(&lab, lab.server_v4(), Starttls::Offered).unwrap();
    let settings = [
        ("smtp_connection_cache_destinations", "static:all"),
        ("smtp_destination_concurrency_limit", "1"),
        ("smtp_tls_security_level", "may"),
        ("smtp_tls_connection_reuse", "yes"),
    ];
    let sender = Postfix::sender(&lab, lab.server_v4(), &settings).unwrap();
    let tracer = Tracer::start_with(
        &lab,
        &[
            "--tls-probes",
            "--tls-library",
            "/usr/lib/x86_64-linux-gnu/libssl.so.3",
            "--measure-overhead",
        ],
    )
    .unwrap();
    postfix::submit(&lab, 12, 1_000).unwrap();
    sender.wait_for_deliveries(12, Duration::from_secs(40)).unwrap();
    lab.wait_for_ends(Duration::from_secs(15)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    println!("{}\n{}", run.stderr, run.stdout);
    let record = run.recording.single().unwrap();
    println!("{}", record.json());
    assert_eq!(record.text("transactions_method").unwrap(), Some("tls-probes"));
}
