//! Packet captures: tcpdump in a namespace, and the reading of its files.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    net::{Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use socket2::{Domain, Socket, Type};

use crate::{
    attempt,
    flow::{Flow, FlowTable},
    namespace::Namespace,
    wait,
};

/// A running tcpdump. It is killed when dropped.
#[derive(Debug)]
pub struct Capture {
    process: Child,
    file: PathBuf,
    /// From where the last packet is sent.
    last: UdpSocket,
    port: u16,
    messages: Option<JoinHandle<io::Result<String>>>,
}

/// What the last packet carries. It is of UDP, so it belongs to no connection.
const LAST: &[u8] = b"nothing comes after this";

impl Capture {
    /// Captures TCP of `port` on `interface` of `namespace` into `file`; returns once it listens.
    pub fn start(namespace: &Namespace, interface: &str, port: u16, file: &Path) -> Result<Self> {
        // The buffer has a place for each packet, which is as long as the longest may be.
        let mut command = Command::new("tcpdump");
        command
            .args(["-i", interface, "-U", "--immediate-mode", "-n", "-s", "66000", "-B", "65536"])
            .args(["--time-stamp-precision=nano", "-Z", "root", "-w"])
            .arg(file)
            .arg(format!("port {port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let last = namespace.enter("last packet", || last_packet(interface))?;
        let mut process = namespace.spawn(&mut command)?;
        let stderr = process.stderr.take().context("standard error of tcpdump")?;
        let mut messages = BufReader::new(stderr);
        let mut seen = String::new();
        while !seen.contains("listening on") {
            let read = messages.read_line(&mut seen).context("read from tcpdump")?;
            ensure!(read > 0, "tcpdump ended: {seen}");
        }
        let messages = thread::Builder::new()
            .name("tcpdump-messages".into())
            .spawn(move || messages.read_to_string(&mut seen).map(|_| seen))
            .context("start a thread")?;
        Ok(Self { process, file: file.to_owned(), last, port, messages: Some(messages) })
    }

    /// Stops and returns the connections it saw, in the order of their SYNs.
    pub fn stop(mut self) -> Result<Vec<Flow>> {
        // Packets come from the kernel's buffer to the file in order, late on a busy machine.
        let to = (Ipv4Addr::BROADCAST, self.port);
        self.last.send_to(LAST, to).context("send the last packet of the capture")?;
        wait::until("the last packet in the capture", Duration::from_secs(20), || {
            Ok(ends_with_last(&self.file)?.then_some(()))
        })?;
        let pid = Pid::from_raw(self.process.id().cast_signed());
        kill(pid, Signal::SIGINT).context("stop tcpdump")?;
        wait::until("tcpdump to end", Duration::from_secs(20), || {
            self.process.try_wait().context("wait for tcpdump")
        })?;
        let messages = self.messages.take().context("what tcpdump says was read already")?;
        let messages = messages.join().map_err(|_| anyhow!("reading from tcpdump panicked"))?;
        let messages = messages.context("read from tcpdump")?;
        if !messages.lines().any(|line| line.starts_with("0 packets dropped by kernel")) {
            attempt::disturbed("the kernel dropped packets of the capture");
            bail!("the capture is not complete: {messages}");
        }
        read(&self.file)
    }
}

/// A socket whose packets leave by `interface`.
fn last_packet(interface: &str) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).context("open a socket")?;
    socket.bind_device(Some(interface.as_bytes())).context("SO_BINDTODEVICE")?;
    socket.set_broadcast(true).context("SO_BROADCAST")?;
    Ok(socket.into())
}

fn ends_with_last(file: &Path) -> Result<bool> {
    const LONGEST: u64 = 64 * 1024;
    let mut file = File::open(file).with_context(|| format!("open {}", file.display()))?;
    let length = file.metadata().context("the length of a capture")?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST))).context("seek in a capture")?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).context("read a capture")?;
    Ok(end.windows(LAST.len()).any(|it| it == LAST))
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
        // What was sent again is nothing new: the idle time ended with the first write.
        let written = flow.last_write().unwrap();
        assert!(flow.last - written > 20_000_000_000, "{flow:?}");
        assert_eq!(flow.gaps(1_000_000_000), [flow.idle_before(written).unwrap()]);
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
        assert_eq!(session.arrival(1), session.first_received);
        assert!(session.arrival(session.received.unique) > session.first_received);
        assert_eq!(session.arrival(session.received.unique + 1), None);
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
