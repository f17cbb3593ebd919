//! Every way to talk SMTP, over every kind of TLS: messages per connection against the count of the server.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use tests::{
    dialogue::{self, Server},
    lab::{self, Lab},
    needs,
    recording::Record,
    served::{self, Method},
    tracer::Tracer,
};

/// What mail servers do all day: even under TLS there must be a count.
const ORDINARY: [&str; 7] = [
    "no-message",
    "one-message",
    "one-message-single",
    "pipelined",
    "recipients",
    "single",
    "twenty-messages",
];

/// How the count of a dialogue must have been made. Where the server offers CHUNKING, a count from replies
/// is exact if nothing else is possible: of what is ordinary that can be asked, of other dialogues not, and
/// of some it depends on how the network cuts them.
fn method(transport: &str, shape: &str) -> Method {
    match (transport, ORDINARY.contains(&shape)) {
        ("cleartext", true) => Method::Replies,
        ("cleartext", false) => Method::RepliesOrUnknown,
        _ => Method::Lengths,
    }
}

/// Whether there must be a count: the replies to BDAT do not always differ from those to other commands.
fn must_be_known(transport: &str, shape: &str) -> bool {
    let may_be_bdat = ["bdat", "only-"].iter().any(|part| shape.contains(part));
    ORDINARY.contains(&shape) || transport == "cleartext" && !may_be_bdat
}

#[test]
fn each_count_is_the_servers_or_unknown() {
    needs!(Namespaces, Tracer, Scripts);
    let lab = Lab::up().unwrap();
    let plain = lab.server_v4();
    let implicit = SocketAddr::from((lab::server_v4(1), lab.port()));
    let server = Server::start(&lab, plain, implicit).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let dialogues = dialogue::talk(&lab, plain, implicit).unwrap();
    lab.wait_for_ends(Duration::from_secs(10)).unwrap();
    let recording = tracer.stop_cleanly().unwrap().recording;
    let counted = server.wait_for_served(dialogues.len()).unwrap();

    let by_client: BTreeMap<_, _> = dialogues.iter().map(|it| (it.sent.client, it)).collect();
    assert_eq!(by_client.len(), dialogues.len(), "a client port came twice");
    let mut wrong = Vec::new();
    let mut known = BTreeMap::new();
    for (record, counted) in served::pair(&recording.connections, &counted).unwrap() {
        let dialogue = by_client[&counted.client];
        assert_eq!(dialogue.sent.messages, counted.messages, "the scripts disagree: {dialogue:?}");
        let tls = match dialogue.transport.split('-').next().unwrap() {
            "cleartext" => "none",
            begun => begun,
        };
        assert_eq!(record.text("tls").unwrap(), Some(tls), "{dialogue:?} {}", record.json());
        let method = method(&dialogue.transport, &dialogue.shape);
        match served::ensure_count(record, counted.messages, method) {
            Ok(false) if must_be_known(&dialogue.transport, &dialogue.shape) => {
                wrong.push(format!("{dialogue:?}: no count: {}", record.json()));
            }
            Ok(is_known) => {
                known.insert((dialogue.shape.as_str(), dialogue.transport.as_str()), is_known);
            }
            // No client is known that does this; the count must only not be called exact.
            Err(_) if dialogue.shape.contains("-then-") && !is_exact(record) => {
                known.insert((dialogue.shape.as_str(), dialogue.transport.as_str()), false);
            }
            Err(error) => wrong.push(format!("{dialogue:?}: {error:#}")),
        }
    }
    print_table(&known);
    println!("{} of {} counts are known", known.values().filter(|it| **it).count(), known.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_exact(record: &Record) -> bool {
    record.field("transactions_exact").unwrap() == true
}

/// One line per shape, one column per transport.
fn print_table(known: &BTreeMap<(&str, &str), bool>) {
    let transports: BTreeSet<&str> = known.keys().map(|(_, transport)| *transport).collect();
    let shapes: BTreeSet<&str> = known.keys().map(|(shape, _)| *shape).collect();
    let print = |cells: Vec<&str>| println!("| {} |", cells.join(" | "));
    print(std::iter::once("shape").chain(transports.iter().copied()).collect());
    for shape in shapes {
        let cells = transports.iter().map(|transport| match known.get(&(shape, *transport)) {
            Some(true) => "right",
            Some(false) => "null",
            None => "WRONG",
        });
        print(std::iter::once(shape).chain(cells).collect());
    }
}
