//! The scene: a process of its own with two network namespaces, in which clients send to servers.
//!
//! Nothing of it has a name on the host. The namespaces live as long as this process, and this process as
//! long as the one that started it.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::MetadataExt as _,
    process::exit,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    sched::{CloneFlags, unshare},
    sys::{prctl, signal::Signal},
};
use serde::{Deserialize, Serialize};

use super::{
    destinations::{CLIENT, DESTINATIONS, PORT},
    device,
    middlebox::Middlebox,
    sender,
    server::{Count, Server},
};
use crate::status::FAILED;

/// What the scene says on its stdout, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// Everything stands; it begins when a byte comes on stdin.
    Ready {
        /// Inode number of the client's network namespace.
        netns: u32,
    },
    /// All mail is sent and all sessions are over.
    Done {
        /// What each server counted, by its host name.
        counts: BTreeMap<String, Count>,
        /// Messages that were not taken.
        undelivered: u64,
    },
    /// It could not go on.
    Failed(String),
}

/// Time for the last acknowledgements of sessions that have ended.
const LINGER: Duration = Duration::from_millis(500);

/// Runs the scene. It ends when stdin is closed, so also when the process at the other end dies.
pub(super) fn run() -> ! {
    if let Err(error) = play() {
        // Who started it has gone if this cannot be said.
        let _ = say(&Message::Failed(format!("{error:#}")));
        exit(FAILED.into());
    }
    loop {
        thread::park();
    }
}

fn play() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("cannot ask for a signal")?;
    let (device, listeners) = in_namespace_of_its_own(servers_side)?;
    unshare(CloneFlags::CLONE_NEWNET).context(NO_NAMESPACE)?;
    let client = device::create(&[CLIENT])?;
    let memory = DESTINATIONS.iter().filter_map(|it| Some((it.address, it.memory?)));
    Middlebox::new(memory.collect::<HashMap<_, _>>()).start(client, device)?;
    let servers: Vec<Arc<Server>> = DESTINATIONS
        .iter()
        .zip(listeners)
        .map(|(it, listener)| Server::start(listener, it.host, it.limits))
        .collect::<Result<_>>()?;
    let netns = fs::metadata("/proc/thread-self/ns/net").context("cannot look at the namespace")?;
    say(&Message::Ready { netns: u32::try_from(netns.ino()).context("number of a namespace")? })?;
    wait_for_the_start()?;
    let undelivered = send_everything()?;
    thread::sleep(LINGER);
    let hosts = DESTINATIONS.iter().map(|it| it.host.to_owned());
    let counts = hosts.zip(servers.iter().map(|server| server.count())).collect();
    say(&Message::Done { counts, undelivered })
}

const NO_NAMESPACE: &str = "cannot make a network namespace; that takes root (CAP_SYS_ADMIN)";

/// Runs `work` on a thread in a new network namespace. It lives on with what was opened there.
fn in_namespace_of_its_own<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context(NO_NAMESPACE)?;
            work()
        });
        inside.join().map_err(|_| anyhow!("a thread panicked"))?
    })
}

fn servers_side() -> Result<(fs::File, Vec<TcpListener>)> {
    let addresses: Vec<Ipv4Addr> = DESTINATIONS.iter().map(|it| it.address).collect();
    let device = device::create(&addresses)?;
    let listen = |&address: &Ipv4Addr| {
        let address = SocketAddr::from((address, PORT));
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
    };
    Ok((device, addresses.iter().map(listen).collect::<Result<_>>()?))
}

/// Waits for a byte on stdin; from then on its end is the end of this process.
fn wait_for_the_start() -> Result<()> {
    let mut start = [0];
    if io::stdin().read(&mut start).context("cannot read stdin")? == 0 {
        exit(0);
    }
    let watch = || {
        // Whatever the reason: nobody is there any more.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        exit(0);
    };
    thread::Builder::new().spawn(watch).context("cannot start a thread")?;
    Ok(())
}

/// Sends to all destinations at the same time. Returns the number of messages that were not taken.
fn send_everything() -> Result<u64> {
    thread::scope(|scope| {
        let start = |destination| {
            let thread = thread::Builder::new().name("demo-sender".into());
            let work = move || sender::send(destination);
            thread.spawn_scoped(scope, work).context("cannot start a thread")
        };
        let senders: Vec<_> = DESTINATIONS.iter().map(start).collect::<Result<_>>()?;
        senders
            .into_iter()
            .map(|sender| sender.join().map_err(|_| anyhow!("a sender panicked"))?)
            .sum()
    })
}

fn say(message: &Message) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).context("cannot write to stdout")
}
