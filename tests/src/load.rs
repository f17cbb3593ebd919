//! Many short sessions, as fast as the machine can.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use socket2::{Domain, SockRef, Socket, Type};

use crate::{
    lab::{self, Lab},
    server,
};

const WORKERS: u8 = 4;

/// Connects in vain that one worker has under way.
const AT_ONCE: usize = 2_000;

/// A server whose only skill is to greet, read one command, answer and close.
#[derive(Debug)]
pub struct GreetingServer {
    listener: Arc<TcpListener>,
    stopping: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

impl GreetingServer {
    /// Listens on every address of the server's namespace.
    pub fn start(lab: &Lab) -> Result<Self> {
        lab.server.sysctl("net.core.somaxconn", "4096")?;
        let listener =
            Arc::new(server::listen(&lab.server, SocketAddr::from(([0, 0, 0, 0], lab.port())))?);
        let stopping = Arc::new(AtomicBool::new(false));
        let workers = (0..WORKERS).map(|_| {
            let (listener, stopping) = (Arc::clone(&listener), Arc::clone(&stopping));
            thread::spawn(move || {
                while !stopping.load(Ordering::SeqCst) {
                    if let Ok((stream, _)) = listener.accept() {
                        // The client notices a failure, and counts.
                        let _ = greet(stream);
                    }
                }
            })
        });
        let workers = workers.collect();
        Ok(Self { listener, stopping, workers })
    }
}

fn greet(mut stream: TcpStream) -> std::io::Result<()> {
    let mut command = [0; 64];
    stream.write_all(b"220 load.test ESMTP\r\n")?;
    if stream.read(&mut command)? > 0 {
        stream.write_all(b"221 bye\r\n")?;
    }
    Ok(())
}

impl Drop for GreetingServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes accept(2).
        let _ = SockRef::from(self.listener.as_ref()).shutdown(Shutdown::Both);
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections that were established (and ended).
    pub connections: u64,
    /// Connects that failed.
    pub failures: u64,
    /// From the first connect to the last close.
    pub took: Duration,
}

impl Load {
    /// Connections per second.
    pub fn rate(&self) -> f64 {
        self.connections as f64 / self.took.as_secs_f64()
    }
}

/// Makes sessions at `per_second` (or as many as the machine manages) for `time`.
pub fn generate(lab: &Lab, per_second: u32, time: Duration) -> Result<Load> {
    // So that TIME-WAIT, of either side, does not use up the ports.
    lab.client.sysctl("net.ipv4.tcp_tw_reuse", "1")?;
    lab.client.sysctl("net.ipv4.ip_local_port_range", "1024 65000")?;
    let (connections, failures) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = Instant::now();
    lab.client.enter("load", || {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    let (connections, failures) = (&connections, &failures);
                    scope.spawn(move || {
                        pace(worker, per_second, time, start, |turn| {
                            let addresses = u32::from(lab::SERVER_ADDRESSES);
                            // Below `addresses`, so it fits.
                            let offset = u8::try_from(turn % addresses).unwrap_or_default();
                            let address = lab::server_v4(offset);
                            match session(SocketAddr::from((address, lab.port()))) {
                                Ok(()) => connections.fetch_add(1, Ordering::Relaxed),
                                Err(_) => failures.fetch_add(1, Ordering::Relaxed),
                            };
                        });
                    })
                })
                .collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a load thread panicked")))
        })
    })?;
    Ok(Load {
        connections: connections.into_inner(),
        failures: failures.into_inner(),
        took: start.elapsed(),
    })
}

/// Connects for `time` to where packets are dropped; each connect gives up after a second, when its timer expires:
/// in an interrupt. Meanwhile other threads connect all the time to where nobody listens, on loopback. Returns how
/// many connects gave up.
pub fn connect_in_vain(lab: &Lab, time: Duration) -> Result<u64> {
    lab.client.sysctl("net.ipv4.ip_local_port_range", "1024 65000")?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = most.max(2 * u64::from(WORKERS) * AT_ONCE as u64);
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let end = Instant::now() + time;
    let port = lab.port();
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    lab.client.enter("in vain", || {
        thread::scope(|scope| {
            for _ in 0..WORKERS / 2 {
                scope
                    .spawn(|| while Instant::now() < end && TcpStream::connect(nobody).is_err() {});
            }
            let worker = |it| scope.spawn(move || give_up(it, port, end));
            let workers: Vec<_> = (0..WORKERS).map(worker).collect();
            workers.into_iter().try_fold(0, |connects, worker| {
                Ok(connects + worker.join().map_err(|_| anyhow!("a thread panicked"))??)
            })
        })
    })
}

/// Connects to a server of the worker's own until `end`, and waits for the end of each connect.
fn give_up(worker: u8, port: u16, end: Instant) -> Result<u64> {
    let address = SocketAddr::from((lab::server_v4(worker), port));
    let mut open = VecDeque::with_capacity(AT_ONCE);
    let mut connects = 0;
    while Instant::now() < end {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        // Counts from the first retransmission, which comes after a second.
        socket.set_tcp_user_timeout(Some(Duration::from_millis(1)))?;
        let begun = socket.connect(&address.into()).err().and_then(|error| error.raw_os_error());
        ensure!(begun == Some(Errno::EINPROGRESS as i32), "connect: {begun:?}");
        connects += 1;
        open.push_back(socket);
        if open.len() == AT_ONCE
            && let Some(socket) = open.pop_front()
        {
            await_failure(&socket)?;
        }
    }
    open.iter().try_for_each(await_failure)?;
    Ok(connects)
}

fn await_failure(socket: &Socket) -> Result<()> {
    let mut wanted = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    ensure!(poll(&mut wanted, PollTimeout::from(30_000_u16))? == 1, "the connect does not end");
    Ok(())
}

/// Calls `work` with 0, 1, 2… at the share of `per_second` that falls to one worker.
fn pace(worker: u8, per_second: u32, time: Duration, start: Instant, mut work: impl FnMut(u32)) {
    let interval = Duration::from_secs(1) * u32::from(WORKERS) / per_second.max(1);
    let first = interval / u32::from(WORKERS) * u32::from(worker);
    let mut turn = 0;
    loop {
        let due = first + interval * turn;
        if due >= time || start.elapsed() >= time {
            return;
        }
        thread::sleep(due.saturating_sub(start.elapsed()));
        work(turn);
        turn += 1;
    }
}

fn session(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(to).context("connect")?;
    let mut reply = [0; 128];
    stream.set_read_timeout(Some(Duration::from_secs(10))).context("set the read timeout")?;
    ensure!(stream.read(&mut reply).context("read the greeting")? > 0, "no greeting");
    stream.write_all(b"QUIT\r\n").context("send QUIT")?;
    // The reply, then the server's FIN.
    while stream.read(&mut reply).context("read the reply to QUIT")? > 0 {}
    Ok(())
}
