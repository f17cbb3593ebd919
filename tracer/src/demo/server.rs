//! The servers of the demo: SMTP as far as a client needs it, with the limits that the demo is about.

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Longest line that is read; RFC 5321 section 4.5.3.1.6 allows 1000.
const LONGEST_LINE: u64 = 1000;

/// What a server allows, and how quick it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// It waits before it greets.
    pub(super) greets_after: Duration,
    /// It closes sessions that idle for longer, with a 421.
    pub(super) idle_time: Option<Duration>,
    /// It refuses connections beyond so many at a time, with a 421.
    pub(super) at_a_time: Option<u64>,
}

/// What a server has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    /// Connections greeted with 220.
    pub(super) greeted: u64,
    /// Connections greeted with 421.
    pub(super) refused: u64,
    /// Messages accepted.
    pub(super) messages: u64,
}

/// A running server. It ends with this process.
#[derive(Debug)]
pub(super) struct Server {
    name: &'static str,
    limits: Limits,
    greeted: AtomicU64,
    refused: AtomicU64,
    messages: AtomicU64,
    open: AtomicU64,
}

impl Server {
    /// Serves the connections that come to `listener` and calls itself `name`.
    pub(super) fn start(
        listener: TcpListener,
        name: &'static str,
        limits: Limits,
    ) -> Result<Arc<Self>> {
        let [greeted, refused, messages, open] = [const { AtomicU64::new(0) }; 4];
        let server = Arc::new(Self { name, limits, greeted, refused, messages, open });
        let acceptor = Arc::clone(&server);
        let work = move || {
            for stream in listener.incoming().flatten() {
                acceptor.receive(stream);
            }
        };
        spawn(work).context("cannot start a thread")?;
        Ok(server)
    }

    /// What it has counted so far.
    pub(super) fn count(&self) -> Count {
        let [greeted, refused, messages] =
            [&self.greeted, &self.refused, &self.messages].map(|it| it.load(Ordering::SeqCst));
        Count { greeted, refused, messages }
    }

    /// Takes a connection, or turns it away. All come through one thread, so the limit is exact.
    fn receive(self: &Arc<Self>, mut stream: TcpStream) {
        let open = self.open.load(Ordering::SeqCst);
        if self.limits.at_a_time.is_some_and(|most| open >= most) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            // Whether the client hears it makes no difference here.
            let _ = write!(stream, "421 4.7.0 {} too many connections\r\n", self.name);
            return;
        }
        self.greeted.fetch_add(1, Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
        let server = Arc::clone(self);
        let work = move || {
            // Sessions may end as they like.
            let _ = server.serve(stream);
            server.open.fetch_sub(1, Ordering::SeqCst);
        };
        if spawn(work).is_err() {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(self.limits.idle_time)?;
        thread::sleep(self.limits.greets_after);
        let mut session = BufReader::new(stream);
        write!(session.get_mut(), "220 {} ESMTP\r\n", self.name)?;
        loop {
            let line = match line(&mut session) {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(()),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return write!(
                        session.get_mut(),
                        "421 4.4.2 {} idle for too long\r\n",
                        self.name
                    );
                }
                Err(error) => return Err(error),
            };
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            let out = session.get_mut();
            match verb.as_str() {
                "EHLO" => write!(out, "250-{}\r\n250 8BITMIME\r\n", self.name)?,
                "MAIL" | "RCPT" | "RSET" | "NOOP" => out.write_all(b"250 2.0.0 ok\r\n")?,
                "DATA" => {
                    out.write_all(b"354 go ahead\r\n")?;
                    while self::line(&mut session)?.is_some_and(|line| line != ".") {}
                    self.messages.fetch_add(1, Ordering::SeqCst);
                    session.get_mut().write_all(b"250 2.0.0 queued\r\n")?;
                }
                "QUIT" => return out.write_all(b"221 2.0.0 bye\r\n"),
                _ => out.write_all(b"502 5.5.2 not here\r\n")?,
            }
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("demo-server".into()).spawn(work).map(drop)
}

/// Reads a line, without its end; `None` when the client has closed.
fn line(session: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = String::new();
    if session.by_ref().take(LONGEST_LINE).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end().to_owned()))
}
