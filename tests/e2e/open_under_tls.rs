//! A TLS session that is still open when the trace ends has all its messages.

use std::time::Duration;

use tests::{
    lab::Lab,
    needs,
    postfix::{self, Postfix, Starttls},
    tracer::Tracer,
};

const PATIENCE: Duration = Duration::from_secs(40);
/// One connection at a time, which stays open for the next mail.
const REUSE: [(&str, &str); 5] = [
    ("smtp_connection_cache_destinations", "static:all"),
    ("smtp_connection_cache_time_limit", "30s"),
    ("smtp_destination_concurrency_limit", "1"),
    ("smtp_tls_security_level", "encrypt"),
    ("smtp_tls_connection_reuse", "yes"),
];

#[test]
fn the_last_exchange_of_an_open_session_counts() {
    needs!(Namespaces, Tracer, Postfix, Openssl);
    for messages in [1, 4] {
        let lab = Lab::up().unwrap();
        let _receiver = Postfix::receiver(&lab, lab.server_v4(), Starttls::Offered).unwrap();
        let sender = Postfix::sender(&lab, lab.server_v4(), &REUSE).unwrap();
        let tracer = Tracer::start(&lab).unwrap();
        postfix::submit(&lab, messages, 1_500).unwrap();
        sender.wait_for_deliveries(messages, PATIENCE).unwrap();
        let run = tracer.stop_cleanly().unwrap();
        let record = run.recording.single().unwrap();
        assert_eq!(record.text("end_cause").unwrap(), Some("open"), "{}", record.json());
        assert_eq!(record.text("tls").unwrap(), Some("starttls"), "{}", record.json());
        let count = record.known("transactions").unwrap();
        assert_eq!(count, messages as u64, "{}", record.json());
    }
}
