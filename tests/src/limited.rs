//! A mail server with a limit that is known.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use socket2::SockRef;

use crate::{namespace::Namespace, server::listen};

/// What the server does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// It allows everything.
    None,
    /// More connections at a time than this: 421 in place of the greeting.
    Open(u64),
    /// The same, said when the client wants to send: 451 in reply to MAIL.
    OpenAtMail(u64),
    /// More connections accepted in the last 60 seconds than this: 421 in place of the greeting.
    PerMinute(usize),
    /// More messages on a connection than this: it closes after the reply to the last one.
    Messages(u32),
}

/// What it did, as it counted itself.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections that were allowed to send.
    pub accepted: AtomicU64,
    /// Connections that were turned away.
    pub refused: AtomicU64,
    open: AtomicU64,
    times: Mutex<Vec<Instant>>,
}

/// A running server. It stops when dropped.
#[derive(Debug)]
pub struct LimitedServer {
    listener: Arc<TcpListener>,
    stopping: Arc<AtomicBool>,
    tally: Arc<Tally>,
    acceptor: Option<JoinHandle<()>>,
}

impl LimitedServer {
    /// Listens on `address` in `namespace`.
    pub fn start(namespace: &Namespace, address: SocketAddr, limit: Limit) -> Result<Self> {
        let listener = Arc::new(listen(namespace, address)?);
        let (stopping, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Tally::default()));
        let acceptor = thread::Builder::new().name("lab-server".into()).spawn({
            let (listener, stopping) = (Arc::clone(&listener), Arc::clone(&stopping));
            let tally = Arc::clone(&tally);
            move || {
                while !stopping.load(Ordering::SeqCst) {
                    if let Ok((stream, _)) = listener.accept() {
                        receive(stream, limit, &tally);
                    }
                }
            }
        });
        let acceptor = Some(acceptor.context("start the server")?);
        Ok(Self { listener, stopping, tally, acceptor })
    }

    /// What it did so far.
    pub fn tally(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        (read(&self.tally.accepted), read(&self.tally.refused))
    }
}

impl Drop for LimitedServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes accept(2).
        let _ = SockRef::from(self.listener.as_ref()).shutdown(Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Decides in the order of arrival, then serves apart.
fn receive(mut stream: TcpStream, limit: Limit, tally: &Arc<Tally>) {
    if !tally.has_room(limit) {
        tally.refused.fetch_add(1, Ordering::SeqCst);
        if matches!(limit, Limit::OpenAtMail(_)) {
            // The client notices a failure, and counts.
            thread::spawn(move || serve(&mut BufReader::new(stream), limit, REFUSED_AT_MAIL));
            return;
        }
        // The client notices a failure, and counts.
        let _ = stream.write_all(b"421 4.7.0 limited.test Error: too many connections\r\n");
        return;
    }
    tally.accepted.fetch_add(1, Ordering::SeqCst);
    tally.open.fetch_add(1, Ordering::SeqCst);
    let tally = Arc::clone(tally);
    thread::spawn(move || {
        let mut connection = BufReader::new(stream);
        let _ = serve(&mut connection, limit, OK);
        // Before the FIN, so that a client that has seen it finds room.
        tally.open.fetch_sub(1, Ordering::SeqCst);
        drop(connection);
    });
}

impl Tally {
    fn has_room(&self, limit: Limit) -> bool {
        match limit {
            Limit::None | Limit::Messages(_) => true,
            Limit::Open(most) | Limit::OpenAtMail(most) => self.open.load(Ordering::SeqCst) < most,
            Limit::PerMinute(most) => {
                let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                times.retain(|time| now.duration_since(*time) < Duration::from_secs(60));
                let room = times.len() < most;
                if room {
                    times.push(now);
                }
                room
            }
        }
    }
}

const OK: &[u8] = b"250 2.0.0 ok\r\n";
/// What Microsoft says.
const REFUSED_AT_MAIL: &[u8] = b"451 4.7.652 The mail server [10.71.1.2] has exceeded the maximum \
      number of connections. (S3115)\r\n";

/// `to_mail` is the reply to MAIL.
fn serve(
    connection: &mut BufReader<TcpStream>,
    limit: Limit,
    to_mail: &[u8],
) -> std::io::Result<()> {
    connection.get_mut().set_nodelay(true)?;
    connection.get_mut().write_all(b"220 limited.test ESMTP\r\n")?;
    let (mut line, mut messages) = (String::new(), 0);
    loop {
        line.clear();
        if connection.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply: &[u8] = match line.split_whitespace().next().unwrap_or_default() {
            "DATA" => {
                connection.get_mut().write_all(b"354 go ahead\r\n")?;
                while line.trim_end() != "." {
                    line.clear();
                    connection.read_line(&mut line)?;
                }
                messages += 1;
                b"250 2.0.0 queued\r\n"
            }
            "QUIT" => return connection.get_mut().write_all(b"221 2.0.0 bye\r\n"),
            "MAIL" => to_mail,
            _ => OK,
        };
        connection.get_mut().write_all(reply)?;
        if limit == Limit::Messages(messages) {
            return Ok(());
        }
    }
}
