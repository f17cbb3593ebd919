//! Sessions that die in every way, each followed by a write of a client that has not noticed: what a connection
//! pool does that finds a session dead.

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use socket2::{Socket, TcpKeepalive};

use crate::{
    lab::{Lab, server_v4, server_v6},
    pace,
    recording::{Record, Recording},
    server::{Script, Server, Step},
    session::{Session, SocketKind},
    wait,
};

/// After so long the server ends an idle session.
const IDLE: Duration = Duration::from_millis(700);
/// A client is idle for so long before a write that counts as a reuse.
const LONG_IDLE: Duration = Duration::from_millis(1_400);
/// When the client writes once more, from the end on.
const LATE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);
/// Words of so many bytes do not arrive, where that is wanted.
const LOST: usize = 300;
/// A time in a record is this near to the truth; on a slow machine farther from it.
const NEAR: Duration = Duration::from_millis(400);

/// A way to die.
struct Way {
    server: SocketAddr,
    script: Script,
    prepare: fn(&Socket) -> std::io::Result<()>,
    /// What the client does to the end, after the greeting.
    live: fn(&Lab, &mut Session) -> Result<()>,
    /// The first late write reaches the server, which is gone: only the next one fails.
    is_half_open: bool,
    /// The right answer: `end_cause`, `end_during`, `end_idle_us` if that matters, `turns`.
    end: (&'static str, &'static str, Option<Duration>, u64),
}

fn greeted() -> Script {
    Script::default().send("220 server.test ESMTP\r\n").then(Step::Command)
}

fn welcomed() -> Script {
    greeted().send("250 server.test\r\n")
}

fn ehlo(_: &Lab, session: &mut Session) -> Result<()> {
    session.command("EHLO client.test", "250").map(drop)
}

fn ehlo_unanswered(_: &Lab, session: &mut Session) -> Result<()> {
    session.send(b"EHLO client.test\r\n")
}

fn reuse(lab: &Lab, session: &mut Session) -> Result<()> {
    ehlo(lab, session)?;
    thread::sleep(LONG_IDLE);
    session.send(b"RSET\r\n")
}

/// Nothing reaches the server of `session` any more.
fn cut(lab: &Lab, session: &Session) -> Result<()> {
    let server = session.server()?.ip();
    let family = if server.is_ipv4() { "ip" } else { "ip6" };
    lab.router_drop(&format!("{family} daddr {server} tcp dport {}", lab.port()))
}

fn falls_silent(lab: &Lab, session: &mut Session) -> Result<()> {
    ehlo(lab, session)?;
    cut(lab, session)
}

/// Its packet is longer than any other, and does not arrive: see [`Deaths::prepare`].
fn falls_silent_in_use(lab: &Lab, session: &mut Session) -> Result<()> {
    ehlo(lab, session)?;
    session.send(format!("NOOP {}\r\n", "x".repeat(LOST)).as_bytes())
}

fn closes(lab: &Lab, session: &mut Session) -> Result<()> {
    ehlo(lab, session)?;
    thread::sleep(IDLE);
    session.shut_down_both()
}

fn closes_half(lab: &Lab, session: &mut Session) -> Result<()> {
    ehlo(lab, session)?;
    thread::sleep(IDLE);
    session.shut_down()
}

fn with_keepalive(socket: &Socket) -> std::io::Result<()> {
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new().with_time(second).with_interval(second);
    socket.set_tcp_keepalive(&keepalive.with_retries(1))
}

fn with_timeout(socket: &Socket) -> std::io::Result<()> {
    socket.set_tcp_user_timeout(Some(Duration::from_secs(1)))
}

