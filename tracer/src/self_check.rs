//! Whether the types in a file (`--btf`) are those of the running kernel: BTF does not say of which kernel it
//! is, and wrong offsets would give wrong records. So smtptrace first traces connections of its own over
//! loopback, of which it knows everything, and compares.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Map, Value, json};
use tracer_analysis::connection::{Context, Table};

use crate::{
    clock,
    kernel::Kernel,
    probe::{self, Settings},
};

/// Lengths of what is said: of odd sizes, so that no other field is equal to one by chance.
const GREETING: usize = 211;
const QUESTION: usize = 307;
const ANSWER: usize = 101;
const KEEPALIVE: u32 = 4321;

const PATIENCE: Duration = Duration::from_secs(10);

/// Records that are kept, those of others included.
const RECORDS: usize = 4_096;

/// What the record of a connection must say.
type Expected = Map<String, Value>;

/// Compares, if the types come from a file and the kernel cannot say whether they are its own.
pub(crate) fn check(settings: &Settings) -> Result<()> {
    let Some(file) = &settings.btf else { return Ok(()) };
    if probe::btf_is_shown() {
        return Ok(()); // compared already
    }
    let listeners: Vec<TcpListener> =
        [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]
            .iter()
            .filter_map(|address| TcpListener::bind((*address, 0)).ok())
            .collect();
    let mut ports = Vec::new();
    for listener in &listeners {
        ports.push(listener.local_addr()?.port());
    }
    let kernel = Kernel::start(&trial(settings, ports), false, None)?;
    let expected = converse(listeners).context(
        "cannot connect over loopback, by which the file of --btf is checked; is lo up?",
    )?;
    let records = records(kernel, &expected)?;
    let wrong = expected.iter().find_map(|expected| difference(expected, &records));
    wrong.map_or(Ok(()), |wrong| {
        bail!(
            "{} does not describe the running kernel: of connections of its own over loopback, smtptrace \
             {wrong}\n--btf needs the types of exactly this kernel: see uname -r, and uname -v if several \
             were built of that release",
            file.display()
        )
    })
}

/// Traces nothing but `ports`, with the types and hooks that `settings` names.
fn trial(settings: &Settings, ports: Vec<u16>) -> Settings {
    Settings {
        tier: settings.tier,
        btf: settings.btf.clone(),
        ports,
        include_loopback: true,
        ring_size: 1 << 16,
        max_connections: 64,
        ..Settings::default()
    }
}

/// Makes a connection to each of `listeners`, and one to where none listens any more.
fn converse(listeners: Vec<TcpListener>) -> Result<Vec<Expected>> {
    let mut all = Vec::new();
    let mut refused = None;
    for listener in listeners {
        let server = listener.local_addr()?;
        let client = session(&listener)?;
        all.push(of_session(client, server)?);
        refused = refused.or(Some(server));
    }
    let refused = refused.context("no loopback address can be listened on")?;
    if TcpStream::connect(refused).is_err() {
        all.push(expect(json!({
            "dst": refused.ip(),
            "dst_is_own": true,
            "connect_error": "ECONNREFUSED",
        })));
    }
    Ok(all)
}

/// A greeting, a question and an answer; the client closes first. Returns the client's address.
fn session(listener: &TcpListener) -> Result<SocketAddr> {
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let address = client.local_addr()?;
    setsockopt(&client, sockopt::KeepAlive, &true)?;
    setsockopt(&client, sockopt::TcpKeepIdle, &KEEPALIVE)?;
    let mut server = accept_from(listener, address)?;
    say(&mut server, &mut client, GREETING)?;
    say(&mut client, &mut server, QUESTION)?;
    say(&mut server, &mut client, ANSWER)?;
    drop(client);
    // Until the client's FIN is there.
    let _ = server.read(&mut [0])?;
    Ok(address)
}

/// The connection of `client`. Any user of this host may connect to the same port first: whose connections are
/// closed.
fn accept_from(listener: &TcpListener, client: SocketAddr) -> Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        // It is connected: it is in the queue.
        let (server, peer) = listener.accept()?;
        if peer == client {
            return Ok(server);
        }
    }
    bail!("other programs connect to port {} without end", listener.local_addr()?.port())
}

fn say(from: &mut TcpStream, to: &mut TcpStream, len: usize) -> Result<()> {
    from.write_all(&vec![b'x'; len])?;
    to.set_read_timeout(Some(PATIENCE))?;
    to.read_exact(&mut vec![0; len])?;
    Ok(())
}

