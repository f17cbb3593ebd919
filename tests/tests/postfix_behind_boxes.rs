//! Postfix with a long cache time behind boxes that forget sooner.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{thread, time::Duration};

use tests::{
    lab::{Lab, SERVER_V4},
    middlebox::{Manner, Middlebox},
    postfix::{self, Delivery, Postfix, Starttls},
    prerequisite::{Prerequisite, skipped},
    recording::Recording,
    tracer::Tracer,
};

const NEEDS: [Prerequisite; 4] =
    [Prerequisite::Namespaces, Prerequisite::Tracer, Prerequisite::Postfix, Prerequisite::Openssl];
/// After which the box forgets, and what lies between the mails.
const LIMIT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_secs(5);
/// How long Postfix waits for the answer to the RSET that tries a cached session.
const RSET_TIMEOUT: Duration = Duration::from_secs(4);

const SETTINGS: [(&str, &str); 6] = [
    ("smtp_connection_cache_destinations", "static:all"),
    ("smtp_connection_cache_time_limit", "60s"),
    ("connection_cache_ttl_limit", "60s"),
    ("smtp_rset_timeout", "4s"),
    ("smtp_tls_security_level", "may"),
    ("smtp_tls_connection_reuse", "yes"),
];

/// Sends two mails with a pause in between.
fn two_mails(starttls: Starttls, manner: Option<Manner>) -> (Recording, Vec<Delivery>) {
    let lab = Lab::up().unwrap();
    let _receiver = Postfix::receiver(&lab, lab.server_v4(), starttls).unwrap();
    let sender = Postfix::sender(&lab, lab.server_v4(), &SETTINGS).unwrap();
    let middlebox = Middlebox::before(SERVER_V4);
    let _middlebox =
        manner.map(|manner| middlebox.forgetting(LIMIT, manner).install(&lab).unwrap());
    let tracer = Tracer::start(&lab).unwrap();
    postfix::submit(&lab, 1, 1_000).unwrap();
    sender.wait_for_deliveries(1, Duration::from_secs(20)).unwrap();
    thread::sleep(PAUSE);
    postfix::submit(&lab, 1, 1_000).unwrap();
    let deliveries = sender.wait_for_deliveries(2, Duration::from_secs(30)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    assert!(deliveries.iter().all(|delivery| delivery.status == "sent"), "{deliveries:?}");
    (run.recording, deliveries)
}

/// The session of the first mail died on reuse; the second mail took another.
fn check_dead(recording: &Recording, deliveries: &[Delivery], cause: &str) {
    let mut records: Vec<_> = recording.connections.iter().collect();
    records.sort_by_key(|record| record.start().unwrap());
    let [dead, alive] = records.as_slice() else { panic!("{records:?}") };
    dead.ensure_ending([Some(cause), Some("reuse"), Some("middlebox")]).unwrap();
    // Postfix logs whole mails, and how long the second one took to get a connection.
    let idle = Duration::from_micros(dead.known("end_idle_us").unwrap());
    assert!(idle > PAUSE && idle < PAUSE + Duration::from_secs(2), "{}", dead.json());
    let cost = Duration::from_micros(dead.known("end_unanswered_us").unwrap()).as_secs_f64();
    let logged = deliveries[1].delays[2];
    assert!(cost <= logged + 0.1 && logged < cost + 1.0, "{logged} {}", dead.json());
    assert_eq!(dead.field("keepalive").unwrap(), true, "{}", dead.json());
    assert_eq!(dead.known("keepalive_idle_s").unwrap(), 7_200, "{}", dead.json());
    alive.ensure_ending([Some("open"), None, None]).unwrap();
    // The log says nothing of a dead session: the second mail is only no reuse.
    assert_eq!(deliveries[1].conn_use, None);
}

#[test]
fn long_cache_time() {
    if skipped("long_cache_time", &NEEDS) {
        return;
    }
    thread::scope(|scope| {
        let silent = scope.spawn(|| two_mails(Starttls::None, Some(Manner::Silent)));
        let reset = scope.spawn(|| two_mails(Starttls::Offered, Some(Manner::ResetOnReuse)));
        let no_box = scope.spawn(|| two_mails(Starttls::Offered, None));

        let (recording, deliveries) = silent.join().unwrap();
        check_dead(&recording, &deliveries, "unanswered");
        let cost =
            recording.connections.iter().find_map(|it| it.number("end_unanswered_us").unwrap());
        let cost = Duration::from_micros(cost.unwrap());
        assert!(cost.abs_diff(RSET_TIMEOUT) < Duration::from_millis(500), "{cost:?}");

        let (recording, deliveries) = reset.join().unwrap();
        check_dead(&recording, &deliveries, "rst_received");

        let (recording, deliveries) = no_box.join().unwrap();
        assert_eq!(deliveries[1].conn_use, Some(2));
        recording.single().unwrap().ensure_ending([Some("open"), None, None]).unwrap();
    });
}
