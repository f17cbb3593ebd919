//! Scripted SMTP client sessions in a namespace.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::libc;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{attempt::waited_for_processor, namespace::Namespace};

/// Name of the threads that connect: what the kernel reports as `comm`.
pub const COMM: &str = "lab-client";

/// How long a session waits for a reply before the test fails.
const PATIENCE: Duration = Duration::from_secs(15);

/// Kind of socket a connection is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// The family of the destination.
    Native,
    /// An IPv6 socket that connects to an IPv4 address in mapped form.
    Ipv4Mapped,
}

/// One SMTP session over one connection. Dropping it closes the connection with a FIN.
#[derive(Debug)]
pub struct Session {
    reader: BufReader<TcpStream>,
    local: SocketAddr,
}

impl Session {
    /// Connects from `namespace` and returns at once when the connection is established.
    pub fn connect(namespace: &Namespace, to: SocketAddr) -> Result<Self> {
        Self::connect_with(namespace, to, SocketKind::Native, |_| Ok(()))
    }

    /// Connects from a socket of the given kind; `prepare` may set options on it first.
    pub fn connect_with(
        namespace: &Namespace,
        to: SocketAddr,
        kind: SocketKind,
        prepare: impl FnOnce(&Socket) -> io::Result<()> + Send,
    ) -> Result<Self> {
        namespace.enter(COMM, || Self::connect_here(to, kind, prepare))
    }

    /// Connects from the namespace of the calling thread.
    pub fn connect_here(
        to: SocketAddr,
        kind: SocketKind,
        prepare: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> Result<Self> {
        let to = if kind == SocketKind::Ipv4Mapped { mapped(to)? } else { to };
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
            .context("open a socket")?;
        prepare(&socket).context("set socket options")?;
        socket.connect(&to.into()).with_context(|| format!("connect to {to}"))?;
        Self::over(socket.into())
    }

    /// A session over a connection that exists already.
    pub fn over(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE)).context("set the read timeout")?;
        let local = stream.local_addr().context("local address")?;
        Ok(Self { reader: BufReader::new(stream), local })
    }

    fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Local address; of a mapped socket, in its IPv4 form.
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(self.local.ip().to_canonical(), self.local.port())
    }

    /// Address of the server.
    pub fn server(&self) -> Result<SocketAddr> {
        self.stream().peer_addr().context("address of the server")
    }

    /// Whether the kernel knows that the connection is over, or will be. The socket keeps its error.
    pub fn is_over(&self) -> Result<bool> {
        const TCP_ESTABLISHED: u8 = 1; // include/net/tcp_states.h
        Ok(tcp_info(self)?.tcpi_state != TCP_ESTABLISHED)
    }

    /// Reads one complete reply, which may have several lines.
    pub fn reply(&mut self) -> Result<String> {
        let mut reply = String::new();
        loop {
            let mut line = Vec::new();
            let read = self.reader.read_until(b'\n', &mut line).context("read a reply")?;
            ensure!(read > 0, "the server closed in the middle of a reply: {reply:?}");
            let last = line.get(3) != Some(&b'-');
            reply.push_str(&String::from_utf8_lossy(&line));
            if last {
                return Ok(reply);
            }
        }
    }

    /// Reads so many bytes, whatever they are.
    pub fn skip(&mut self, bytes: usize) -> Result<()> {
        self.reader.read_exact(&mut vec![0; bytes]).context("read what comes before")
    }

    /// Sends bytes as they are, in one write.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.reader.get_mut().write_all(bytes).context("send")
    }

    /// Sends a command line and reads its reply, which must start with `code`.
    pub fn command(&mut self, line: &str, code: &str) -> Result<String> {
        self.send(format!("{line}\r\n").as_bytes())?;
        let reply = self.reply()?;
        if !reply.starts_with(code) {
            bail!("{line}: expected {code}, got {reply:?}");
        }
        Ok(reply)
    }

    /// Reads the greeting and says EHLO.
    pub fn begin(&mut self) -> Result<()> {
        let greeting = self.reply()?;
        ensure!(greeting.starts_with("220"), "greeting {greeting:?}");
        self.command("EHLO client.test", "250").map(drop)
    }

    /// Hands over one message with `size` bytes of body.
    pub fn message(&mut self, size: usize) -> Result<()> {
        self.command("MAIL FROM:<a@client.test>", "250")?;
        self.command("RCPT TO:<b@server.test>", "250")?;
        self.command("DATA", "354")?;
        let line = "X".repeat(70);
        let mut body = String::with_capacity(size + 72);
        while body.len() < size {
            body.push_str(&line);
            body.push_str("\r\n");
        }
        self.command(&format!("{body}."), "250").map(drop)
    }

    /// Says QUIT, reads the reply, waits for the server to close, then closes.
    pub fn quit(mut self) -> Result<()> {
        self.command("QUIT", "221")?;
        let mut rest = Vec::new();
        self.reader.read_until(b'\0', &mut rest).context("wait for the server's close")?;
        Ok(())
    }

    /// Closes; with nothing unread this sends a FIN.
    pub fn close(self) {}

    /// Closes the sending direction only.
    pub fn shut_down(&self) -> Result<()> {
        self.stream().shutdown(Shutdown::Write).context("shutdown")
    }

    /// Closes both directions, but keeps the descriptor.
    pub fn shut_down_both(&self) -> Result<()> {
        self.stream().shutdown(Shutdown::Both).context("shutdown")
    }

    /// Closes the sending direction only and waits for the server's FIN.
    pub fn shut_down_and_wait(mut self) -> Result<()> {
        self.shut_down()?;
        let mut rest = Vec::new();
        self.reader.read_until(b'\0', &mut rest).context("wait for the server's close")?;
        Ok(())
    }

    /// Closes with a reset (`SO_LINGER` with 0 seconds).
    pub fn reset(self) -> Result<()> {
        self.options().set_linger(Some(Duration::ZERO)).context("SO_LINGER")
    }

    /// Waits until the server has sent something, then closes without reading it: the kernel then
    /// sends a reset.
    pub fn close_unread(self) -> Result<()> {
        let mut byte = [0];
        let peeked = self.stream().peek(&mut byte).context("wait for data")?;
        ensure!(peeked == 1, "the server closed instead of sending");
        Ok(())
    }

    /// Waits until the server's FIN or reset has arrived and returns the error, if it is one.
    pub fn wait_for_end(&mut self, patience: Duration) -> Result<Option<io::Error>> {
        self.stream().set_read_timeout(Some(patience)).context("set the read timeout")?;
        let mut rest = Vec::new();
        match self.reader.read_until(b'\0', &mut rest) {
            Ok(_) => Ok(None),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
                    && error.raw_os_error() != Some(nix::errno::Errno::ETIMEDOUT as i32) =>
            {
                bail!("nothing ended the connection within {patience:?}")
            }
            Err(error) => Ok(Some(error)),
        }
    }

    /// Socket options.
    pub fn options(&self) -> SockRef<'_> {
        SockRef::from(self.stream())
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream().as_fd()
    }
}

