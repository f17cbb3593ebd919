//! OpenSMTPD as a sender.

use std::{
    fs::{self, File},
    net::SocketAddr,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{lab::Lab, packages::Package, sink::wait_for_listener, tracer::read_lossy, wait};

/// Where it takes mail: loopback of the client's namespace.
const SUBMISSION_PORT: u16 = 2527;

/// A running OpenSMTPD that relays mail. It is killed when dropped.
#[derive(Debug)]
pub struct Opensmtpd<'a> {
    lab: &'a Lab,
    process: Child,
}

impl<'a> Opensmtpd<'a> {
    /// Starts it in the client's namespace. Mail for each domain of `relays` goes to the server beside
    /// it.
    pub fn start(lab: &'a Lab, relays: &[(&str, SocketAddr)]) -> Result<Self> {
        let mut configuration = format!("listen on 127.0.0.1 port {SUBMISSION_PORT}\n");
        for (domain, server) in relays {
            configuration.push_str(&format!(
                "action \"{domain}\" relay host \"smtp://{}:{}\"\n\
                 match from any for domain \"{domain}\" action \"{domain}\"\n",
                server.ip(),
                server.port()
            ));
        }
        let file = lab.file("smtpd.conf");
        fs::write(&file, configuration).context("write smtpd.conf")?;
        let log = File::create(lab.file("smtpd.log")).context("create the log of OpenSMTPD")?;
        let mut command = Package::Opensmtpd.command(lab, "smtpd")?;
        command.args(["-d", "-v", "-f"]).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let smtpd = Self { lab, process: lab.client.spawn(&mut command)? };
        wait_for_listener(&lab.client, SUBMISSION_PORT)
            .with_context(|| format!("log: {}", smtpd.log().unwrap_or_default()))?;
        Ok(smtpd)
    }

    fn log(&self) -> Result<String> {
        read_lossy(&self.lab.file("smtpd.log"))
    }

    /// Submits `count` mails of `size` bytes for `domain`, over one session.
    pub fn submit(&self, domain: &str, count: usize, size: usize) -> Result<()> {
        let (count, size) = (count.to_string(), size.to_string());
        let target = format!("127.0.0.1:{SUBMISSION_PORT}");
        let to = format!("b@{domain}");
        let arguments = ["-m", &count, "-l", &size, "-f", "a@mta-a.test", "-t", &to, &target];
        self.lab.client.run("smtp-source", arguments).map(drop)
    }

    /// Waits until `count` outgoing sessions have ended and returns how many messages it says that each
    /// carried.
    pub fn wait_for_sessions(&self, count: usize, patience: Duration) -> Result<Vec<u32>> {
        wait::until(&format!("the end of {count} sessions"), patience, || {
            let sessions = sessions(&self.log()?)?;
            Ok((sessions.len() >= count).then_some(sessions))
        })
        .with_context(|| format!("log: {}", self.log().unwrap_or_default()))
    }
}

impl Drop for Opensmtpd<'_> {
    fn drop(&mut self) {
        // It may have ended by itself; its other processes end with the namespace.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn sessions(log: &str) -> Result<Vec<u32>> {
    let ends = log.lines().filter(|line| line.contains(" mta disconnected "));
    let sessions = ends.map(|line| {
        let (_, count) = line.split_once("messages=").with_context(|| format!("log {line:?}"))?;
        ensure!(line.contains("reason=quit"), "log {line:?}");
        Ok(count.trim().parse()?)
    });
    sessions.collect()
}
