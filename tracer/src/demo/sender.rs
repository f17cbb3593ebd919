//! The clients of the demo. SMTP and the pool of connections are lettre's.

use std::{
    net::SocketAddr,
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use lettre::{
    SmtpTransport, Transport as _,
    address::Envelope,
    transport::smtp::{PoolConfig, client::SmtpConnection, extension::ClientId},
};

use super::destinations::{Destination, PORT};

/// How a client uses connections.
#[derive(Debug, Clone, Copy)]
pub(super) enum Habit {
    /// Several workers share a pool of as many connections. Each sends a message, waits for the next
    /// gap, and so on through all gaps, several times.
    Pool { workers: u32, gaps: &'static [Duration], times: u32, gives_up_after: Duration },
    /// Each message has a connection of its own, one after the other.
    OneEach { messages: u32, pause: Duration },
    /// So many connections are opened at once; those that are accepted carry so many messages.
    Bursts { bursts: u32, connections: u32, messages: u32, pause: Duration },
}

/// How long senders without a pool wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than the demo runs: the pool itself closes nothing.
const POOL_KEEPS: Duration = Duration::from_secs(600);
const LINE: &str = "Sent by smtptrace demo, in network namespaces of its own, to nobody.\r\n";
const LINES: usize = 40;

/// A client that sends to one destination.
struct Sender {
    to: SocketAddr,
    name: ClientId,
    envelope: Envelope,
    mail: Vec<u8>,
}

/// Sends as is the habit there. Returns the number of messages that were not taken.
pub(super) fn send(destination: &Destination) -> Result<u64> {
    let sender = Sender::new(destination)?;
    match destination.habit {
        Habit::Pool { workers, gaps, times, gives_up_after } => {
            sender.with_pool(workers, gaps, times, gives_up_after)
        }
        Habit::OneEach { messages, pause } => Ok(sender.one_each(messages, pause)),
        Habit::Bursts { bursts, connections, messages, pause } => {
            Ok((0..bursts).map(|_| sender.burst(connections, messages, pause)).sum())
        }
    }
}

impl Sender {
    fn new(destination: &Destination) -> Result<Self> {
        let from = "demo@client.example".parse().context("sender address")?;
        let to = format!("nobody@{}", destination.host).parse().context("recipient address")?;
        Ok(Self {
            to: SocketAddr::from((destination.address, PORT)),
            name: ClientId::Domain("client.example".into()),
            envelope: Envelope::new(Some(from), vec![to]).context("envelope")?,
            mail: format!("Subject: demo\r\n\r\n{}", LINE.repeat(LINES)).into_bytes(),
        })
    }

    fn with_pool(
        &self,
        workers: u32,
        gaps: &[Duration],
        times: u32,
        gives_up_after: Duration,
    ) -> Result<u64> {
        let pool = SmtpTransport::builder_dangerous(self.to.ip().to_string())
            .port(self.to.port())
            .hello_name(self.name.clone())
            .timeout(Some(gives_up_after))
            .pool_config(PoolConfig::new().max_size(workers).idle_timeout(POOL_KEEPS))
            .build();
        let send = || u64::from(pool.send_raw(&self.envelope, &self.mail).is_err());
        let work = || {
            let mut refused = send();
            for gap in (0..times).flat_map(|_| gaps) {
                thread::sleep(*gap);
                refused += send();
            }
            refused
        };
        thread::scope(|scope| {
            let start = |_| {
                let thread = thread::Builder::new().name("demo-sender".into());
                thread.spawn_scoped(scope, work).context("cannot start a thread")
            };
            let workers: Vec<ScopedJoinHandle<'_, u64>> =
                (0..workers).map(start).collect::<Result<_>>()?;
            workers
                .into_iter()
                .map(|worker| worker.join().map_err(|_| anyhow::anyhow!("a sender panicked")))
                .sum()
        })
        // Dropping the pool ends its sessions with QUIT.
    }

    fn connect(&self) -> Option<SmtpConnection> {
        SmtpConnection::connect(self.to, Some(PATIENCE), &self.name, None, None).ok()
    }

    /// Sends messages over a connection and ends it. Returns how many were not taken.
    fn deliver(&self, mut connection: SmtpConnection, messages: u32) -> u64 {
        let refused = (0..messages)
            .map(|_| u64::from(connection.send(&self.envelope, &self.mail).is_err()))
            .sum();
        connection.abort(); // with QUIT, unless it is broken
        refused
    }

    fn one_each(&self, messages: u32, pause: Duration) -> u64 {
        let one = |_| {
            let refused = self.connect().map_or(1, |connection| self.deliver(connection, 1));
            thread::sleep(pause);
            refused
        };
        (0..messages).map(one).sum()
    }

    fn burst(&self, connections: u32, messages: u32, pause: Duration) -> u64 {
        let accepted: Vec<_> = (0..connections).filter_map(|_| self.connect()).collect();
        let refused = accepted.into_iter().map(|it| self.deliver(it, messages)).sum();
        thread::sleep(pause);
        refused
    }
}