fn ways(lab: &Lab) -> Vec<Way> {
    let plain = |server, script, live, end| Way {
        server: SocketAddr::new(server, lab.port()),
        script,
        prepare: |_| Ok(()),
        live,
        is_half_open: false,
        end,
    };
    let v4 = |offset| server_v4(offset).into();
    let v6 = |offset| server_v6(offset).into();
    let half_open = |way| Way { is_half_open: true, ..way };
    let used = || welcomed().then(Step::Command);
    let open = || welcomed().then(Step::DrainToEnd);
    let (idle, long) = (Some(IDLE), Some(LONG_IDLE));
    vec![
        // While idle, at the first command, on reuse; by reset and by FIN.
        plain(
            v4(1),
            welcomed().pause(IDLE).close_with_reset(),
            ehlo,
            ("rst_received", "idle", idle, 1),
        ),
        half_open(plain(v4(2), welcomed().pause(IDLE), ehlo, ("peer_fin", "idle", idle, 1))),
        plain(
            v4(3),
            greeted().close_with_reset(),
            ehlo_unanswered,
            ("rst_received", "dialogue", None, 1),
        ),
        half_open(plain(v4(4), greeted(), ehlo_unanswered, ("peer_fin", "dialogue", None, 1))),
        plain(v4(5), used().close_with_reset(), reuse, ("rst_received", "reuse", long, 2)),
        half_open(plain(v4(6), used(), reuse, ("peer_fin", "reuse", long, 2))),
        // In silence.
        Way {
            prepare: with_keepalive,
            ..plain(v4(7), open(), falls_silent, ("timeout", "idle", None, 1))
        },
        Way {
            prepare: with_timeout,
            ..plain(v6(1), open(), falls_silent_in_use, ("timeout", "dialogue", None, 2))
        },
        // By the client.
        plain(v6(2), open(), closes, ("local_fin", "idle", idle, 1)),
        plain(v6(3), open(), closes_half, ("local_fin", "idle", idle, 1)),
    ]
}

/// Servers of sessions that die.
pub struct Deaths {
    ways: Vec<Way>,
    servers: Vec<Server>,
}

impl Deaths {
    /// Starts the servers.
    pub fn prepare(lab: &Lab) -> Result<Self> {
        let (address, port) = (server_v6(1), lab.port());
        lab.router_drop(&format!("ip6 daddr {address} tcp dport {port} meta length > {LOST}"))?;
        let ways = ways(lab);
        let start = |way: &Way| Server::start(&lab.server, way.server, way.script.clone());
        let servers = ways.iter().map(start).collect::<Result<_>>()?;
        Ok(Self { ways, servers })
    }

    /// Has every session live, die, and be written to once more; all at the same time, but begun one after the
    /// other. Returns their number.
    pub fn play(&self, lab: &Lab) -> Result<usize> {
        let ends: Vec<Result<()>> = thread::scope(|scope| {
            let mut players = Vec::new();
            for way in &self.ways {
                thread::sleep(pace::stretched(Duration::from_millis(50)));
                players.push(scope.spawn(|| way.play(lab)));
            }
            let died = |_| Err(anyhow::anyhow!("a player panicked"));
            players.into_iter().map(|it| it.join().unwrap_or_else(died)).collect()
        });
        ends.into_iter().collect::<Result<Vec<_>>>()?;
        let failures: Vec<String> = self.servers.iter().flat_map(Server::failures).collect();
        ensure!(failures.is_empty(), "{failures:?}");
        Ok(self.ways.len())
    }

    /// Fails unless `recording` tells each death as it was.
    pub fn check(&self, recording: &Recording) -> Result<()> {
        for way in &self.ways {
            let mut records = recording.connections.iter();
            let record = records
                .find(|it| it.server().is_ok_and(|server| server == way.server))
                .with_context(|| format!("no record of {}", way.server))?;
            way.check(record).with_context(|| format!("{}", record.json()))?;
        }
        Ok(())
    }
}

impl Way {
    fn play(&self, lab: &Lab) -> Result<()> {
        let mut session =
            Session::connect_with(&lab.client, self.server, SocketKind::Native, self.prepare)?;
        session.reply()?;
        (self.live)(lab, &mut session)?;
        // The client does not read: it learns of the end when it writes.
        wait::until("the end of a session", PATIENCE, || Ok(session.is_over()?.then_some(())))?;
        thread::sleep(LATE);
        if self.is_half_open {
            session.send(b"NOOP\r\n").context("the first write after the server's FIN")?;
            thread::sleep(IDLE);
        }
        ensure!(session.send(b"NOOP\r\n").is_err(), "{}: the session lives", self.server);
        thread::sleep(IDLE);
        Ok(())
    }

    fn check(&self, record: &Record) -> Result<()> {
        let (cause, during, idle, turns) = self.end;
        ensure!(record.text("end_cause")? == Some(cause), "not {cause}");
        record.ensure_right_or_unknown("end_during", during)?;
        ensure!(record.known("turns")? == turns, "not {turns} exchanges");
        if let Some(idle) = idle {
            let told = Duration::from_micros(record.known("end_idle_us")?);
            ensure!(told.abs_diff(idle) < pace::stretched(NEAR).min(LATE / 2), "not {idle:?} idle");
        }
        Ok(())
    }
}
