//! The tools that are measured, started beside traffic.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{lab::Lab, tracer, wait};

const PATIENCE: Duration = Duration::from_secs(60);

/// A tracer, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Nothing runs.
    None,
    /// smtptrace, recording to a file.
    Smtptrace,
    /// The same without reading what servers send.
    SmtptraceNoReplies,
    /// The same with room for 131,072 connections.
    SmtptraceLarge,
    /// `tcplife` of libbpf-tools, in C with CO-RE.
    LibbpfTcplife,
    /// `tcplife` of bcc, compiled when it starts.
    BccTcplife,
    /// `tcplife.bt` of bpftrace.
    BpftraceTcplife,
    /// `tcpdump -w` with the port as filter.
    Tcpdump,
    /// tshark with the dissector for SMTP, on the same filter.
    Tshark,
}

impl Tool {
    /// The tools that are compared with each other.
    pub(crate) const PEERS: [Self; 7] = [
        Self::Smtptrace,
        Self::SmtptraceNoReplies,
        Self::LibbpfTcplife,
        Self::BccTcplife,
        Self::BpftraceTcplife,
        Self::Tcpdump,
        Self::Tshark,
    ];

    /// As it stands in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Smtptrace => "smtptrace",
            Self::SmtptraceNoReplies => "smtptrace --no-replies",
            Self::SmtptraceLarge => "smtptrace --max-connections 131072",
            Self::LibbpfTcplife => "tcplife (libbpf-tools)",
            Self::BccTcplife => "tcplife (bcc)",
            Self::BpftraceTcplife => "tcplife.bt (bpftrace)",
            Self::Tcpdump => "tcpdump -w",
            Self::Tshark => "tshark, SMTP dissector",
        }
    }

    fn command(self, port: u16, output: &Path) -> Command {
        let port = port.to_string();
        let call = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments);
            command
        };
        match self {
            Self::None => call("sleep", &["infinity"]),
            Self::Smtptrace | Self::SmtptraceNoReplies | Self::SmtptraceLarge => {
                let mut command = Command::new(tracer::binary());
                command.args(["--dport", &port, "--no-tui", "--record"]).arg(output);
                command.args((self == Self::SmtptraceNoReplies).then_some("--no-replies"));
                let large = ["--max-connections", "131072"];
                command.args((self == Self::SmtptraceLarge).then_some(large).into_iter().flatten());
                command
            }
            // Else what it prints would wait in its buffer.
            Self::LibbpfTcplife => call("stdbuf", &["-oL", "tcplife", "-D", &port]),
            Self::BccTcplife => call("tcplife-bpfcc", &["-D", &port]),
            Self::BpftraceTcplife => call("tcplife.bt", &[]),
            Self::Tcpdump => {
                let mut command = call("tcpdump", &["-i", "any", "-U", "-Z", "root", "-w"]);
                command.arg(output).args(["tcp", "port", &port]);
                command
            }
            Self::Tshark => {
                let decode = format!("tcp.port=={port},smtp");
                let filter = format!("tcp port {port}");
                call("tshark", &["-i", "any", "-l", "-d", &decode, "-f", &filter, "-Y", "smtp"])
            }
        }
    }

    /// Whether packets are captured, which happens in one namespace only.
    const fn captures(self) -> bool {
        matches!(self, Self::Tcpdump | Self::Tshark)
    }

    /// What it says when it is at work; empty if nothing, then it is given a while.
    const fn greeting(self) -> &'static str {
        match self {
            Self::Tcpdump => "listening on",
            Self::Tshark => "Capturing on",
            Self::BpftraceTcplife => "Tracing",
            Self::LibbpfTcplife | Self::BccTcplife => "PID",
            Self::None | Self::Smtptrace | Self::SmtptraceNoReplies | Self::SmtptraceLarge => "",
        }
    }

    /// Starts it for `port` of `lab` and waits until it is at work. The error says why it cannot run here.
    pub(crate) fn start(self, lab: &Lab, port: u16) -> Result<Running> {
        let output = lab.file("tool.out");
        let said = lab.file("tool.said");
        // What it wrote before would be taken for the sign that it is at work.
        let _ = fs::remove_file(&output);
        let text = fs::File::create(&said).context("create a file for its output")?;
        let mut command = self.command(port, &output);
        command.stdin(Stdio::null());
        command.stdout(text.try_clone().context("share that file")?).stderr(text);
        let process = if self.captures() {
            lab.client.spawn(&mut command)?
        } else {
            command.spawn().with_context(|| format!("start {command:?}"))?
        };
        let mut running = Running { process, tool: self };
        wait::until(self.name(), PATIENCE, || {
            let words = read(&said);
            if running.process.try_wait().context("wait for it")?.is_some() {
                let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
                // It goes into a document that may have HTML in it.
                let last = last.trim().replace('<', "&lt;");
                bail!("{} ended at once: {last}", self.name());
            }
            let ready = match self {
                Self::None => true,
                Self::Smtptrace | Self::SmtptraceNoReplies | Self::SmtptraceLarge => {
                    read(&output).contains('\n')
                }
                _ => words.contains(self.greeting()),
            };
            Ok(ready.then_some(()))
        })?;
        Ok(running)
    }
}

fn read(file: &Path) -> String {
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).and_then(|file| file.take(1 << 16).read_to_end(&mut bytes));
    if opened.is_err() {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A tool at work. It is ended when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    process: Child,
    tool: Tool,
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        // It has gone already if that fails.
        let _ = kill(pid, if self.tool == Tool::None { Signal::SIGKILL } else { Signal::SIGINT });
        for _ in 0..600 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
