//! Connections that stand open: more of them than one process may have descriptors.
//!
//! This program starts itself again for each process that holds some (`--hold`). What they connect to never
//! accepts: to the client a connection is established when the kernel of the server has answered.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tests::{
    lab::{Lab, SERVER_ADDRESSES, server_v4},
    server,
};

/// Connections of one process, if it may open so many.
const PER_PROCESS: usize = 15_000;

/// What a process opens besides.
const OTHERS: u64 = 100;

/// What the holder says when it has them all.
const HELD: &str = "held";

/// Connections that stand open until this is dropped.
#[derive(Debug)]
pub(crate) struct Crowd {
    holders: Vec<Child>,
    /// They are there until this is dropped.
    listeners: Vec<TcpListener>,
}

/// How many of `wanted` connections can stand open: each process holds those to one address of the server.
pub(crate) fn that_fit(wanted: usize) -> Result<usize> {
    let fit = wanted.min(usize::from(SERVER_ADDRESSES - 1) * per_process()?);
    if fit < wanted {
        eprintln!("bench: {fit} connections instead of {wanted}: RLIMIT_NOFILE allows no more");
    }
    Ok(fit)
}

fn per_process() -> Result<usize> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read RLIMIT_NOFILE")?;
    Ok(PER_PROCESS.min(usize::try_from(hard.saturating_sub(OTHERS)).unwrap_or(usize::MAX)))
}

impl Crowd {
    /// Opens `count` connections in `lab`, to all addresses of the server but the first.
    pub(crate) fn open(lab: &Lab, count: usize) -> Result<Self> {
        let per_process = per_process()?;
        lab.client.sysctl("net.ipv4.ip_local_port_range", "1024 65000")?;
        lab.server.sysctl("net.core.somaxconn", "65535")?;
        let mut crowd = Self { holders: Vec::new(), listeners: Vec::new() };
        let mut left = count;
        for offset in 1..SERVER_ADDRESSES {
            let now = left.min(per_process);
            if now == 0 {
                break;
            }
            left -= now;
            let address = SocketAddr::from((server_v4(offset), lab.port()));
            let backlog = i32::try_from(now).unwrap_or(i32::MAX);
            crowd.listeners.push(server::listen_for(&lab.server, address, backlog)?);
            let mut command = Command::new(std::env::current_exe().context("find this program")?);
            command.args(["--hold", &address.to_string(), "--connections", &now.to_string()]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            crowd.holders.push(lab.client.spawn(&mut command)?);
        }
        ensure!(left == 0, "{count} connections do not fit");
        for holder in &mut crowd.holders {
            let said = holder.stdout.take().context("its output is piped")?;
            let line = BufReader::new(said).lines().next().transpose().context("read from it")?;
            ensure!(line.as_deref() == Some(HELD), "the process that holds connections ended");
        }
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            drop(holder.stdin.take()); // which ends it
            let _ = holder.wait();
        }
    }
}

/// Opens `count` connections to `address` and holds them until stdin ends.
pub(crate) fn hold(address: SocketAddr, count: usize) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read RLIMIT_NOFILE")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("allow all descriptors there are")?;
    let mut held = Vec::with_capacity(count);
    for n in 0..count {
        let stream = TcpStream::connect(address);
        held.push(stream.with_context(|| format!("connect to {address}, {n} times done"))?);
    }
    println!("{HELD}");
    let mut until_end = Vec::new();
    std::io::stdin().read_to_end(&mut until_end).context("wait for the end of stdin")?;
    Ok(())
}
