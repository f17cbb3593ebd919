//! Postfix to Postfix: messages per connection and owners, with the connection cache on demand and by
//! destination, in cleartext and under TLS, against the logs of both ends.

use std::time::Duration;

use tests::{
    capture::Capture,
    comparison::{self, Times},
    lab::Lab,
    needs,
    postfix::{self, Delivery, Postfix, RECEIVER_NAME, Starttls},
    recording::Record,
    served::{self, Method, Served},
    tracer::{Run, Tracer},
};

const MAILS: usize = 12;

/// A setting of the sending instance.
type Setting = (&'static str, &'static str);

/// One connection at a time, kept for the next mail.
const BY_DESTINATION: [Setting; 2] = [
    ("smtp_connection_cache_destinations", "static:all"),
    ("smtp_destination_concurrency_limit", "1"),
];
/// As Postfix comes: the cache is used when mails follow each other closely. Two connections at a time,
/// so that they do.
const ON_DEMAND: [Setting; 2] =
    [("smtp_connection_cache_on_demand", "yes"), ("smtp_destination_concurrency_limit", "2")];
const CLEARTEXT: [Setting; 1] = [("smtp_tls_security_level", "none")];
const TLS: [Setting; 2] = [("smtp_tls_security_level", "may"), ("smtp_tls_connection_reuse", "no")];
const REUSED_TLS: [Setting; 2] =
    [("smtp_tls_security_level", "may"), ("smtp_tls_connection_reuse", "yes")];

/// What was recorded and what the two logs say.
struct Outcome {
    run: Run,
    deliveries: Vec<Delivery>,
    served: Vec<Served>,
}

/// Sends the mails and checks what depends on neither TLS nor the cache.
fn send(starttls: Starttls, settings: [&[Setting]; 2]) -> Outcome {
    comparison::undisturbed(|| Ok(send_once(starttls, settings))).unwrap()
}

fn send_once(starttls: Starttls, settings: [&[Setting]; 2]) -> (Times, Outcome) {
    let lab = Lab::up().unwrap();
    let receiver = Postfix::receiver(&lab, lab.server_v4(), starttls).unwrap();
    let sender = Postfix::sender(&lab, lab.server_v4(), &settings.concat()).unwrap();
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("c0.pcap")).unwrap();
    let tracer = Tracer::start(&lab).unwrap();

    postfix::submit(&lab, MAILS, 1_000).unwrap();
    let mut deliveries = sender.wait_for_deliveries(MAILS, Duration::from_secs(40)).unwrap();
    // A process may log its delivery after the next one has delivered.
    deliveries.sort_by_key(|delivery| delivery.conn_use.unwrap_or(1));
    lab.wait_for_ends(Duration::from_secs(15)).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    let flows = capture.stop().unwrap();
    let served = receiver.wait_for_served(flows.len()).unwrap();

    assert!(deliveries.iter().all(|delivery| delivery.status == "sent"), "{deliveries:?}");
    served::ensure_conn_use_agrees(&deliveries, &served).unwrap();
    let pairs = comparison::pair(&run.recording.connections, &flows).unwrap();
    let times = comparison::compare_times(&pairs).unwrap();
    let senders: Vec<u64> = deliveries.iter().map(|delivery| delivery.pid.into()).collect();
    for pair in pairs {
        comparison::ensure_bytes_agree(pair).unwrap();
        comparison::ensure_cause_agrees(pair).unwrap();
        let record = pair.record;
        assert_eq!(record.known("banner_code").unwrap(), 220, "{}", record.json());
        assert_eq!(record.text("banner_host").unwrap(), Some(RECEIVER_NAME), "{}", record.json());
        assert_eq!(record.text("comm").unwrap(), Some("smtp"), "{}", record.json());
        // The process that connected, not one that got the connection from the cache.
        assert!(senders.contains(&record.known("pid").unwrap()), "{}", record.json());
    }
    (times, Outcome { run, deliveries, served })
}

impl Outcome {
    /// The record of the connection that carried all mails; fails if there were several.
    fn single(&self) -> &Record {
        let record = self.run.recording.single().unwrap();
        assert_eq!(self.deliveries.last().unwrap().conn_use, u32::try_from(MAILS).ok());
        let first = u64::from(self.deliveries[0].pid);
        assert_eq!(record.known("pid").unwrap(), first, "{}", record.json());
        // The cache closes what it kept too long. Under TLS a `close_notify` comes before, and the server's
        // FIN may answer that before our own is sent: the first FIN decides, as the capture agrees.
        let ours = record.ensure_ending([Some("local_fin"), Some("idle"), None]);
        let theirs = record.ensure_ending([Some("peer_fin"), Some("reuse"), None]);
        let encrypted = record.text("tls").unwrap() == Some("starttls");
        assert!(ours.is_ok() || encrypted && theirs.is_ok(), "{}", record.json());
        record
    }

