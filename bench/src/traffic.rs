//! The traffic that is traced, and the traffic that is not.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use tests::{
    lab::{Lab, SERVER_V4},
    namespace::Namespace,
    postfix::{Postfix, Starttls},
    server::{self, Server},
    session::Session,
    sink::Sink,
    tls_client::TlsClient,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of the body of a message: the size of a short mail.
const BODY: usize = 2_000;

/// One kind of SMTP session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Cleartext.
    Cleartext,
    /// STARTTLS, TLS 1.3, by Python's smtplib to Postfix.
    Tls,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cleartext => "cleartext",
            Self::Tls => "TLS 1.3",
        }
    }
}

/// A server for sessions of one kind, in a lab of its own.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    kind: Kind,
    _server: Served,
}

/// What serves; it is kept for its end only.
enum Served {
    Script(#[expect(dead_code, reason = "stops when dropped")] Server),
    Postfix(#[expect(dead_code, reason = "stops when dropped")] Postfix),
}

impl Scene {
    /// Builds the network and starts the server.
    pub(crate) fn up(kind: Kind) -> Result<Self> {
        let lab = Lab::up()?;
        let server = match kind {
            Kind::Cleartext => Served::Script(Server::mail(&lab)?),
            Kind::Tls => {
                Served::Postfix(Postfix::receiver(&lab, lab.server_v4(), Starttls::Offered)?)
            }
        };
        Ok(Self { lab, kind, _server: server })
    }

    /// Holds `count` sessions, one after the other, with `messages` messages each, and waits until all of
    /// their sockets are gone.
    pub(crate) fn sessions(&self, count: usize, messages: usize) -> Result<()> {
        for _ in 0..count {
            match self.kind {
                Kind::Cleartext => self.in_clear(messages)?,
                Kind::Tls => {
                    let action = format!("{messages}x1");
                    let to = self.lab.server_v4();
                    TlsClient::python(&self.lab.client, to, &[&action])?.finish()?;
                }
            }
        }
        self.lab.wait_for_ends(PATIENCE)
    }

    fn in_clear(&self, messages: usize) -> Result<()> {
        let mut session = Session::connect(&self.lab.client, self.lab.server_v4())?;
        session.begin()?;
        for _ in 0..messages {
            session.message(BODY)?;
        }
        session.quit()
    }
}

/// A mail sink, for messages as fast as they go: Postfix's smtp-source to smtp-sink.
pub(crate) struct Flood {
    pub(crate) lab: Lab,
    _sink: Sink,
}

impl Flood {
    pub(crate) fn up() -> Result<Self> {
        let lab = Lab::up()?;
        // So that TIME-WAIT, of either side, does not use up the ports.
        lab.client.sysctl("net.ipv4.tcp_tw_reuse", "1")?;
        lab.client.sysctl("net.ipv4.ip_local_port_range", "1024 65000")?;
        let sink = Sink::start(&lab.server, lab.server_v4(), &[])?;
        Ok(Self { lab, _sink: sink })
    }

    /// Sends `messages`, each over a connection of its own, over ten at a time. Returns messages per second.
    pub(crate) fn messages_per_second(&self, messages: usize) -> Result<f64> {
        let to = format!("inet:{}:{}", SERVER_V4, self.lab.port());
        let mut command = Command::new("smtp-source");
        command.args(["-s", "10", "-l", "2000", "-m", &messages.to_string(), &to]);
        let start = Instant::now();
        let status = self.lab.client.spawn(&mut command)?.wait().context("wait for smtp-source")?;
        ensure!(status.success(), "smtp-source ended with {status}");
        Ok(messages as f64 / start.elapsed().as_secs_f64())
    }
}

/// A port that nobody traces, with a server that answers each byte with a byte and swallows the rest.
pub(crate) struct Untraced {
    pub(crate) lab: Lab,
}

/// A port that no lab traces: labs take others.
const UNTRACED_PORT: u16 = 9;

impl Untraced {
    pub(crate) fn up() -> Result<Self> {
        Ok(Self { lab: Lab::up()? })
    }

    /// Sends `count` requests of one byte, each after the answer to the one before. Returns requests per
    /// second.
    pub(crate) fn requests_per_second(&self, count: usize) -> Result<f64> {
        let took = self.beside(
            move |mut stream| {
                let mut byte = [0];
                for _ in 0..count {
                    stream.read_exact(&mut byte)?;
                    stream.write_all(&byte)?;
                }
                Ok(())
            },
            move |mut stream| {
                let mut byte = [0];
                for _ in 0..count {
                    stream.write_all(&byte)?;
                    stream.read_exact(&mut byte)?;
                }
                Ok(())
            },
        )?;
        Ok(count as f64 / took.as_secs_f64())
    }

    /// Sends `megabytes` as fast as they go. Returns megabytes per second.
    pub(crate) fn megabytes_per_second(&self, megabytes: usize) -> Result<f64> {
        let took = self.beside(
            move |mut stream| std::io::copy(&mut stream, &mut std::io::sink()).map(drop),
            move |mut stream| {
                let block = vec![0; 1 << 20];
                (0..megabytes).try_for_each(|_| stream.write_all(&block))
            },
        )?;
        Ok(megabytes as f64 / took.as_secs_f64())
    }

    fn beside(
        &self,
        serve: impl FnOnce(TcpStream) -> std::io::Result<()> + Send,
        ask: impl FnOnce(TcpStream) -> std::io::Result<()> + Send,
    ) -> Result<Duration> {
        let address = SocketAddr::from((SERVER_V4, UNTRACED_PORT));
        let listener = server::listen(&self.lab.server, address)?;
        thread::scope(|scope| {
            let server = scope.spawn(move || {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                serve(stream)
            });
            let stream = connect(&self.lab.client, address)?;
            let start = Instant::now();
            ask(stream).context("send")?;
            server.join().map_err(|_| anyhow!("the server panicked"))?.context("serve")?;
            Ok(start.elapsed())
        })
    }
}

fn connect(client: &Namespace, to: SocketAddr) -> Result<TcpStream> {
    client.enter("bench", || {
        let stream = TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        Ok(stream)
    })
}
