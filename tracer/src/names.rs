//! Names of addresses, as the system resolves them: DNS (PTR), or a file of hosts.
//!
//! Whoever owns a network writes into its PTR records what he likes. So a name counts as verified only if
//! it has the address, too; and it is text from strangers for every sink.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracer_analysis::report::{Name, Report};

/// Most queries under way at the same time.
const IN_FLIGHT: usize = 8;
/// Most addresses that are asked for, the worst destinations first.
const MOST: usize = 1000;
/// When the report no longer waits.
const TIME: Duration = Duration::from_secs(5);

/// Gives names to the destinations of `report` that are addresses. Each address is asked for once; what is
/// not answered within five seconds in all has no name.
pub(crate) fn add(report: &mut Report) {
    let mut seen = BTreeSet::new();
    let addresses = report.destinations.iter().filter_map(|it| address(&it.key));
    let addresses: Vec<IpAddr> = addresses.filter(|it| seen.insert(*it)).take(MOST).collect();
    let names = ask(addresses, TIME, look_up);
    for destination in &mut report.destinations {
        let name = address(&destination.key).and_then(|it| names.get(&it));
        destination.name = name.cloned();
    }
}

/// The address that a key is, bare or as RFC 5321 writes it in place of a host name.
fn address(key: &str) -> Option<IpAddr> {
    let literal = key.strip_prefix('[').and_then(|key| key.strip_suffix(']'));
    let bare = literal.map_or(key, |it| it.strip_prefix("IPv6:").unwrap_or(it));
    bare.parse().ok()
}

type LookUp = fn(IpAddr) -> Option<Name>;

/// The names that `look_up` finds in `time`. It blocks, so it runs on threads of its own; those that have no
/// answer yet are left to themselves, and ask no more.
fn ask(addresses: Vec<IpAddr>, time: Duration, look_up: LookUp) -> BTreeMap<IpAddr, Name> {
    let (give_up, mut left) = (Instant::now() + time, addresses.len());
    let threads = IN_FLIGHT.min(left);
    let queue = Arc::new(Mutex::new(addresses.into_iter()));
    let (sender, answers) = channel();
    for _ in 0..threads {
        let (queue, sender) = (Arc::clone(&queue), sender.clone());
        // Fewer threads take longer; without any there are no names.
        let _ = thread::Builder::new()
            .name("names".into())
            .spawn(move || answer(&queue, &sender, look_up));
    }
    drop(sender);
    let mut names = BTreeMap::new();
    while left > 0 {
        let wait = give_up.saturating_duration_since(Instant::now());
        let Ok((address, name)) = answers.recv_timeout(wait) else { break };
        left -= 1;
        names.extend(name.map(|name| (address, name)));
    }
    *queue.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new().into_iter();
    names
}

type Queue = Mutex<std::vec::IntoIter<IpAddr>>;

fn answer(queue: &Queue, answers: &Sender<(IpAddr, Option<Name>)>, look_up: LookUp) {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    while let Some(address) = next() {
        if answers.send((address, look_up(address))).is_err() {
            return; // the report is made
        }
    }
}

/// Asks for the name of an address, and whether the name has the address.
fn look_up(address: IpAddr) -> Option<Name> {
    let name = dns_lookup::lookup_addr(&address).ok()?;
    let name = name.trim_end_matches('.');
    if name.is_empty() || is_number(name) {
        return None;
    }
    let mut addresses = dns_lookup::lookup_host(name).ok();
    let verified = addresses.as_mut().is_some_and(|all| all.any(|it| it.to_canonical() == address));
    Some(Name { name: name.to_owned(), verified })
}

/// Whether a resolver would take the name for an address, and so confirm it without asking anybody: a last
/// label that is a number, in any of the ways of `inet_aton`.
fn is_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    name.contains(':')
        || last.bytes().all(|it| it.is_ascii_digit())
        || last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_addresses() {
        for (key, is) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("[192.0.2.1]", Some("192.0.2.1")),
            ("[IPv6:2001:db8::1]", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("192.0.2.0/24", None),
            ("mx.example.org", None),
            ("~other", None),
        ] {
            assert_eq!(address(key), is.map(|it| it.parse().unwrap()), "{key}");
        }
    }

    #[test]
    fn numbers_are_no_names() {
        for number in ["192.0.2.1", "3221225985", "0xC0000201", "1.2", "::1", "a.7"] {
            assert!(is_number(number), "{number}");
        }
        for name in ["mx.example.org", "7.example", "0xc.example", "a", "é"] {
            assert!(!is_number(name), "{name}");
        }
    }

    fn addresses(count: u8) -> Vec<IpAddr> {
        (0..count).map(|last| IpAddr::from([192, 0, 2, last])).collect()
    }

    fn named(address: IpAddr) -> Option<Name> {
        let odd = matches!(address, IpAddr::V4(v4) if v4.octets()[3] % 2 == 1);
        odd.then(|| Name { name: format!("host-{address}"), verified: true })
    }

    #[test]
    fn every_address_is_asked_for() {
        let names = ask(addresses(100), Duration::from_secs(60), named);
        assert_eq!(names.len(), 50);
        assert_eq!(names[&IpAddr::from([192, 0, 2, 7])].name, "host-192.0.2.7");
        assert!(ask(Vec::new(), TIME, named).is_empty());
    }

    #[test]
    fn one_who_does_not_answer_holds_up_nobody() {
        let slow: LookUp = |address| {
            if address == IpAddr::from([192, 0, 2, 1]) {
                thread::sleep(Duration::from_secs(120));
            }
            named(address)
        };
        let start = Instant::now();
        let names = ask(addresses(20), Duration::from_secs(2), slow);
        assert!(start.elapsed() < Duration::from_secs(30));
        assert_eq!(names.len(), 9);
    }
}
