//! Exim as a sender: a queue run in which one connection goes from process to process.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::{lab::Lab, namespace::run, packages::Package};

/// What a queue run did.
#[derive(Debug)]
pub struct QueueRun {
    /// The main log.
    log: String,
    /// What all processes said about SMTP, each line with a process id.
    debug: String,
}

impl QueueRun {
    /// Queues `count` mails of about `size` bytes and has one queue run send all of them from the
    /// client's namespace to `server`; `settings` are added to the smtp transport.
    pub fn send(
        lab: &Lab,
        server: SocketAddr,
        count: usize,
        size: usize,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let directory = lab.file("exim");
        if directory.exists() {
            fs::remove_dir_all(&directory).context("remove the previous run of Exim")?;
        }
        fs::create_dir_all(&directory).context("create the directory of Exim")?;
        let configuration = configuration(&directory, server, settings);
        fs::write(directory.join("exim4.conf"), configuration).context("write exim4.conf")?;
        let body = format!("{}\n", "X".repeat(70)).repeat(size.div_ceil(71));
        fs::write(directory.join("mail"), format!("Subject: test\n\n{body}"))
            .context("write the mail")?;
        let mut command = Package::Exim.command(lab, "sh")?;
        command.args(["-c", include_str!("exim/queue_run.sh"), "queue_run"]);
        command.arg(&directory).arg(count.to_string());
        let output = lab.client.enter("exim", || run(&mut command))?;
        let log = fs::read_to_string(directory.join("mainlog")).context("read the main log")?;
        let debug = String::from_utf8_lossy(&output.stderr).into_owned();
        fs::write(directory.join("debug"), &debug).context("keep the debug output")?;
        let queue_run = Self { log, debug };
        let sent = queue_run.deliveries().count();
        ensure!(sent == count, "{sent} of {count} mails were sent: {}", queue_run.log);
        Ok(queue_run)
    }

    fn deliveries(&self) -> impl Iterator<Item = &str> {
        self.log.lines().filter(|line| line.contains(" => "))
    }

    /// Connections that were opened: a delivery over one that was there has a star after the host.
    pub fn connections(&self) -> usize {
        self.deliveries().filter(|line| !line.contains("* ")).count()
    }

    /// The processes that read replies, one after the other: each delivered a message or more.
    pub fn deliverers(&self) -> Result<Vec<u64>> {
        let mut pids = Vec::new();
        for line in self.debug.lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some(pid), Some("SMTP<<")) = (words.next(), words.next()) {
                pids.push(pid.parse().with_context(|| format!("debug line {line:?}"))?);
            }
        }
        pids.dedup();
        Ok(pids)
    }

    /// The process that was made to keep a TLS session when its connection was first passed on. The
    /// deliverers that follow talk to this one, over a pipe.
    pub fn tls_proxy(&self) -> Result<u64> {
        let mut forked =
            self.debug.lines().filter_map(|it| it.strip_suffix(" postfork: tls-proxy"));
        let pid = forked.next().context("no TLS session was passed on")?;
        pid.trim().parse().with_context(|| format!("process id {pid:?}"))
    }
}

/// Nothing is looked up, and one process at a time sends.
fn configuration(directory: &Path, server: SocketAddr, settings: &[(&str, &str)]) -> String {
    let mut lines = String::new();
    for (name, value) in settings {
        lines.extend(["  ", name, " = ", value, "\n"]);
    }
    let (ip, port, directory) = (server.ip(), server.port(), directory.display());
    format!(
        "primary_hostname = mta-a.test\n\
         spool_directory = {directory}/spool\n\
         log_file_path = {directory}/%slog\n\
         log_selector = +outgoing_port +pid\n\
         host_lookup =\n\
         remote_max_parallel = 1\n\
         queue_run_in_order = true\n\
         keep_environment =\n\
         begin routers\n\
         all:\n\
         \x20 driver = manualroute\n\
         \x20 route_data = {ip}::{port}\n\
         \x20 transport = remote_smtp\n\
         begin transports\n\
         remote_smtp:\n\
         \x20 driver = smtp\n\
         \x20 tls_verify_certificates =\n\
         \x20 tls_try_verify_hosts =\n\
         {lines}\
         begin retry\n\
         * * F,1h,10s\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_who_delivered_and_how() {
        let log = "2026-11-22 06:15:18 [84] 1x => b@sink.test R=all H=10.71.2.2 [10.71.2.2]:25 C=\"ok\"\n\
            2026-11-22 06:15:18 [87] 1y => b@sink.test R=all H=10.71.2.2 [10.71.2.2]:25* C=\"ok\"\n";
        let debug = " 85   SMTP<< 220 mx\n 85   SMTP<< 250 ok\n 88 postfork: tls-proxy-interproc\n\
            89 postfork: tls-proxy\n 90   SMTP<< 250 ok\n";
        let run = QueueRun { log: log.into(), debug: debug.into() };
        assert_eq!((run.deliveries().count(), run.connections()), (2, 1));
        assert_eq!(run.deliverers().unwrap(), [85, 90]);
        assert_eq!(run.tls_proxy().unwrap(), 89);
    }
}
