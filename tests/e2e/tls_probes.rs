//! Messages under TLS, counted by probes on the TLS library, against the server's own count.

use std::{collections::HashMap, process::Command, thread, time::Duration};

use nix::sys::signal::Signal;
use tests::{
    lab::Lab,
    namespace, needs,
    postfix::{self, Postfix, Starttls},
    prerequisite::find_program,
    recording::Record,
    tls_client::{TlsClient, library_of, python_ssl_module},
    tracer::{self, Run, Tracer},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(40);
/// One connection at a time, kept for the next mail by tlsproxy(8).
const REUSE: [(&str, &str); 4] = [
    ("smtp_connection_cache_destinations", "static:all"),
    ("smtp_destination_concurrency_limit", "1"),
    ("smtp_tls_security_level", "encrypt"),
    ("smtp_tls_connection_reuse", "yes"),
];
const NO_REUSE: [(&str, &str); 1] = [("smtp_tls_security_level", "encrypt")];

/// The OpenSSL that smtp(8) is linked to.
fn library_of_postfix() -> String {
    let output =
        namespace::run(Command::new("postconf").args(["-d", "-h", "daemon_directory"])).unwrap();
    let directory = String::from_utf8(output.stdout).unwrap();
    library_of(&format!("{}/smtp", directory.trim()), "libssl").unwrap()
}

fn library_of_python() -> String {
    library_of(&python_ssl_module().unwrap(), "libssl").unwrap()
}

fn start(lab: &Lab, library: &str) -> Tracer {
    Tracer::start_with(lab, &["--tls-probes", "--tls-library", library]).unwrap()
}

/// How many messages the server counted in each session, by the client's port.
fn served(receiver: &Postfix, sessions: usize) -> HashMap<u64, u64> {
    let sessions = receiver.wait_for_served(sessions).unwrap();
    sessions.iter().map(|it| (it.client.port().into(), it.messages.into())).collect()
}

fn method(record: &Record) -> Option<&str> {
    record.text("transactions_method").unwrap()
}

/// Every session was counted by the probes, and as the server counted it.
fn ensure_exact(run: &Run, served: &HashMap<u64, u64>) {
    let records = &run.recording.connections;
    assert_eq!(records.len(), served.len(), "{}", run.stderr);
    for record in records {
        let start = record.text("start").unwrap();
        println!("{start:?}, by {:?}: {:?}", record.owners().unwrap(), method(record));
    }
    for record in records {
        assert_eq!(method(record), Some("tls-probes"), "{}\n{}", record.json(), run.stderr);
        assert_eq!(record.field("transactions_exact").unwrap(), true, "{}", record.json());
        let port = record.known("sport").unwrap();
        assert_eq!(record.known("transactions").unwrap(), served[&port], "{}", record.json());
        // Nothing that was decrypted is kept but the number.
        assert_eq!(record.field("replies").unwrap().get("354"), None, "{}", record.json());
    }
}

#[test]
fn tlsproxy_with_many_messages_in_one_session() {
    needs!(Namespaces, Tracer, Postfix, Openssl);
    let lab = Lab::up().unwrap();
    let receiver = Postfix::receiver(&lab, lab.server_v4(), Starttls::Offered).unwrap();
    let sender = Postfix::sender(&lab, lab.server_v4(), &REUSE).unwrap();
    let tracer = start(&lab, &library_of_postfix());
    postfix::submit(&lab, 12, 1_000).unwrap();
    sender.wait_for_deliveries(12, PATIENCE).unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    let served = served(&receiver, 1);
    let run = tracer.stop_cleanly().unwrap();
    ensure_exact(&run, &served);
    assert_eq!(served.values().sum::<u64>(), 12);
    let record = run.recording.single().unwrap();
    assert!(record.known("tls_handshake_us").unwrap() > 0, "{}", record.json());
    let counted = "Counted by decrypted replies: 1 connection";
    assert!(run.stdout.contains(counted), "{}", run.stdout);
}

#[test]
fn library_is_found_by_the_processes_that_connect() {
    needs!(Namespaces, Tracer, Postfix, Openssl);
    let lab = Lab::up().unwrap();
    let receiver = Postfix::receiver(&lab, lab.server_v4(), Starttls::Offered).unwrap();
    let sender = Postfix::sender(&lab, lab.server_v4(), &NO_REUSE).unwrap();
    let tracer = Tracer::start_with(&lab, &["--tls-probes"]).unwrap();
    // The handshake of the first session may come before its library is found.
    postfix::submit(&lab, 1, 1_000).unwrap();
    wait::until("the record of the first session", PATIENCE, || {
        Ok((!tracer.recording_so_far()?.connections.is_empty()).then_some(()))
    })
    .unwrap();
    tracer.wait_until_said("attached to").unwrap();
    postfix::submit(&lab, 5, 1_000).unwrap();
    sender.wait_for_deliveries(6, PATIENCE).unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    let served = served(&receiver, 6);
    let mut run = tracer.stop_cleanly().unwrap();
    let first = run.recording.connections.remove(0);
    let mut rest = served.clone();
    let count = rest.remove(&first.known("sport").unwrap()).unwrap();
    first.ensure_right_or_unknown("transactions", count).unwrap();
    ensure_exact(&run, &rest);
    let library = library_of_postfix();
    let name = library.rsplit('/').next().unwrap();
    assert!(run.stderr.contains(name), "{}", run.stderr);
    let hooks = run.recording.trailer().unwrap()["trust"]["hooks"].as_array().unwrap().clone();
    let hook = hooks.iter().find(|it| it["hook"].as_str().unwrap().ends_with(name)).unwrap();
    assert_eq!(hook["state"], "attached", "{hook}");
}

#[test]
fn python_client_with_long_replies() {
    needs!(Namespaces, Tracer, Postfix, Openssl, Python);
    let lab = Lab::up().unwrap();
    let receiver = Postfix::receiver(&lab, lab.server_v4(), Starttls::Offered).unwrap();
    let tracer = start(&lab, &library_of_python());
    // Sixty recipients: replies of more than a piece, whose cuts fall anywhere in a line.
    let sessions: [&[&str]; 3] = [&["3x1", "2x60"], &[], &["1x90"]];
    for actions in sessions {
        TlsClient::python(&lab.client, lab.server_v4(), actions).unwrap().finish().unwrap();
    }
    lab.wait_for_ends(PATIENCE).unwrap();
    let served = served(&receiver, 3);
    let run = tracer.stop_cleanly().unwrap();
    ensure_exact(&run, &served);
    let mut counts: Vec<u64> = served.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 1, 5]);
}

