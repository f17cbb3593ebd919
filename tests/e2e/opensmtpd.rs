//! OpenSMTPD with several messages per connection, in cleartext and under TLS: counts against its own log
//! and that of the receiving Postfix.

use std::{net::SocketAddr, time::Duration};

use tests::{
    lab::{self, Lab},
    needs,
    opensmtpd::Opensmtpd,
    postfix::{Postfix, Starttls},
    recording::Record,
    served::{self, Method},
    tracer::Tracer,
};

const MAILS: usize = 5;
/// It keeps a connection for ten seconds.
const PATIENCE: Duration = Duration::from_secs(40);

#[test]
fn sessions_in_cleartext_and_under_tls() {
    needs!(Namespaces, Tracer, Postfix, Openssl, Opensmtpd);
    let lab = Lab::up().unwrap();
    let clear = lab.server_v4();
    let encrypted = SocketAddr::from((lab::server_v4(1), lab.port()));
    let receiver = Postfix::receiver(&lab, clear, Starttls::None).unwrap();
    let tls_receiver = Postfix::receiver(&lab, encrypted, Starttls::Offered).unwrap();
    let relays = [("sink.test", clear), ("tls.test", encrypted)];
    let sender = Opensmtpd::start(&lab, &relays).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    for (domain, _) in relays {
        sender.submit(domain, MAILS, 1_500).unwrap();
    }
    let mut sent = sender.wait_for_messages(2 * MAILS, PATIENCE).unwrap();
    lab.wait_for_ends(Duration::from_secs(10)).unwrap();
    let recording = tracer.stop_cleanly().unwrap().recording;

    let mut all_served = Vec::new();
    let cases = [
        (&receiver, clear, Method::Replies, "none"),
        (&tls_receiver, encrypted, Method::Lengths, "starttls"),
    ];
    for (receiver, address, method, tls) in cases {
        let to_address = |record: &&Record| record.server().unwrap() == address;
        let records: Vec<Record> =
            recording.connections.iter().filter(to_address).cloned().collect();
        let served = receiver.wait_for_served(records.len()).unwrap();
        served::ensure_counts_agree(&records, &served, method).unwrap();
        assert!(served.iter().any(|served| served.messages > 1), "{served:?}");
        all_served.extend(served.iter().map(|served| served.messages));
        for record in &records {
            assert_eq!(record.text("tls").unwrap(), Some(tls), "{}", record.json());
            // One process makes all sessions and passes none on.
            let owner = (record.known("pid").unwrap(), "smtpd");
            assert_eq!(record.owners().unwrap(), [owner], "{}", record.json());
        }
    }
    sent.sort_unstable();
    all_served.sort_unstable();
    assert_eq!(sent, all_served);
}
