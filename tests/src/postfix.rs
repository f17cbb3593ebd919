//! Private Postfix instances: one that sends, one that receives.

mod configuration;
mod log;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, chown},
};

pub use self::{configuration::RECEIVER_NAME, log::Delivery};
use crate::{
    certificate, lab::Lab, namespace::Namespace, served::Served, sink::wait_for_listener, wait,
};

/// Where the sending instance takes mail: loopback of the client's namespace.
const SUBMISSION_PORT: u16 = 2526;

/// Whether the receiving instance offers STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starttls {
    /// It does not.
    None,
    /// It does, with a certificate signed by itself.
    Offered,
}

/// A running Postfix instance. It is killed when dropped.
#[derive(Debug)]
pub struct Postfix {
    directory: PathBuf,
}

impl Postfix {
    /// Starts an instance in the client's namespace that sends all mail to `server`; `settings` are
    /// added to its `main.cf`.
    pub fn sender(lab: &Lab, server: SocketAddr, settings: &[(&str, &str)]) -> Result<Self> {
        let directory = lab.file("sender");
        let main = configuration::sender(&directory, server);
        let instance = Self::write(directory, &main, settings, &configuration::sender_services())?;
        instance.start(&lab.client, SUBMISSION_PORT)?;
        Ok(instance)
    }

    /// Starts an instance in the server's namespace that takes mail on `address` and discards it. A lab
    /// may have several, on different addresses.
    pub fn receiver(lab: &Lab, address: SocketAddr, starttls: Starttls) -> Result<Self> {
        Self::receiver_with(lab, address, starttls, &[])
    }

    /// The same; `more` settings are added to its `main.cf`.
    pub fn receiver_with(
        lab: &Lab,
        address: SocketAddr,
        starttls: Starttls,
        more: &[(&str, &str)],
    ) -> Result<Self> {
        let directory = lab.file(&format!("receiver-{}", address.ip()));
        let main = configuration::receiver(&directory);
        let services = configuration::receiver_services(address);
        let level = match starttls {
            Starttls::None => "none",
            Starttls::Offered => "may",
        };
        let settings = [&[("smtpd_tls_security_level", level)], more].concat();
        let instance = Self::write(directory, &main, &settings, &services)?;
        if starttls == Starttls::Offered {
            certificate::make(&instance.configuration())?;
        }
        instance.start(&lab.server, address.port())?;
        Ok(instance)
    }

    fn write(
        directory: PathBuf,
        main: &str,
        settings: &[(&str, &str)],
        services: &str,
    ) -> Result<Self> {
        let postfix = User::from_name("postfix")
            .context("look up the user postfix")?
            .context("there is no user postfix")?;
        for name in ["", "etc", "spool", "log", "data"] {
            let path = directory.join(name);
            fs::create_dir_all(&path)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
                .with_context(|| format!("create {}", path.display()))?;
        }
        chown(&directory.join("data"), Some(postfix.uid), None).context("chown data")?;
        let mut main = main.to_owned();
        for (name, value) in settings {
            main.extend([*name, " = ", *value, "\n"]);
        }
        let etc = directory.join("etc");
        fs::write(etc.join("main.cf"), main).context("write main.cf")?;
        fs::write(etc.join("master.cf"), services).context("write master.cf")?;
        Ok(Self { directory })
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("etc")
    }

    fn start(&self, namespace: &Namespace, port: u16) -> Result<()> {
        let mut command = Command::new("postfix");
        command.arg("-c").arg(self.configuration()).arg("start");
        // Its daemons would keep pipes open: nothing of theirs may be waited for.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut starter = namespace.spawn(&mut command)?;
        let status = starter.wait().context("wait for postfix start")?;
        anyhow::ensure!(status.success(), "postfix start: {status}: {}", self.log_text()?);
        wait_for_listener(namespace, port)
    }

    fn log_text(&self) -> Result<String> {
        let file = self.directory.join("log/mail.log");
        if !file.exists() {
            return Ok(String::new());
        }
        fs::read_to_string(&file).context("read the mail log")
    }

    /// Deliveries logged so far (lines with `status=`).
    pub fn deliveries(&self) -> Result<Vec<Delivery>> {
        log::deliveries(&self.log_text()?)
    }

    /// Waits until the receiving instance has logged the end of `count` connections and returns what it
    /// counted on each.
    pub fn wait_for_served(&self, count: usize) -> Result<Vec<Served>> {
        wait::until(&format!("{count} disconnects"), Duration::from_secs(10), || {
            let served = log::served(&self.log_text()?)?;
            Ok((served.len() >= count).then_some(served))
        })
        .with_context(|| format!("log: {}", self.log_text().unwrap_or_default()))
    }

    /// Waits until `count` deliveries are logged and returns them.
    pub fn wait_for_deliveries(&self, count: usize, patience: Duration) -> Result<Vec<Delivery>> {
        wait::until(&format!("{count} deliveries"), patience, || {
            let deliveries = self.deliveries()?;
            Ok((deliveries.len() >= count).then_some(deliveries))
        })
        .with_context(|| format!("log: {}", self.log_text().unwrap_or_default()))
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // `postfix stop` takes seconds; the namespace kills what master leaves behind.
        let pid = fs::read_to_string(self.directory.join("spool/pid/master.pid"));
        if let Some(pid) = pid.ok().and_then(|text| text.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

/// Submits `count` mails of `size` bytes to the sending instance, over one session.
pub fn submit(lab: &Lab, count: usize, size: usize) -> Result<()> {
    let (count, size) = (count.to_string(), size.to_string());
    let target = format!("127.0.0.1:{SUBMISSION_PORT}");
    let arguments = ["-m", &count, "-l", &size, "-f", "a@mta-a.test", "-t", "b@sink.test", &target];
    lab.client.run("smtp-source", arguments).map(drop)
}
