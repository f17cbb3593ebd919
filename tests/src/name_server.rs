//! A name server that says what it is told, in a namespace of its own.

use std::{
    collections::HashMap,
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{lab::Lab, namespace::Namespace};

const A: u16 = 1;
const PTR: u16 = 12;
/// `RFC 1035`, section 4.1.1: flags of an answer, with and without a name.
const ANSWER: u16 = 0x8180;
const NO_SUCH_NAME: u16 = 0x8183;

/// What the server answers.
#[derive(Debug, Clone, Default)]
pub struct Zone {
    pointers: HashMap<String, Vec<u8>>,
    addresses: HashMap<String, Ipv4Addr>,
    silent: Vec<String>,
}

impl Zone {
    /// `address` is called `name`, as its owner says. The name may hold any bytes but dots.
    #[must_use]
    pub fn called(mut self, address: Ipv4Addr, name: &[u8]) -> Self {
        self.pointers.insert(reverse(address), name.to_vec());
        self
    }

    /// `name` has `address`, as the owner of the name says.
    #[must_use]
    pub fn has(mut self, name: &str, address: Ipv4Addr) -> Self {
        self.addresses.insert(name.to_owned(), address);
        self
    }

    /// Queries for `address` are not answered.
    #[must_use]
    pub fn silent_about(mut self, address: Ipv4Addr) -> Self {
        self.silent.push(reverse(address));
        self
    }

    /// The answer to a query; `None` if there is to be none.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let (name, end) = question(query)?;
        let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
        if self.silent.contains(&name) {
            return None;
        }
        let record = match kind {
            PTR => self.pointers.get(&name).map(|to| labels(to)),
            A => self.addresses.get(&name).map(|to| to.octets().to_vec()),
            _ => None,
        };
        let known = record.is_some() || self.addresses.contains_key(&name);
        let flags = if known { ANSWER } else { NO_SUCH_NAME };
        let mut answer = query.get(..2)?.to_vec();
        for number in [flags, 1, u16::from(record.is_some()), 0, 0] {
            answer.extend(number.to_be_bytes());
        }
        answer.extend(query.get(12..end + 4)?);
        if let Some(record) = record {
            // The name of the question, class IN, a minute to live.
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1, 0, 0, 0, 60]);
            answer.extend(u16::try_from(record.len()).ok()?.to_be_bytes());
            answer.extend(record);
        }
        Some(answer)
    }
}

fn reverse(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa")
}

fn labels(name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split(|byte| *byte == b'.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(63).min(63));
        bytes.extend(label.iter().take(63));
    }
    bytes.push(0);
    bytes
}

/// The name that is asked for, and where its bytes end.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

/// A running name server on 127.0.0.1. It stops when dropped.
#[derive(Debug)]
pub struct NameServer {
    queries: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Answers in `namespace` by `zone`.
    pub fn start(namespace: &Namespace, zone: Zone) -> Result<Self> {
        let socket = namespace.enter("bind", || {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).context("listen for DNS queries")
        })?;
        socket.set_read_timeout(Some(Duration::from_millis(100))).context("set a timeout")?;
        let (queries, stopping) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (count, stop) = (Arc::<AtomicUsize>::clone(&queries), Arc::clone(&stopping));
        let thread = thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !stop.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                count.fetch_add(1, Ordering::SeqCst);
                if let Some(answer) = zone.answer(&buffer[..length]) {
                    // A client that has gone away has its reasons.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(Self { queries, stopping, thread: Some(thread) })
    }

    /// Queries so far.
    pub fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs `command` in the client's namespace, where 127.0.0.1 is the only name server and nothing but DNS is
/// asked.
pub fn resolving_there(lab: &Lab, command: &[&str]) -> Result<Output> {
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let file = lab.file(name);
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        Ok(file)
    };
    let resolver = write("resolv.conf", "nameserver 127.0.0.1\n")?;
    let order = write("nsswitch.conf", "hosts: dns\n")?;
    let script = "mount --bind \"$0\" /etc/resolv.conf && mount --bind \"$1\" /etc/nsswitch.conf && \
                  shift && exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", script]).arg(resolver).arg(order).args(command);
    unshare.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    lab.client.spawn(&mut unshare)?.wait_with_output().context("wait for the command")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_by_the_zone() {
        let address = Ipv4Addr::new(192, 0, 2, 1);
        let zone = Zone::default().called(address, b"mx.example").has("mx.example", address);
        let query = |name: &[u8], kind: u8| {
            [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &labels(name), &[0, kind, 0, 1]].concat()
        };
        let named = zone.answer(&query(b"1.2.0.192.in-addr.arpa", 12)).unwrap();
        assert_eq!((named[2], named[3] & 15, named[7]), (0x81, 0, 1));
        assert!(named.ends_with(&labels(b"mx.example")));
        let found = zone.answer(&query(b"MX.example", 1)).unwrap();
        assert!(found.ends_with(&address.octets()));
        assert_eq!(zone.answer(&query(b"other.example", 1)).unwrap()[3] & 15, 3);
        assert_eq!(
            zone.clone().silent_about(address).answer(&query(b"1.2.0.192.in-addr.arpa", 12)),
            None
        );
        assert_eq!(zone.answer(b"short"), None);
    }
}
