//! Postfix to Postfix with the connection cache on: many mails, one connection.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tests::{
    capture::Capture,
    comparison,
    lab::Lab,
    postfix::{self, Delivery, Postfix, RECEIVER_NAME, Starttls},
    prerequisite::{Prerequisite, skipped},
    tracer::{Run, Tracer},
};

const MAILS: usize = 12;
const NEEDS: [Prerequisite; 5] = [
    Prerequisite::Namespaces,
    Prerequisite::Tracer,
    Prerequisite::Tcpdump,
    Prerequisite::Postfix,
    Prerequisite::Openssl,
];
/// One connection at a time, kept for the next mail.
const CACHED: [(&str, &str); 2] = [
    ("smtp_connection_cache_destinations", "static:all"),
    ("smtp_destination_concurrency_limit", "1"),
];

/// Sends the mails and checks what does not depend on TLS.
fn send_over_one_connection(starttls: Starttls, settings: &[(&str, &str)]) -> (Run, Vec<Delivery>) {
    let lab = Lab::up().unwrap();
    let _receiver = Postfix::receiver(&lab, lab.server_v4(), starttls).unwrap();
    let settings = [&CACHED, settings].concat();
    let sender = Postfix::sender(&lab, lab.server_v4(), &settings).unwrap();
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("c0.pcap")).unwrap();
    let tracer = Tracer::start(&lab).unwrap();

    postfix::submit(&lab, MAILS, 1_000).unwrap();
    let deliveries = sender.wait_for_deliveries(MAILS, Duration::from_secs(40)).unwrap();
    lab.wait_for_ends(Duration::from_secs(15)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let flows = capture.stop().unwrap();

    assert!(deliveries.iter().all(|delivery| delivery.status == "sent"), "{deliveries:?}");
    assert_eq!(deliveries.last().unwrap().conn_use, u32::try_from(MAILS).ok());
    let record = run.recording.single().unwrap();
    let pairs = comparison::pair(&run.recording.connections, &flows).unwrap();
    comparison::ensure_times_agree(&pairs).unwrap();
    comparison::ensure_bytes_agree(pairs[0]).unwrap();
    comparison::ensure_cause_agrees(pairs[0]).unwrap();
    assert_eq!(record.known("banner_code").unwrap(), 220, "{}", record.json());
    assert_eq!(record.text("banner_host").unwrap(), Some(RECEIVER_NAME), "{}", record.json());
    assert_eq!(record.text("comm").unwrap(), Some("smtp"), "{}", record.json());
    // The process that connected, not one that got the connection from the cache.
    assert_eq!(record.known("pid").unwrap(), u64::from(deliveries[0].pid), "{}", record.json());
    (run, deliveries)
}

#[test]
fn cached_connection_in_cleartext() {
    if skipped("cached_connection_in_cleartext", &NEEDS) {
        return;
    }
    let settings = [("smtp_tls_security_level", "none")];
    let (run, _) = send_over_one_connection(Starttls::None, &settings);
    let record = run.recording.single().unwrap();
    assert_eq!(record.text("tls").unwrap(), Some("none"), "{}", record.json());
    assert_eq!(record.number("tls_handshake_us").unwrap(), None, "{}", record.json());
    // The cache keeps it for two seconds after the last mail.
    let idle = record.known("end_idle_us").unwrap();
    assert!((1_500_000..3_000_000).contains(&idle), "{}", record.json());
    record.ensure_right_or_unknown("end_during", "idle").unwrap();
    assert_eq!(record.field("replies").unwrap()["354"], MAILS, "{}", record.json());
    // EHLO, then per mail the envelope, the body, and RSET before all mails but the first.
    assert_eq!(record.known("turns").unwrap(), 3 * MAILS as u64, "{}", record.json());
    assert_eq!(record.known("transactions").unwrap(), MAILS as u64, "{}", record.json());
    assert_eq!(record.text("transactions_method").unwrap(), Some("replies"), "{}", record.json());
    assert_eq!(record.field("transactions_exact").unwrap(), true, "{}", record.json());
    let owners = record.field("owners").unwrap().as_array().unwrap();
    let comm = |owner: &serde_json::Value| owner["comm"].as_str().unwrap().to_owned();
    assert_eq!(comm(owners.first().unwrap()), "smtp", "{}", record.json());
    // The cache closes what it kept too long.
    assert_eq!(comm(owners.last().unwrap()), "scache", "{}", record.json());
}

#[test]
fn cached_connection_under_tls() {
    if skipped("cached_connection_under_tls", &NEEDS) {
        return;
    }
    let settings = [("smtp_tls_security_level", "may"), ("smtp_tls_connection_reuse", "yes")];
    let (run, _) = send_over_one_connection(Starttls::Offered, &settings);
    let record = run.recording.single().unwrap();
    assert_eq!(record.text("tls").unwrap(), Some("starttls"), "{}", record.json());
    let handshake = record.known("tls_handshake_us").unwrap();
    assert!((100..5_000_000).contains(&handshake), "{}", record.json());
    // Nothing that went over the encrypted session is taken for a reply in cleartext.
    assert_eq!(record.field("replies").unwrap().get("354"), None, "{}", record.json());
    assert_eq!(record.known("transactions").unwrap(), MAILS as u64, "{}", record.json());
    assert_eq!(record.text("transactions_method").unwrap(), Some("tls-lengths"));
    assert_eq!(record.field("transactions_exact").unwrap(), false, "{}", record.json());
    let spans = record.field("transaction_spans_us").unwrap().as_array().unwrap();
    assert_eq!(spans.len(), MAILS, "{}", record.json());
}
