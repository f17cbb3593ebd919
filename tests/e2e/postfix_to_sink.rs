//! Postfix to smtp-sink: every record against the capture without the connection cache, and with it the
//! messages per connection against the log of Postfix and the counters of smtp-sink.

use std::{cmp::Reverse, time::Duration};

use tests::{
    capture::Capture,
    comparison::{self, Pair, Times},
    lab::Lab,
    needs,
    postfix::{self, Delivery, Postfix},
    served::{self, Method},
    sink::Sink,
    tracer::Tracer,
};

const MAILS: usize = 23;

#[test]
fn twenty_three_sessions_agree_with_the_capture() {
    needs!(Namespaces, Tracer, Tcpdump, Postfix);
    comparison::undisturbed(|| Ok((send_without_cache(), ()))).unwrap();
}

fn send_without_cache() -> Times {
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
    let times = comparison::compare_times(&pairs).unwrap();
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
    times
}

/// How many mails each connection carried, the most first. `conn_use=` says the how-manieth of its connection
/// a mail was; as many mails are the n-th of theirs as connections carried n or more. The order of the log says
/// nothing: a process may log its delivery after the next one has delivered.
fn uses(deliveries: &[Delivery]) -> Vec<u32> {
    let most = deliveries.iter().filter_map(|it| it.conn_use).max().unwrap_or(1);
    let mut uses = Vec::new();
    for nth in 1..=most {
        let carried = deliveries.iter().filter(|it| it.conn_use.unwrap_or(1) == nth).count();
        uses.resize(uses.len().max(carried), 0);
        uses[..carried].fill(nth);
    }
    uses
}

/// Sends mails over one connection at a time and checks the counts. Returns the mails per connection.
fn send_with_cache(settings: &[(&str, &str)]) -> Vec<u32> {
    let lab = Lab::up().unwrap();
    let sink = Sink::start(&lab.server, lab.server_v4(), &["-c"]).unwrap();
    let one_at_a_time = [("smtp_destination_concurrency_limit", "1")];
    let settings = [&one_at_a_time, settings].concat();
    let sender = Postfix::sender(&lab, lab.server_v4(), &settings).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    postfix::submit(&lab, MAILS, 2_000).unwrap();
    let deliveries = sender.wait_for_deliveries(MAILS, Duration::from_secs(30)).unwrap();
    lab.wait_for_ends(Duration::from_secs(10)).unwrap();
    let recording = tracer.stop_cleanly().unwrap().recording;

    let uses = uses(&deliveries);
    let mails = u32::try_from(MAILS).unwrap();
    assert_eq!(uses.iter().sum::<u32>(), mails, "{deliveries:?}");
    assert_eq!(sink.stop().unwrap(), (u32::try_from(uses.len()).unwrap(), mails));
    let mut records: Vec<_> = recording.connections.iter().collect();
    records.sort_by_key(|record| Reverse(record.number("transactions").unwrap()));
    assert_eq!(records.len(), uses.len(), "{records:?}");
    for (record, messages) in records.into_iter().zip(&uses) {
        served::ensure_count(record, *messages, Method::Replies).unwrap();
    }
    println!("mails per connection: {uses:?}");
    uses
}

#[test]
fn cache_by_destination() {
    needs!(Namespaces, Tracer, Postfix);
    let uses = send_with_cache(&[("smtp_connection_cache_destinations", "static:all")]);
    assert_eq!(uses, [u32::try_from(MAILS).unwrap()]);
}

#[test]
fn cache_on_demand() {
    needs!(Namespaces, Tracer, Postfix);
    send_with_cache(&[("smtp_connection_cache_on_demand", "yes")]);
}
