//! A receiver in place of the systemd journal, which parses the native protocol by its description.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

/// One message: its fields.
pub type Message = BTreeMap<String, Vec<u8>>;

/// Takes messages until it is told to stop.
#[derive(Debug)]
pub struct Journal {
    stopping: Arc<AtomicBool>,
    reader: JoinHandle<Result<Vec<Message>>>,
}

impl Journal {
    /// Listens on a socket at `path`.
    pub fn listen(path: &Path) -> Result<Self> {
        let socket =
            UnixDatagram::bind(path).with_context(|| format!("listen on {}", path.display()))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let reader = thread::spawn(move || {
            let (mut messages, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
            loop {
                match socket.recv(&mut buffer) {
                    Ok(len) => messages.push(parse(&buffer[..len])?),
                    Err(error)
                        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                    {
                        if stop.load(Ordering::SeqCst) {
                            return Ok(messages);
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        });
        Ok(Self { stopping, reader })
    }

    /// All messages, once nothing more comes.
    pub fn messages(self) -> Result<Vec<Message>> {
        self.stopping.store(true, Ordering::SeqCst);
        self.reader.join().map_err(|_| anyhow!("the receiver panicked"))?
    }
}

/// Reads `NAME=value` lines, and `NAME` lines followed by the length and the bytes of a value.
fn parse(mut bytes: &[u8]) -> Result<Message> {
    let mut message = Message::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').context("a line without an end")?;
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        let (name, value) = if let Some(at) = line.iter().position(|byte| *byte == b'=') {
            bytes = rest;
            (&line[..at], &line[at + 1..])
        } else {
            let (len, rest) = rest.split_first_chunk::<8>().context("a length cut short")?;
            let len = usize::try_from(u64::from_le_bytes(*len))?;
            ensure!(rest.get(len) == Some(&b'\n'), "a value without its end");
            bytes = &rest[len + 1..];
            (line, &rest[..len])
        };
        let allowed =
            |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
        ensure!(!name.is_empty() && name.iter().all(allowed), "field name {name:?}");
        let name = String::from_utf8(name.to_vec())?;
        if message.insert(name.clone(), value.to_vec()).is_some() {
            bail!("{name} is there twice");
        }
    }
    Ok(message)
}
