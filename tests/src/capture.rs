//! Packet captures: tcpdump in a namespace, and the reading of its files.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    flow::{Flow, FlowTable},
    namespace::Namespace,
    wait,
};

/// A running tcpdump. It is killed when dropped.
#[derive(Debug)]
pub struct Capture {
    process: Child,
    file: PathBuf,
}

impl Capture {
    /// Captures TCP of `port` on `interface` of `namespace` into `file`; returns once it listens.
    pub fn start(namespace: &Namespace, interface: &str, port: u16, file: &Path) -> Result<Self> {
        let mut command = Command::new("tcpdump");
        command
            .args(["-i", interface, "-U", "--immediate-mode", "-n", "-s", "0", "-B", "16384"])
            .args(["--time-stamp-precision=nano", "-Z", "root", "-w"])
            .arg(file)
            .arg(format!("tcp port {port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = namespace.spawn(&mut command)?;
        let stderr = process.stderr.take().context("standard error of tcpdump")?;
        let capture = Self { process, file: file.to_owned() };
        let mut messages = BufReader::new(stderr);
        let mut seen = String::new();
        while !seen.contains("listening on") {
            let read = messages.read_line(&mut seen).context("read from tcpdump")?;
            ensure!(read > 0, "tcpdump ended: {seen}");
        }
        // Keeps the pipe open, so that the final statistics do not kill tcpdump.
        thread::Builder::new()
            .name("tcpdump-messages".into())
            .spawn(move || messages.read_to_end(&mut Vec::new()))
            .context("start a thread")?;
        Ok(capture)
    }

    /// Stops and returns the connections it saw, in the order of their SYNs.
    pub fn stop(mut self) -> Result<Vec<Flow>> {
        // The last packets are on their way from the kernel's buffer to the file.
        let mut size = 0;
        let mut quiet = 0;
        while quiet < 4 {
            thread::sleep(Duration::from_millis(25));
            let now = fs::metadata(&self.file).map_or(0, |meta| meta.len());
            quiet = if now == size { quiet + 1 } else { 0 };
            size = now;
        }
        let pid = Pid::from_raw(self.process.id().cast_signed());
        kill(pid, Signal::SIGINT).context("stop tcpdump")?;
        wait::until("tcpdump to end", Duration::from_secs(5), || {
            self.process.try_wait().context("wait for tcpdump")
        })?;
        read(&self.file)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It has ended already after `stop`.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads a pcap file and returns its TCP connections, in the order of their SYNs.
pub fn read(file: &Path) -> Result<Vec<Flow>> {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    flows(&bytes).with_context(|| format!("capture {}", file.display()))
}

fn flows(bytes: &[u8]) -> Result<Vec<Flow>> {
    const ETHERNET: u32 = 1;
    let header = bytes.get(..24).context("no pcap header")?;
    let nanos_per_unit = match word(header, 0)? {
        0xa1b2_c3d4 => 1_000,
        0xa1b2_3c4d => 1,
        magic => bail!("not a pcap file of this byte order: {magic:#x}"),
    };
    ensure!(word(header, 20)? == ETHERNET, "not a capture of Ethernet frames");
    let mut table = FlowTable::default();
    let mut rest = &bytes[24..];
    // A capture that is still being written may end within a packet.
    while let Some((record, after)) = rest.split_at_checked(16) {
        let seconds = i64::from(word(record, 0)?);
        let at = seconds * 1_000_000_000 + i64::from(word(record, 4)?) * nanos_per_unit;
        let length = usize::try_from(word(record, 8)?)?;
        let Some((frame, next)) = after.split_at_checked(length) else { break };
        table.add(at, frame)?;
        rest = next;
    }
    Ok(table.into_flows())
}

fn word(bytes: &[u8], offset: usize) -> Result<u32> {
    let word = bytes.get(offset..offset + 4).context("cut short")?;
    Ok(u32::from_le_bytes(word.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{ClosingFlag, Direction};

    fn capture(name: &str) -> Vec<Flow> {
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)).unwrap()
    }

    #[test]
    fn silent_drop_is_retransmissions_and_no_end() {
        let flows = capture("silent-drop.pcap");
        let [flow] = flows.as_slice() else { panic!("{flows:?}") };
        assert_eq!(flow.retransmitted_segments, 8);
        assert_eq!(flow.closings, []);
        assert_eq!(flow.end(), None);
        assert!(flow.sent.total > flow.sent.unique);
        assert!(flow.last - flow.syn > 33_000_000_000);
    }

    #[test]
    fn reset_on_reuse_carries_the_ttl_of_the_box() {
        let flows = capture("reset-on-reuse.pcap");
        let [flow] = flows.as_slice() else { panic!("{flows:?}") };
        let [reset] = flow.closings.as_slice() else { panic!("{:?}", flow.closings) };
        assert_eq!((reset.flag, reset.direction), (ClosingFlag::Rst, Direction::FromServer));
        assert_ne!(Some(reset.ttl), flow.server_ttl);
        assert_eq!(flow.end(), Some(reset.at));
        assert_eq!((reset.at - flow.syn) / 1_000_000, 7_002);
    }

    #[test]
    fn failed_ipv6_connect_and_ipv4_session() {
        let flows = capture("ipv6-syn-drop.pcap");
        let [failed, session] = flows.as_slice() else { panic!("{flows:?}") };
        assert!(failed.server.is_ipv6() && failed.established.is_none());
        assert_eq!(failed.syn_retransmits, 3);
        assert!(session.server.is_ipv4());
        let established = session.established.unwrap();
        assert!(session.syn < established && established < session.first_received.unwrap());
        assert_eq!(session.first_closing(), Some((Direction::FromClient, ClosingFlag::Fin)));
        assert_eq!(session.retransmitted_segments, 0);
        assert_eq!(session.sent.total, session.sent.unique);
    }

    #[test]
    fn server_that_closed_first_and_reset_a_late_command() {
        let flows = capture("server-idle-timeout.pcap");
        let first = &flows[0];
        assert_eq!(first.first_closing(), Some((Direction::FromServer, ClosingFlag::Fin)));
        assert_eq!(first.closings.last().unwrap().flag, ClosingFlag::Rst);
        // The reset ended it, not a FIN of ours.
        assert_eq!(first.end(), Some(first.closings.last().unwrap().at));
    }

    #[test]
    fn a_file_cut_within_a_packet_gives_what_is_whole() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/reset-on-reuse.pcap");
        let bytes = fs::read(path).unwrap();
        let whole = flows(&bytes).unwrap();
        let cut = flows(&bytes[..bytes.len() - 5]).unwrap();
        assert_eq!(whole[0].closings.len(), cut[0].closings.len() + 1);
        assert!(flows(b"not a capture, but long enough").is_err());
        assert!(flows(b"").is_err());
    }
}
