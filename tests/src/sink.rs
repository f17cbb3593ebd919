//! smtp-sink, the receiving test program of Postfix.

use std::{
    io::Read as _,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{namespace::Namespace, wait};

/// A running smtp-sink. It is killed when dropped.
#[derive(Debug)]
pub struct Sink {
    process: Child,
}

impl Sink {
    /// Starts smtp-sink with `options` (see smtp-sink(1)) and waits until it listens.
    pub fn start(namespace: &Namespace, address: SocketAddr, options: &[&str]) -> Result<Self> {
        let mut command = Command::new("smtp-sink");
        command.args(["-u", "nobody"]).args(options);
        command.arg(match address {
            SocketAddr::V4(v4) => format!("{}:{}", v4.ip(), v4.port()),
            SocketAddr::V6(v6) => format!("[{}]:{}", v6.ip(), v6.port()),
        });
        command.arg("200").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let sink = Self { process: namespace.spawn(&mut command)? };
        wait_for_listener(namespace, address.port())?;
        Ok(sink)
    }

    /// Halts its process, so that it reads nothing more until it is killed.
    pub fn freeze(&self) -> Result<()> {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGSTOP)
            .context("freeze smtp-sink")
    }

    /// Stops it and returns how many sessions and messages it counted. Needs the option `-c`, which prints
    /// the counters anew whenever one changes: with thousands of messages it would wait for a reader.
    pub fn stop(mut self) -> Result<(u32, u32)> {
        self.process.kill().context("stop smtp-sink")?;
        let mut text = String::new();
        let mut stdout = self.process.stdout.take().context("standard output of smtp-sink")?;
        stdout.read_to_string(&mut text).context("read the counters of smtp-sink")?;
        counters(&text).with_context(|| format!("counters of smtp-sink: {text:?}"))
    }
}

/// Reads the last `sess=3 quit=3 mesg=9`.
fn counters(text: &str) -> Option<(u32, u32)> {
    let last = text.rsplit('\r').find(|line| line.contains("mesg="))?;
    let count = |name: &str| {
        let word = last.split_ascii_whitespace().find_map(|word| word.strip_prefix(name))?;
        word.parse().ok()
    };
    Some((count("sess=")?, count("mesg=")?))
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until something listens on `port` in `namespace`; makes no connection.
pub fn wait_for_listener(namespace: &Namespace, port: u16) -> Result<()> {
    let filter = format!("sport = :{port}");
    wait::until(&format!("a listener on port {port}"), Duration::from_secs(15), || {
        let sockets = namespace.run("ss", ["-tlnH", filter.as_str()])?;
        Ok((!sockets.stdout.is_empty()).then_some(()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_counters_count() {
        let text = "sess=0 quit=0 mesg=1\rsess=1 quit=0 mesg=12\r";
        assert_eq!(counters(text), Some((1, 12)));
        assert_eq!(counters(""), None);
    }
}
