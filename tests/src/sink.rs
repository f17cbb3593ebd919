//! smtp-sink, the receiving test program of Postfix.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Result;

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
        command.arg("200").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let sink = Self { process: namespace.spawn(&mut command)? };
        wait_for_listener(namespace, address.port())?;
        Ok(sink)
    }
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