#[test]
fn gnutls_client() {
    needs!(Namespaces, Tracer, Postfix, Openssl, Gnutls);
    let lab = Lab::up().unwrap();
    let receiver = Postfix::receiver(&lab, lab.server_v4(), Starttls::Offered).unwrap();
    let program = find_program("gnutls-cli").unwrap();
    let tracer = start(&lab, &library_of(program.to_str().unwrap(), "libgnutls.so").unwrap());
    let message = "MAIL FROM:<a@mta-a.test>\nRCPT TO:<b@sink.test>\nDATA\nSubject: x\n\nbody\n.\n";
    for messages in [1, 4] {
        let lines = format!("EHLO lab.test\n{}QUIT\n", message.repeat(messages));
        TlsClient::gnutls(&lab.client, lab.server_v4(), &lines).unwrap().finish().unwrap();
    }
    lab.wait_for_ends(PATIENCE).unwrap();
    let served = served(&receiver, 2);
    let run = tracer.stop_cleanly().unwrap();
    ensure_exact(&run, &served);
    assert_eq!(served.values().sum::<u64>(), 5);
}

/// A session whose handshake the probes did not see, and one whose replies were lost on the way: no
/// claim to be exact, and no wrong number.
#[test]
fn incomplete_sessions_fall_back() {
    needs!(Namespaces, Tracer, Postfix, Openssl, Python);
    let lab = Lab::up().unwrap();
    let receiver = Postfix::receiver(&lab, lab.server_v4(), Starttls::Offered).unwrap();
    let library = library_of_python();
    let tracer = Tracer::start_with(
        &lab,
        &["--tls-probes", "--tls-library", &library, "--ring-size", "4096"],
    )
    .unwrap();
    let actions = ["1x1", "wait", "12x1", "wait", "1x1"];
    let mut client = TlsClient::python(&lab.client, lab.server_v4(), &actions).unwrap();
    client.wait_for_pause().unwrap();
    tracer.signal(Signal::SIGSTOP).unwrap();
    client.go_on().unwrap();
    client.wait_for_pause().unwrap();
    tracer.signal(Signal::SIGCONT).unwrap();
    // Long enough for smtptrace to empty its buffer, or the record itself would be lost too.
    thread::sleep(Duration::from_millis(1_500));
    client.go_on().unwrap();
    client.finish().unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    let served = served(&receiver, 1);
    let run = tracer.stop().unwrap();
    assert!(run.recording.trust("events_lost").unwrap() > Some(0), "{}", run.stdout);
    let record = run.recording.single().unwrap();
    assert_ne!(method(record), Some("tls-probes"), "{}", record.json());
    assert_eq!(record.field("transactions_exact").unwrap(), false, "{}", record.json());
    let count = *served.values().next().unwrap();
    assert_eq!(count, 14);
    record.ensure_right_or_unknown("transactions", count).unwrap();
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    needs!(Namespaces, Tracer, Postfix, Openssl);
    for (arguments, reason) in [
        (&["--tls-probes", "--tls-library", "/etc/passwd"][..], "libssl.so"),
        (&["--tls-probes", "--tls-library", "/proc/self/exe"], "neither SSL_read nor"),
        (&["--tls-probes", "--tls-library", "/no/such/file"], "No such file"),
        (&["--tls-probes", "--no-replies"], "--no-replies"),
        (&["--tls-library", "/etc/passwd"], "--tls-probes"),
    ] {
        let output = tracer::command([arguments, &["--duration", "1s"]].concat()).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
    }
}
