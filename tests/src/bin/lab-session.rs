//! A client process of its own, for tests about pids, users and sockets that change hands.
//!
//! `lab-session dial ADDRESS MESSAGES` waits for a line on standard input, then makes one session with so many
//! messages. `lab-session wait ADDRESS` says EHLO and a line on standard output, then does nothing until it is
//! killed. `lab-session take-over` receives a connected socket over the Unix socket that is its
//! standard input, hands over one message and quits.

use std::{
    io::{self, IoSliceMut},
    net::TcpStream,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use tests::session::{Session, SocketKind};

const BODY: usize = 500;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["dial", address, messages] => {
            let messages: usize =
                messages.parse().with_context(|| format!("{messages} messages"))?;
            let address = address.parse().with_context(|| format!("address {address}"))?;
            io::stdin().read_line(&mut String::new()).context("wait for the word to start")?;
            let mut session = Session::connect_here(address, SocketKind::Native, |_| Ok(()))?;
            session.begin()?;
            (0..messages).try_for_each(|_| session.message(BODY))?;
            session.quit()
        }
        ["wait", address] => {
            let address = address.parse().with_context(|| format!("address {address}"))?;
            let mut session = Session::connect_here(address, SocketKind::Native, |_| Ok(()))?;
            session.begin()?;
            println!("waiting");
            loop {
                std::thread::park();
            }
        }
        ["take-over"] => {
            let mut session = Session::over(TcpStream::from(received_socket()?))?;
            session.message(BODY)?;
            session.quit()
        }
        _ => bail!("usage: lab-session dial ADDRESS MESSAGES | wait ADDRESS | take-over"),
    }
}

fn received_socket() -> Result<OwnedFd> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let message = recvmsg::<UnixAddr>(
        io::stdin().as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::empty(),
    )
    .context("receive a socket")?;
    for control in message.cmsgs().context("control messages")? {
        if let ControlMessageOwned::ScmRights(sockets) = control
            && let Some(&socket) = sockets.first()
        {
            // SAFETY: the kernel has just put this descriptor into our table, and nobody else
            // knows its number.
            return Ok(unsafe { OwnedFd::from_raw_fd(socket) });
        }
    }
    bail!("no socket came")
}
