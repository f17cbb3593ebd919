//! The scripted SMTP server and client in Python, for what no mail server does on demand: both write down
//! what they counted on each connection.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    certificate,
    lab::{CLIENT_V4, Lab},
    namespace::run,
    served::Served,
    tracer::read_lossy,
    wait,
};

fn script(name: &str) -> Command {
    let mut command = Command::new("python3");
    // No byte code beside the sources.
    command.args(["-B", "-u"]).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name));
    command
}

/// A running `smtp_server.py`. It is killed when dropped.
#[derive(Debug)]
pub struct Server {
    process: Child,
    output: PathBuf,
}

impl Server {
    /// Starts it in the server's namespace: with STARTTLS on `plain`, with TLS from the start on
    /// `implicit`.
    pub fn start(lab: &Lab, plain: SocketAddr, implicit: SocketAddr) -> Result<Self> {
        let (certificate, key) = certificate::make(lab.directory())?;
        let output = lab.file("smtp_server.out");
        let file = File::create(&output).context("create the output of the server")?;
        let mut command = script("smtp_server.py");
        command.arg(certificate).arg(key);
        command.arg(plain.to_string()).arg(format!("implicit:{implicit}"));
        command.stdin(Stdio::null()).stdout(file);
        let server = Self { process: lab.server.spawn(&mut command)?, output };
        for address in [plain, implicit] {
            let filter = format!("src {address}");
            wait::until(&format!("a listener on {address}"), Duration::from_secs(15), || {
                let sockets = lab.server.run("ss", ["-tlnH", filter.as_str()])?;
                Ok((!sockets.stdout.is_empty()).then_some(()))
            })?;
        }
        Ok(server)
    }

    /// Waits until `count` connections have ended and returns what was counted on each. Fails if one ended
    /// in an error.
    pub fn wait_for_served(&self, count: usize) -> Result<Vec<Served>> {
        let text = wait::until(&format!("{count} connections"), Duration::from_secs(10), || {
            let text = read_lossy(&self.output)?;
            Ok((text.lines().count() >= count && text.ends_with('\n')).then_some(text))
        })?;
        text.lines().map(|line| served(line).with_context(|| format!("line {line}"))).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn served(line: &str) -> Result<Served> {
    let line: Value = serde_json::from_str(line)?;
    ensure!(line["trouble"].is_null(), "the server had trouble");
    counted(&line)
}

fn counted(line: &Value) -> Result<Served> {
    let number = |name: &str| line[name].as_u64().with_context(|| format!("no {name}"));
    let client = SocketAddr::from((CLIENT_V4, u16::try_from(number("port")?)?));
    Ok(Served { client, messages: u32::try_from(number("messages")?)? })
}

/// A session of the client.
#[derive(Debug, Clone)]
pub struct Dialogue {
    /// `cleartext`, or how TLS was begun and with which cipher.
    pub transport: String,
    /// What the client did.
    pub shape: String,
    /// The connection, and the messages for which the client got a final reply.
    pub sent: Served,
}

/// Runs `smtp_client.py` in the client's namespace to its end.
pub fn talk(lab: &Lab, plain: SocketAddr, implicit: SocketAddr) -> Result<Vec<Dialogue>> {
    let mut command = script("smtp_client.py");
    command.arg(plain.to_string()).arg(implicit.to_string());
    let output = lab.client.enter("python", || run(&mut command))?;
    let text = String::from_utf8(output.stdout).context("output of the client")?;
    text.lines().map(|line| dialogue(line).with_context(|| format!("line {line}"))).collect()
}

fn dialogue(line: &str) -> Result<Dialogue> {
    let line: Value = serde_json::from_str(line)?;
    let text = |name: &str| line[name].as_str().with_context(|| format!("no {name}"));
    Ok(Dialogue {
        transport: text("transport")?.to_owned(),
        shape: text("shape")?.to_owned(),
        sent: counted(&line)?,
    })
}
