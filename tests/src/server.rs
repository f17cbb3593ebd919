//! A scripted SMTP server in a namespace.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{
    attempt::{self, waited_for_processor},
    lab::Lab,
    namespace::Namespace,
};

/// One thing that the server does on a connection.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends bytes in one write.
    Send(Vec<u8>),
    /// Does nothing for a while.
    Pause(Duration),
    /// Reads one command line.
    Command,
    /// Answers commands as a mail server does, until QUIT (inclusive) or the client's FIN.
    Serve,
    /// Reads until the client's FIN or reset.
    DrainToEnd,
    /// Waits until the client has sent something, and leaves it unread.
    LeaveUnread,
}

/// How the server closes after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Close {
    /// `close(2)`: a FIN, or a reset if something was left unread.
    #[default]
    Plain,
    /// A reset (`SO_LINGER` with 0 seconds).
    Reset,
}

/// What the server does on each connection.
#[derive(Debug, Clone, Default)]
pub struct Script {
    steps: Vec<Step>,
    close: Close,
}

impl Script {
    /// Sends `greeting` with a line end, then serves as a mail server does.
    pub fn mail_server(greeting: &str) -> Self {
        Self::default().send(&format!("{greeting}\r\n")).then(Step::Serve)
    }

    /// Adds a step.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Adds the sending of `text`, as it is.
    #[must_use]
    pub fn send(self, text: &str) -> Self {
        self.then(Step::Send(text.as_bytes().to_vec()))
    }

    /// Adds a pause.
    #[must_use]
    pub fn pause(self, time: Duration) -> Self {
        self.then(Step::Pause(time))
    }

    /// Adds all steps of another.
    #[must_use]
    pub fn followed_by(mut self, other: &Self) -> Self {
        self.steps.extend(other.steps.iter().cloned());
        self
    }

    /// Closes with a reset.
    #[must_use]
    pub fn close_with_reset(mut self) -> Self {
        self.close = Close::Reset;
        self
    }

    /// Plays it on one connection, to its end. If the thread has to wait for a processor, each time of the dialogue may
    /// be longer than the script says: a [disturbance](attempt).
    pub fn play(&self, stream: TcpStream) -> std::io::Result<()> {
        let before = waited_for_processor();
        let played = self.play_steps(stream);
        let waited = waited_for_processor().saturating_sub(before);
        if waited > Duration::from_millis(50) {
            attempt::disturbed(&format!("a server waited {waited:?} for a processor"));
        }
        played
    }

    fn play_steps(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut connection = BufReader::new(stream);
        for step in &self.steps {
            match step {
                Step::Send(bytes) => connection.get_mut().write_all(bytes)?,
                Step::Pause(time) => thread::sleep(*time),
                Step::Command => drop(command(&mut connection)?),
                Step::Serve => serve(&mut connection)?,
                Step::DrainToEnd => while command(&mut connection)?.is_some() {},
                Step::LeaveUnread => drop(connection.get_ref().peek(&mut [0])?),
            }
        }
        if self.close == Close::Reset {
            SockRef::from(connection.get_ref()).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    }
}

/// Reads one line, without its end; `None` at the client's FIN.
fn command(connection: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    if connection.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
}

fn serve(connection: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    while let Some(line) = command(connection)? {
        let verb = line.split_ascii_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match verb.as_str() {
            "EHLO" => b"250-server.test\r\n250-SIZE 10240000\r\n250 8BITMIME\r\n",
            "DATA" => {
                connection.get_mut().write_all(b"354 go ahead\r\n")?;
                while command(connection)?.is_some_and(|line| line != ".") {}
                b"250 2.0.0 queued\r\n"
            }
            "HELO" | "MAIL" | "RCPT" | "RSET" | "NOOP" => b"250 2.0.0 ok\r\n",
            "QUIT" => return connection.get_mut().write_all(b"221 2.0.0 bye\r\n"),
            _ => b"502 5.5.2 what?\r\n",
        };
        connection.get_mut().write_all(reply)?;
    }
    Ok(())
}

/// A running scripted server. It stops when dropped.
#[derive(Debug)]
pub struct Server {
    listener: Arc<TcpListener>,
    accepted: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves as a mail server does, on the first IPv4 address of `lab`'s server.
    pub fn mail(lab: &Lab) -> Result<Self> {
        let script = Script::mail_server("220 server.test ESMTP");
        Self::start(&lab.server, lab.server_v4(), script)
    }

    /// Listens on `address` in `namespace` and plays `script` on each connection.
    pub fn start(namespace: &Namespace, address: SocketAddr, script: Script) -> Result<Self> {
        let listener = Arc::new(listen(namespace, address)?);
        let accepted = Arc::new(AtomicUsize::new(0));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let stopping = Arc::new(AtomicBool::new(false));
        let acceptor = thread::Builder::new()
            .name("lab-server".into())
            .spawn({
                let (listener, accepted) = (Arc::clone(&listener), Arc::clone(&accepted));
                let (failures, stopping) = (Arc::clone(&failures), Arc::clone(&stopping));
                move || accept_all(&listener, &Arc::new(script), &accepted, &failures, &stopping)
            })
            .context("start the server")?;
        Ok(Self { listener, accepted, failures, stopping, acceptor: Some(acceptor) })
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// What went wrong while playing the script, other than the client going away.
    pub fn failures(&self) -> Vec<String> {
        lock(&self.failures).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes accept(2). It fails only if the listener is gone already.
        let _ = SockRef::from(self.listener.as_ref()).shutdown(Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Opens a listening socket in `namespace`; an IPv6 one takes IPv6 only.
pub fn listen(namespace: &Namespace, address: SocketAddr) -> Result<TcpListener> {
    listen_for(namespace, address, 4096)
}

/// The same, with room for `backlog` connections that nobody has accepted; not more than the namespace allows
/// (`net.core.somaxconn`).
pub fn listen_for(namespace: &Namespace, address: SocketAddr, backlog: i32) -> Result<TcpListener> {
    namespace.enter("listen", || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
            .context("open a socket")?;
        socket.set_reuse_address(true).context("SO_REUSEADDR")?;
        if address.is_ipv6() {
            socket.set_only_v6(true).context("IPV6_V6ONLY")?;
        }
        socket.bind(&address.into()).with_context(|| format!("bind to {address}"))?;
        socket.listen(backlog).with_context(|| format!("listen on {address}"))?;
        Ok(socket.into())
    })
}

fn accept_all(
    listener: &TcpListener,
    script: &Arc<Script>,
    accepted: &AtomicUsize,
    failures: &Arc<Mutex<Vec<String>>>,
    stopping: &AtomicBool,
) {
    while !stopping.load(Ordering::SeqCst) {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) if stopping.load(Ordering::SeqCst) => return,
            Err(error) => {
                lock(failures).push(format!("accept: {error}"));
                continue;
            }
        };
        accepted.fetch_add(1, Ordering::SeqCst);
        let (script, failures_here) = (Arc::clone(script), Arc::clone(failures));
        let started = thread::Builder::new().name("lab-server".into()).spawn(move || {
            if let Err(error) = script.play(stream)
                && !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
            {
                lock(&failures_here).push(error.to_string());
            }
        });
        if let Err(error) = started {
            lock(failures).push(format!("start a thread: {error}"));
        }
    }
}

fn lock(failures: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    failures.lock().unwrap_or_else(PoisonError::into_inner)
}
