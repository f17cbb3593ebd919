//! Postfix to smtp-sink, one connection per mail: every record against the capture.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tests::{
    capture::Capture,
    comparison::{self, Pair},
    lab::Lab,
    postfix::{self, Postfix},
    prerequisite::{Prerequisite, skipped},
    sink::Sink,
    tracer::Tracer,
};

const MAILS: usize = 23;

#[test]
fn twenty_three_sessions_agree_with_the_capture() {
    if skipped(
        "twenty_three_sessions_agree_with_the_capture",
        &[
            Prerequisite::Namespaces,
            Prerequisite::Tracer,
            Prerequisite::Tcpdump,
            Prerequisite::Postfix,
        ],
    ) {
        return;
    }
    let lab = Lab::up().unwrap();
    let _sink = Sink::start(&lab.server, lab.server_v4(), &[]).unwrap();
    let settings = [("smtp_connection_cache_on_demand", "no")];
    let sender = Postfix::sender(&lab, lab.server_v4(), &settings).unwrap();
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("c0.pcap")).unwrap();
    let tracer = Tracer::start(&lab).unwrap();

    postfix::submit(&lab, MAILS, 3_000).unwrap();
    let deliveries = sender.wait_for_deliveries(MAILS, Duration::from_secs(30)).unwrap();
    lab.wait_for_ends(Duration::from_secs(10)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let flows = capture.stop().unwrap();

    assert_eq!(deliveries.iter().filter(|delivery| delivery.status == "sent").count(), MAILS);
    assert_eq!(run.recording.connections.len(), MAILS, "{}", run.stderr);
    let pairs = comparison::pair(&run.recording.connections, &flows).unwrap();
    comparison::ensure_times_agree(&pairs).unwrap();
    let netns = lab.client.inode().unwrap();
    let senders: Vec<u64> = deliveries.iter().map(|delivery| delivery.pid.into()).collect();
    for pair in pairs {
        comparison::ensure_bytes_agree(pair).unwrap();
        comparison::ensure_cause_agrees(pair).unwrap();
        let Pair { record, .. } = pair;
        assert_eq!(record.text("comm").unwrap(), Some("smtp"), "{}", record.json());
        assert!(senders.contains(&record.known("pid").unwrap()), "{}", record.json());
        assert_eq!(record.known("netns").unwrap(), netns, "{}", record.json());
        assert_eq!(record.text("seen_from").unwrap(), Some("connect"), "{}", record.json());
        assert!(record.known("turns").unwrap() > 0, "{}", record.json());
        assert_eq!(record.known("retransmits").unwrap(), 0, "{}", record.json());
        assert_eq!(record.known("banner_code").unwrap(), 220, "{}", record.json());
        assert_eq!(record.known("transactions").unwrap(), 1, "{}", record.json());
    }
}
