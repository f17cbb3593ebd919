//! Exim with several messages per connection: counts against the log of the receiving Postfix, owners
//! against the processes that Exim says delivered.

use std::{net::SocketAddr, time::Duration};

use tests::{
    exim::QueueRun,
    lab::Lab,
    needs,
    postfix::{Postfix, Starttls},
    recording::Recording,
    served::{self, Method, Tally},
    tracer::Tracer,
};

const MAILS: usize = 6;
/// Without BDAT.
const DATA: &[(&str, &str)] = &[("hosts_try_chunking", "")];
/// With BDAT, as Exim comes.
const BDAT: &[(&str, &str)] = &[];
/// TLS ends with each message, and the next process begins anew in cleartext.
const TLS_NOT_PASSED_ON: &[(&str, &str)] =
    &[("hosts_try_chunking", ""), ("hosts_noproxy_tls", "*")];

/// A queue run that was traced.
struct Outcome {
    recording: Recording,
    sent: QueueRun,
    tally: Tally,
}

/// A network with a server.
struct Path<'a> {
    lab: &'a Lab,
    address: SocketAddr,
    receiver: &'a Postfix,
    /// Connections of earlier queue runs.
    connections: usize,
}

impl Path<'_> {
    /// Traces a queue run and checks its counts against the server's.
    fn send(&mut self, settings: &[(&str, &str)], method: Method) -> Outcome {
        let tracer = Tracer::start(self.lab).unwrap();
        let sent = QueueRun::send(self.lab, self.address, MAILS, 2_000, settings).unwrap();
        self.lab.wait_for_ends(Duration::from_secs(10)).unwrap();
        let recording = tracer.stop_cleanly().unwrap().recording;
        let all = self.receiver.wait_for_served(self.connections + sent.connections()).unwrap();
        let served = &all[self.connections..];
        self.connections = all.len();
        let tally = served::ensure_counts_agree(&recording.connections, served, method).unwrap();
        let messages: u32 = served.iter().map(|served| served.messages).sum();
        assert_eq!(usize::try_from(messages).unwrap(), MAILS, "{served:?}");
        Outcome { recording, sent, tally }
    }
}

impl Outcome {
    /// The process ids of the owners of the only connection; all are Exim's.
    fn owners(&self) -> Vec<u64> {
        let record = self.recording.single().unwrap();
        let owners = record.owners().unwrap();
        assert!(owners.iter().all(|(_, comm)| *comm == "exim4"), "{}", record.json());
        owners.into_iter().map(|(pid, _)| pid).collect()
    }
}

#[test]
fn a_connection_in_cleartext_goes_from_process_to_process() {
    needs!(Namespaces, Tracer, Postfix, Openssl, Exim);
    let lab = Lab::up().unwrap();
    let address = lab.server_v4();
    let receiver = Postfix::receiver(&lab, address, Starttls::None).unwrap();
    let mut path = Path { lab: &lab, address, receiver: &receiver, connections: 0 };
    for (settings, method) in [(DATA, Method::Replies), (BDAT, Method::RepliesOrUnknown)] {
        let outcome = path.send(settings, method);
        let deliverers = outcome.sent.deliverers().unwrap();
        assert_eq!(deliverers.len(), MAILS, "{deliverers:?}");
        assert_eq!(outcome.owners(), deliverers);
    }
}

#[test]
fn a_tls_session_stays_with_one_process_or_ends() {
    needs!(Namespaces, Tracer, Postfix, Openssl, Exim);
    let lab = Lab::up().unwrap();
    let address = lab.server_v4();
    let receiver = Postfix::receiver(&lab, address, Starttls::Offered).unwrap();
    let mut path = Path { lab: &lab, address, receiver: &receiver, connections: 0 };
    for settings in [DATA, BDAT] {
        let outcome = path.send(settings, Method::Lengths);
        assert!(settings == BDAT || outcome.tally.unknown == 0);
        let deliverers = outcome.sent.deliverers().unwrap();
        assert_eq!(deliverers.len(), MAILS, "{deliverers:?}");
        // The first one makes the session. It forks to keep it, and its parent goes on.
        assert_eq!(outcome.owners(), [deliverers[0], outcome.sent.tls_proxy().unwrap()]);
    }
    // Postfix takes no cleartext after TLS: each message needs a connection.
    let outcome = path.send(TLS_NOT_PASSED_ON, Method::Lengths);
    let first: Vec<u64> =
        outcome.recording.connections.iter().map(|it| it.known("pid").unwrap()).collect();
    assert_eq!(first, outcome.sent.deliverers().unwrap());
}
