//! Connections that are opened and closed as fast as it goes, and what must be recorded of them if smtptrace starts
//! meanwhile.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// Addresses of server and client.
pub type Ends = [SocketAddr; 2];

/// A connection that was opened and closed again.
#[derive(Debug)]
pub struct Life {
    ends: Ends,
    /// Before connect(2).
    from: Instant,
    /// After close(2).
    pub until: Instant,
}

/// Opens and closes until `stop`, or for long.
pub fn churn(servers: &[SocketAddr], stop: &AtomicBool) -> Result<Vec<Life>> {
    let mut lives = Vec::new();
    for server in servers.iter().cycle().take(servers.len() * 6_000) {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let from = Instant::now();
        let stream = TcpStream::connect(server).with_context(|| format!("connect to {server}"))?;
        let ends = [*server, stream.local_addr()?];
        drop(stream);
        lives.push(Life { ends, from, until: Instant::now() });
        thread::sleep(Duration::from_millis(1));
    }
    Ok(lives)
}

/// What there must be of the connections between two ends. It is one connection, unless the kernel took the port
/// twice, as it may a minute after the first time.
#[derive(Debug, Default)]
struct Expected<'a> {
    /// Records that begin with connect(2): opened when smtptrace had started.
    opened: usize,
    /// Records that begin either way: open when it had started.
    met: usize,
    /// Records that need not be: closed while it started.
    perhaps: usize,
    lives: Vec<&'a Life>,
}

/// Fails unless `seen`, how each record between two ends begins, has what it must have of `lives` and no more, for
/// a start that lasted from `start[0]` to `start[1]`; takes that out. Returns how many lives ended before the
/// start, were open at its end, and began later.
pub fn take_told<S: BuildHasher>(
    lives: &[Life],
    start: [Instant; 2],
    seen: &mut HashMap<Ends, Vec<&str>, S>,
) -> Result<[usize; 3]> {
    let [before, after] = start;
    let (mut earlier, mut across, mut later) = (0, 0, 0);
    let mut expected: HashMap<Ends, Expected> = HashMap::new();
    for life in lives {
        let expected = expected.entry(life.ends).or_default();
        if life.until < before {
            earlier += 1;
        } else if life.from > after {
            later += 1;
            expected.opened += 1;
        } else if life.until > after {
            across += 1;
            expected.met += 1;
        } else {
            expected.perhaps += 1;
        }
        expected.lives.push(life);
    }
    for (ends, expected) in &expected {
        let records = seen.remove(ends).unwrap_or_default();
        let certain = expected.opened + expected.met;
        let counts = certain..=certain + expected.perhaps;
        let opened = records.iter().filter(|seen_from| **seen_from == "connect").count();
        ensure!(
            counts.contains(&records.len()) && opened >= expected.opened,
            "{expected:?}, {before:?} to {after:?}: {records:?}"
        );
    }
    Ok([earlier, across, later])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one connection that lived in these seconds, while smtptrace started from 10 to 20, these are the records.
    fn told(spans: &[[u64; 2]], records: &[&str]) -> bool {
        let zero = Instant::now();
        let at = |second| zero + Duration::from_secs(second);
        let ends = [([127, 0, 0, 1], 25).into(), ([127, 0, 0, 1], 40_000).into()];
        let life = |[from, until]: &[u64; 2]| Life { ends, from: at(*from), until: at(*until) };
        let lives: Vec<Life> = spans.iter().map(life).collect();
        let mut seen = HashMap::from([(ends, records.to_vec())]);
        take_told(&lives, [at(10), at(20)], &mut seen).is_ok()
    }

    #[test]
    fn each_connection_is_told_once_if_it_lived_long_enough() {
        assert!(told(&[[1, 2]], &[]) && !told(&[[1, 2]], &["connect"]));
        assert!(told(&[[1, 12]], &[]) && told(&[[1, 12]], &["midlife"]));
        assert!(told(&[[1, 21]], &["midlife"]) && !told(&[[1, 21]], &[]));
        assert!(told(&[[21, 22]], &["connect"]) && !told(&[[21, 22]], &["midlife"]));
        assert!(!told(&[[21, 22]], &["connect", "connect"]) && !told(&[[21, 22]], &[]));
    }

    #[test]
    fn a_port_may_come_twice() {
        assert!(told(&[[1, 2], [81, 82]], &["connect"]) && !told(&[[1, 2], [81, 82]], &[]));
        assert!(told(&[[12, 13], [81, 82]], &["midlife", "connect"]));
        assert!(!told(&[[12, 13], [81, 82]], &["midlife"]));
    }
}
