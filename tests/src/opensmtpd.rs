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
        let listener = format!("listen on 127.0.0.1 port {SUBMISSION_PORT}\n");
        let actions = relays.iter().map(|(domain, server)| {
            let (ip, port) = (server.ip(), server.port());
            format!(
                "action \"{domain}\" relay host \"smtp://{ip}:{port}\"\n\
                 match from any for domain \"{domain}\" action \"{domain}\"\n"
            )
        });
        let configuration: Vec<String> = std::iter::once(listener).chain(actions).collect();
        let file = lab.file("smtpd.conf");
        fs::write(&file, configuration.concat()).context("write smtpd.conf")?;
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

    /// Waits until the outgoing sessions that have ended carried `messages` in all, and returns how many
    /// each carried, in the order of their ends.
    pub fn wait_for_messages(&self, messages: usize, patience: Duration) -> Result<Vec<u32>> {
        wait::until(&format!("the end of sessions with {messages} messages"), patience, || {
            let sessions = sessions(&self.log()?)?;
            let sum = usize::try_from(sessions.iter().sum::<u32>())?;
            Ok((sum >= messages).then_some(sessions))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ends_of_sessions() {
        let log = "9a18d5c1 mta connecting address=smtp://10.71.2.2:2525 host=10.71.2.2\n\
            9a18d5c1 mta disconnected reason=quit messages=5\n\
            9a18d5c2 smtp disconnected reason=quit\n";
        assert_eq!(sessions(log).unwrap(), [5]);
        assert!(sessions("1 mta disconnected reason=io-error messages=1\n").is_err());
    }
}