fn of_session(client: SocketAddr, server: SocketAddr) -> Result<Expected> {
    let netns = fs::metadata("/proc/self/ns/net").context("stat /proc/self/ns/net")?.ino();
    let mut expected = expect(json!({
        "src": client.ip(),
        "sport": client.port(),
        "dst": server.ip(),
        "dport": server.port(),
        "dst_is_own": true,
        "family": if client.is_ipv4() { "ipv4" } else { "ipv6" },
        "netns": netns,
        "bytes_sent": QUESTION,
        "bytes_received": GREETING + ANSWER,
        "turns": 1,
        "connect_error": null,
        "end_cause": "local_fin",
        "keepalive": true,
    }));
    if clock::ticks_per_second().is_some() {
        expected.insert("keepalive_idle_s".into(), KEEPALIVE.into());
    }
    Ok(expected)
}

fn expect(object: Value) -> Expected {
    if let Value::Object(expected) = object { expected } else { Expected::new() }
}

/// The records, when each of the expected ones is among them, or when patience is over. Others connect to these
/// ports, too: theirs are no reason to wait less.
fn records(mut kernel: Kernel, expected: &[Expected]) -> Result<Vec<Value>> {
    let context = Context { host: String::new(), clock: clock::measure()? };
    let mut table = Table::new(context, 64);
    let mut records: Vec<Value> = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && !are_there(expected, &records) {
        kernel.drain(&mut table, |connection| {
            if records.len() < RECORDS {
                records.extend(serde_json::to_value(connection));
            }
        });
        thread::sleep(Duration::from_millis(5));
    }
    Ok(records)
}

fn are_there(expected: &[Expected], records: &[Value]) -> bool {
    let is_there = |one: &Expected| {
        let is_it = |record: &Value| match one.get("sport") {
            Some(sport) => record.get("sport") == Some(sport),
            None => record.get("connect_error") == one.get("connect_error"),
        };
        records.iter().any(is_it)
    };
    records.len() >= RECORDS || expected.iter().all(is_there)
}

/// What was seen instead of `expected`; `None` if just that.
fn difference(expected: &Expected, records: &[Value]) -> Option<String> {
    let wrong_in = |record: &Value| {
        expected.iter().find_map(|(name, value)| {
            let seen = record.get(name).unwrap_or(&Value::Null);
            (seen != value).then(|| format!("saw {name} {seen} instead of {value}"))
        })
    };
    let all: Vec<Option<String>> = records.iter().map(wrong_in).collect();
    if all.iter().any(Option::is_none) {
        return None;
    }
    let of_port = |name: &str| {
        records
            .iter()
            .position(|it| expected.contains_key(name) && it.get(name) == expected.get(name))
    };
    let nearest = of_port("sport").or_else(|| of_port("dport")).or_else(|| of_port("dst"));
    let seen = nearest.and_then(|at| all.into_iter().nth(at).flatten());
    Some(seen.unwrap_or_else(|| "did not see one".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_names_the_field_of_the_nearest_record() {
        let expected = expect(json!({ "sport": 7, "dport": 25, "bytes_sent": 3 }));
        let right = json!({ "sport": 7, "dport": 25, "bytes_sent": 3, "pid": 1 });
        let other = json!({ "sport": 8, "dport": 25, "bytes_sent": 3 });
        let wrong = json!({ "sport": 7, "dport": 25, "bytes_sent": 0 });
        assert_eq!(difference(&expected, &[other.clone(), right]), None);
        let text = difference(&expected, &[other, wrong]).unwrap();
        assert_eq!(text, "saw bytes_sent 0 instead of 3");
        assert_eq!(difference(&expected, &[]).unwrap(), "did not see one");
    }

    #[test]
    fn strangers_that_come_first_are_no_peer() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut strangers: Vec<TcpStream> =
            (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        strangers[0].write_all(&[b'y'; QUESTION]).unwrap();
        let expected = converse(vec![listener]).unwrap();
        assert_eq!(expected.first().unwrap()["bytes_received"], GREETING + ANSWER);
    }

    #[test]
    fn records_of_others_are_not_taken_for_own_ones() {
        let expected = vec![expect(json!({ "sport": 7 })), expect(json!({ "connect_error": "E" }))];
        let mut records = vec![json!({ "sport": 8 }), json!({ "sport": 9, "connect_error": null })];
        assert!(!are_there(&expected, &records));
        records.push(json!({ "sport": 7 }));
        assert!(!are_there(&expected, &records));
        records.push(json!({ "sport": 10, "connect_error": "E" }));
        assert!(are_there(&expected, &records));
    }

    #[test]
    fn own_connections_are_what_they_are_said_to_be() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let expected = converse(vec![listener]).unwrap();
        assert_eq!(expected.first().unwrap()["bytes_sent"], QUESTION);
        assert_eq!(expected.last().unwrap()["connect_error"], "ECONNREFUSED");
    }
}