    fn ensure_counts_agree(&self, method: Method) -> served::Tally {
        let records = &self.run.recording.connections;
        served::ensure_counts_agree(records, &self.served, method).unwrap()
    }
}

/// The names of its owners in order.
fn owners(record: &Record) -> Vec<&str> {
    record.owners().unwrap().into_iter().map(|(_, comm)| comm).collect()
}

#[test]
fn cached_connection_in_cleartext() {
    needs!(Namespaces, Tracer, Tcpdump, Postfix, Openssl);
    let outcome = send(Starttls::None, [&BY_DESTINATION, &CLEARTEXT]);
    outcome.ensure_counts_agree(Method::Replies);
    let record = outcome.single();
    assert_eq!(record.text("tls").unwrap(), Some("none"), "{}", record.json());
    assert_eq!(record.number("tls_handshake_us").unwrap(), None, "{}", record.json());
    // The cache keeps it for two seconds after the last mail.
    let idle = record.known("end_idle_us").unwrap();
    assert!((1_500_000..3_000_000).contains(&idle), "{}", record.json());
    assert_eq!(record.field("replies").unwrap()["354"], MAILS, "{}", record.json());
    // EHLO, then per mail the envelope, the body, and RSET before all mails but the first.
    assert_eq!(record.known("turns").unwrap(), 3 * MAILS as u64, "{}", record.json());

    // Each process that delivered in turn, and the cache, which closes what it kept too long.
    let mut deliverers: Vec<u64> = outcome.deliveries.iter().map(|it| it.pid.into()).collect();
    deliverers.dedup();
    let mut owners = record.owners().unwrap();
    assert_eq!(owners.pop().unwrap().1, "scache", "{}", record.json());
    let expected: Vec<_> = deliverers.iter().map(|pid| (*pid, "smtp")).collect();
    assert_eq!(owners, expected, "{}", record.json());
}

#[test]
fn cached_connection_under_tls() {
    needs!(Namespaces, Tracer, Tcpdump, Postfix, Openssl);
    let outcome = send(Starttls::Offered, [&BY_DESTINATION, &REUSED_TLS]);
    assert_eq!(outcome.ensure_counts_agree(Method::Lengths).unknown, 0);
    let record = outcome.single();
    assert_eq!(record.text("tls").unwrap(), Some("starttls"), "{}", record.json());
    let handshake = record.known("tls_handshake_us").unwrap();
    assert!((100..5_000_000).contains(&handshake), "{}", record.json());
    // Nothing that went over the encrypted session is taken for a reply in cleartext.
    assert_eq!(record.field("replies").unwrap().get("354"), None, "{}", record.json());
    // tlsproxy takes the connection over at the handshake and keeps it.
    assert_eq!(owners(record), ["smtp", "tlsproxy"], "{}", record.json());
}

/// Without `smtp_tls_connection_reuse` the cache cannot keep a session under TLS.
fn check_single_use(outcome: &Outcome) {
    assert_eq!(outcome.served.len(), MAILS, "{:?}", outcome.served);
    assert_eq!(outcome.ensure_counts_agree(Method::Lengths).unknown, 0);
    for record in &outcome.run.recording.connections {
        assert_eq!(record.text("tls").unwrap(), Some("starttls"), "{}", record.json());
        assert_eq!(owners(record), ["smtp"], "{}", record.json());
    }
}

#[test]
fn by_destination_under_tls_without_reuse() {
    needs!(Namespaces, Tracer, Tcpdump, Postfix, Openssl);
    check_single_use(&send(Starttls::Offered, [&BY_DESTINATION, &TLS]));
}

#[test]
fn on_demand_under_tls_without_reuse() {
    needs!(Namespaces, Tracer, Tcpdump, Postfix, Openssl);
    check_single_use(&send(Starttls::Offered, [&ON_DEMAND, &TLS]));
}

#[test]
fn on_demand_in_cleartext() {
    needs!(Namespaces, Tracer, Tcpdump, Postfix, Openssl);
    send(Starttls::None, [&ON_DEMAND, &CLEARTEXT]).ensure_counts_agree(Method::Replies);
}

#[test]
fn on_demand_under_tls() {
    needs!(Namespaces, Tracer, Tcpdump, Postfix, Openssl);
    send(Starttls::Offered, [&ON_DEMAND, &REUSED_TLS]).ensure_counts_agree(Method::Lengths);
}
