//! Messages in the native protocol of the systemd journal: datagrams to a socket, one per message
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

/// Where the journal takes messages.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";

/// Longest value of a field, in bytes; more is cut. With all fields a message stays far below what a
/// datagram holds.
const LONGEST: usize = 8 << 10;

/// How much a message matters, as syslog(3) numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    Critical = 2,
    Warning = 4,
    Notice = 5,
    Info = 6,
}

/// Names and values of one message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// A message of the kind `id` (128 bits in hexadecimal digits).
    pub(crate) fn new(priority: Priority, id: &str, text: &str) -> Self {
        let number = (priority as u8).to_string();
        let message = Self::default().field("PRIORITY", &number).field("MESSAGE_ID", id);
        message.field("SYSLOG_IDENTIFIER", "smtptrace").field("MESSAGE", text)
    }

    /// Adds a field. `name`: capitals, digits and underscores.
    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        let bounded = (0..=LONGEST.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
        let value = &value[..bounded.unwrap_or(0)];
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // Else the rest of the value would be taken for fields.
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
        self
    }

    /// Adds a field if its value is known.
    pub(crate) fn known(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.field(name, &value.to_string()),
            None => self,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The journal's socket.
#[derive(Debug)]
pub(crate) struct Socket {
    datagrams: UnixDatagram,
    path: PathBuf,
    /// Messages that were not taken.
    refused: u64,
}

impl Socket {
    /// Connects. Messages are never waited for: tracing must go on when the journal does not.
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let what = || {
            format!(
                "cannot send to the journal at {}: --journal needs a running systemd-journald",
                path.display()
            )
        };
        let socket = UnixDatagram::unbound().with_context(what)?;
        socket.connect(path).with_context(what)?;
        socket.set_nonblocking(true).with_context(what)?;
        Ok(Self { datagrams: socket, path: path.to_owned(), refused: 0 })
    }

    /// From here on, waits a second for the journal to take a message: nothing else is to be done.
    pub(crate) fn wait(&self) {
        // If that fails, messages that cannot be sent at once are counted as before.
        let _ = self.datagrams.set_nonblocking(false);
        let _ = self.datagrams.set_write_timeout(Some(Duration::from_secs(1)));
    }

    /// Sends a message; one that is not taken is counted. A journal that was restarted is found again.
    pub(crate) fn send(&mut self, message: &Message) {
        let sent = self.datagrams.send(message.bytes()).or_else(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected => {
                self.datagrams.send_to(message.bytes(), &self.path)
            }
            _ => Err(error),
        });
        self.refused += u64::from(sent.is_err());
    }

    /// Messages that were not taken.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_is_gone_is_counted_and_found_again() {
        let path = std::env::temp_dir().join(format!("smtptrace-journal-{}", std::process::id()));
        let first = UnixDatagram::bind(&path).unwrap();
        let mut socket = Socket::connect(&path).unwrap();
        let message = Message::new(Priority::Notice, "0", "text");
        socket.send(&message);
        let mut buffer = [0; 1_024];
        assert_eq!(first.recv(&mut buffer).unwrap(), message.bytes().len());
        drop(first);
        socket.send(&message);
        std::fs::remove_file(&path).unwrap();
        socket.send(&message);
        assert_eq!(socket.refused(), 2);
        let second = UnixDatagram::bind(&path).unwrap();
        socket.send(&message);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(second.recv(&mut buffer).unwrap(), message.bytes().len());
        assert_eq!(socket.refused(), 2);
    }

    #[test]
    fn values_cannot_become_fields() {
        let message = Message::default().field("A", "1").field("B", "x\nPRIORITY=0").field("C", "");
        assert_eq!(message.bytes(), b"A=1\nB\n\x0c\0\0\0\0\0\0\0x\nPRIORITY=0\nC=\n");
        let long = Message::default().field("A", &"\u{e9}".repeat(LONGEST));
        assert_eq!(long.bytes().len(), LONGEST + 3, "cut between characters");
    }

    #[test]
    fn no_journal_is_an_error_that_says_so() {
        let error = format!("{:#}", Socket::connect(Path::new("/nonexistent/socket")).unwrap_err());
        assert!(error.contains("/nonexistent/socket") && error.contains("journald"), "{error}");
    }
}