/// What the kernel knows of a connection (`TCP_INFO`).
pub fn tcp_info(socket: impl AsFd) -> Result<libc::tcp_info> {
    // SAFETY: all bytes of the structure may be zero.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = u32::try_from(size_of_val(&info))?;
    // SAFETY: the option value is a `tcp_info` of this length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    ensure!(result == 0, "TCP_INFO: {}", io::Error::last_os_error());
    Ok(info)
}

/// A connect that failed.
#[derive(Debug)]
pub struct FailedConnect {
    /// Why.
    pub error: io::Error,
    /// How long connect(2) took.
    pub took: Duration,
    /// For so much of that it waited for a processor.
    pub waited: Duration,
}

/// Makes a connect that must fail, and measures it.
pub fn failing_connect(namespace: &Namespace, to: SocketAddr) -> Result<FailedConnect> {
    namespace.enter(COMM, || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
            .context("open a socket")?;
        let (start, before) = (Instant::now(), waited_for_processor());
        match socket.connect(&to.into()) {
            Ok(()) => bail!("the connect to {to} succeeded"),
            Err(error) => {
                let waited = waited_for_processor().saturating_sub(before);
                Ok(FailedConnect { error, took: start.elapsed(), waited })
            }
        }
    })
}

/// Starts a non-blocking connect and gives it up after `patience`. Returns how long it lasted, and for how much of that
/// the thread waited for a processor.
pub fn give_up_connect(
    namespace: &Namespace,
    to: SocketAddr,
    patience: Duration,
) -> Result<(Duration, Duration)> {
    namespace.enter(COMM, || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
            .context("open a socket")?;
        socket.set_nonblocking(true).context("make the socket non-blocking")?;
        let (start, before) = (Instant::now(), waited_for_processor());
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
            other => bail!("a non-blocking connect to {to} gave {other:?}"),
        }
        std::thread::sleep(patience);
        drop(socket);
        let waited = waited_for_processor().saturating_sub(before);
        Ok((start.elapsed(), waited))
    })
}

fn mapped(to: SocketAddr) -> Result<SocketAddr> {
    match to {
        SocketAddr::V4(v4) => {
            let ip: Ipv4Addr = *v4.ip();
            let ip: Ipv6Addr = ip.to_ipv6_mapped();
            Ok(SocketAddr::from((ip, v4.port())))
        }
        SocketAddr::V6(_) => bail!("{to} has no mapped form"),
    }
}
