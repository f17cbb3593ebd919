//! SMTP clients under TLS: a Python script (OpenSSL) and gnutls-cli (GnuTLS).

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    namespace::{Namespace, run},
    wait,
};

const SCRIPT: &str = include_str!("tls_client.py");

/// A client under way. It is killed when dropped.
#[derive(Debug)]
pub struct TlsClient {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl TlsClient {
    /// Starts the Python client; `actions` as in `tls_client.py`.
    pub fn python(namespace: &Namespace, to: SocketAddr, actions: &[&str]) -> Result<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT, &to.ip().to_string(), &to.port().to_string()]).args(actions);
        Self::start(namespace, &mut command)
    }

    /// Starts gnutls-cli, which says EHLO and STARTTLS by itself, and has it send `lines`. It ends when
    /// the server closes.
    pub fn gnutls(namespace: &Namespace, to: SocketAddr, lines: &str) -> Result<Self> {
        let mut command = Command::new("gnutls-cli");
        command.args(["--starttls-proto=smtp", "--insecure", "--no-ca-verification"]);
        command.args(["--port", &to.port().to_string(), &to.ip().to_string()]);
        let mut client = Self::start(namespace, &mut command)?;
        client
            .stdin
            .write_all(lines.replace('\n', "\r\n").as_bytes())
            .context("write to gnutls-cli")?;
        Ok(client)
    }

    fn start(namespace: &Namespace, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = namespace.spawn(command)?;
        let stdin = process.stdin.take().context("no standard input")?;
        let stdout = process.stdout.take().context("no standard output")?;
        Ok(Self { process, stdin, stdout: BufReader::new(stdout) })
    }

    /// Waits until the Python client has come to a `wait`.
    pub fn wait_for_pause(&mut self) -> Result<()> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).context("read what the client says")?;
        ensure!(line == "waiting\n", "the client says {line:?}");
        Ok(())
    }

    /// Lets the Python client go on after a `wait`.
    pub fn go_on(&mut self) -> Result<()> {
        self.stdin.write_all(b"\n").context("write to the client")
    }

    /// Waits until it has ended well.
    pub fn finish(mut self) -> Result<()> {
        let status = wait::until("the end of the client", Duration::from_secs(30), || {
            self.process.try_wait().context("wait for the client")
        })?;
        ensure!(status.success(), "the client: {status}");
        Ok(())
    }
}

impl Drop for TlsClient {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The file of the library `name` (the beginning of its file name) that `program` is linked to.
pub fn library_of(program: &str, name: &str) -> Result<String> {
    let output = run(Command::new("ldd").arg(program))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.trim_start().starts_with(name));
    let path = line.and_then(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(path.with_context(|| format!("{program} is not linked to {name}: {text}"))?.to_owned())
}

/// The file of the Python module that is linked to OpenSSL.
pub fn python_ssl_module() -> Result<String> {
    let script = "import _ssl; print(_ssl.__file__)";
    let output = run(Command::new("python3").args(["-c", script]))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
