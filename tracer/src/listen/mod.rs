//! The metrics endpoint: HTTP/1.1, one small server on a thread of its own.
//!
//! A scraper can delay nothing: what it asks for is built between two looks at the kernel's buffers, at most
//! once a second, and written on this thread; everything it has to read or write has a time limit. Nor can it
//! delay another scraper: where all places are taken, the connection longest without progress is closed.

mod places;
pub(crate) mod request;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use nix::sys::socket::{Backlog, listen, setsockopt, sockopt};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime,
    sync::{Notify, oneshot, watch},
    task::yield_now,
    time::{error::Elapsed, sleep, timeout},
};

use crate::{
    diagnostics::{Level, say},
    sink::openmetrics::{Dialect, Exposition},
};
use places::{Place, Places};
use request::{Hosts, Request, Status};

/// How long an exposition is served before a new one is built.
const FRESH: Duration = Duration::from_secs(1);

/// Connections served at a time.
const CONNECTIONS: usize = 64;

/// Connections that the kernel keeps until they are served; it may keep fewer.
const WAITING: i32 = 1024;

/// Bytes of an answer that the kernel keeps for each connection; it takes twice as many.
const KERNEL_BUFFER: usize = 128 << 10;

/// Time for a client to say what it wants.
const ASK: Duration = Duration::from_secs(5);

/// Time for the trace to build an exposition.
const BUILD: Duration = Duration::from_secs(10);

/// Time for a client to take the answer.
const TAKE: Duration = Duration::from_secs(30);

/// Time for a client to close when it was told everything. The kernel goes on to deliver the rest.
const LINGER: Duration = Duration::from_secs(1);

/// Milliseconds after which the kernel drops a connection whose client takes nothing.
const DEAF_MS: u32 = 10_000;

/// Bytes of a request at most.
const REQUEST: usize = 8 * 1024;

/// An exposition, and when it was made. `None` before the first.
type Page = Option<Arc<Made>>;

struct Made {
    at: Instant,
    exposition: Arc<Exposition>,
    openmetrics: OnceLock<String>,
    prometheus: OnceLock<String>,
}

/// What server and trace share.
struct Board {
    wanted: Notify,
    page: watch::Sender<Page>,
    answers: Mutex<BTreeMap<u16, u64>>,
    /// Connections closed because they took too long.
    too_slow: Mutex<u64>,
    places: Arc<Places>,
    /// Whose name a request may call this server by.
    hosts: Hosts,
}

/// The endpoint of a trace.
pub(crate) struct Endpoint {
    listener: Option<StdListener>,
    board: Arc<Board>,
    /// The server ends when this is dropped.
    serving: Option<oneshot::Sender<Infallible>>,
}

/// Connections that ended before their answer was taken.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unfinished {
    /// Closed because another one needed their place.
    pub(crate) no_room: u64,
    /// Closed because they took too long.
    pub(crate) too_slow: u64,
}

impl Endpoint {
    /// Takes the port. Nobody is served yet.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self> {
        let listener = StdListener::bind(address).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => "a port below 1024 takes CAP_NET_BIND_SERVICE",
                _ => "is something else using it?",
            };
            anyhow!(error).context(format!("cannot listen on {address} (--listen); {hint}"))
        })?;
        prepare(&listener).with_context(|| format!("cannot set up the socket of {address}"))?;
        let is_loopback = address.ip().to_canonical().is_loopback();
        if !is_loopback {
            say(
                Level::Warning,
                &format!(
                    "metrics are served on {address} (--listen), which is not loopback: whoever reaches \
                     this port can read to whom this host sends mail; there is neither TLS nor a \
                     password. Listen on 127.0.0.1 and put a proxy before it, or admit only the scraper \
                     by a firewall"
                ),
            );
        }
        let board = Board {
            wanted: Notify::new(),
            page: watch::Sender::new(None),
            answers: Mutex::default(),
            too_slow: Mutex::default(),
            places: Arc::new(Places::new(CONNECTIONS)),
            hosts: if is_loopback { Hosts::Loopback } else { Hosts::Any },
        };
        Ok(Self { listener: Some(listener), board: Arc::new(board), serving: None })
    }

    /// Begins to serve, on a thread.
    pub(crate) fn serve(&mut self) -> Result<()> {
        let Some(listener) = self.listener.take() else { return Ok(()) };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the event loop of the metrics endpoint")?;
        let listener = {
            let _context = runtime.enter();
            TcpListener::from_std(listener).context("cannot poll the listening socket")?
        };
        let (serving, ended) = oneshot::channel();
        let server = accept(listener, Arc::clone(&self.board));
        thread::Builder::new()
            .name("metrics".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = server => {}
                        _ = ended => {}
                    }
                });
            })
            .context("cannot start the thread of the metrics endpoint")?;
        self.serving = Some(serving);
        Ok(())
    }

    /// Waits until somebody wants an exposition.
    pub(crate) async fn wanted(&self) {
        self.board.wanted.notified().await;
    }

    /// Hands an exposition to those who wait for one.
    pub(crate) fn publish(&self, exposition: Arc<Exposition>) {
        let (openmetrics, prometheus) = (OnceLock::new(), OnceLock::new());
        let made = Made { at: Instant::now(), exposition, openmetrics, prometheus };
        self.board.page.send_replace(Some(Arc::new(made)));
    }

    /// Answers so far, by status.
    pub(crate) fn answers(&self) -> BTreeMap<u16, u64> {
        self.board.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections that ended before their answer was taken.
    pub(crate) fn unfinished(&self) -> Unfinished {
        let too_slow = *self.board.too_slow.lock().unwrap_or_else(PoisonError::into_inner);
        Unfinished { no_room: self.board.places.closed(), too_slow }
    }
}

/// Bounds what the kernel keeps for connections that `listener` accepts.
fn prepare(listener: &StdListener) -> Result<()> {
    listener.set_nonblocking(true)?;
    setsockopt(listener, sockopt::SndBuf, &KERNEL_BUFFER)?;
    setsockopt(listener, sockopt::TcpUserTimeout, &DEAF_MS)?;
    listen(listener, Backlog::new(WAITING)?)?;
    Ok(())
}

impl Made {
    /// The text in `dialect`, made once for all who ask for it.
    fn text(&self, dialect: Dialect) -> &str {
        let text = match dialect {
            Dialect::OpenMetrics => &self.openmetrics,
            Dialect::Prometheus => &self.prometheus,
        };
        text.get_or_init(|| self.exposition.text(dialect))
    }
}

impl Board {
    /// An exposition that is not older than it may be.
    async fn page(&self) -> Option<Arc<Made>> {
        let mut pages = self.page.subscribe();
        let fresh = |page: &Page| page.clone().filter(|made| made.at.elapsed() < FRESH);
        loop {
            if let Some(made) = fresh(&pages.borrow_and_update()) {
                return Some(made);
            }
            self.wanted.notify_one();
            pages.changed().await.ok()?;
        }
    }

    fn count(&self, status: Status) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry(status.code()).or_default() += 1;
    }
}

async fn accept(listener: TcpListener, board: Arc<Board>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let place = board.places.take();
                let number = place.number();
                let shared = Arc::clone(&board);
                let task = tokio::spawn(async move {
                    if answer(stream, &shared, &place).await.is_err() {
                        *shared.too_slow.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    }
                });
                board.places.served_by(number, task.abort_handle());
                // For one that was closed to make room: its descriptor is freed before the next is made.
                yield_now().await;
            }
            // Out of descriptors, or the client is gone already.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Reads one request and answers it. A client that is too slow is hung up on.
async fn answer(mut stream: TcpStream, board: &Board, place: &Place) -> Result<(), Elapsed> {
    let Some(head) = timeout(ASK, head(&mut stream, place)).await? else { return Ok(()) };
    place.waits();
    let request = Request::parse(&head, board.hosts);
    let mut made = None;
    let status = match &request {
        Ok(_) => {
            made = timeout(BUILD, board.page()).await.ok().flatten();
            if made.is_some() { Status::Ok } else { Status::Unavailable }
        }
        Err(wrong) => *wrong,
    };
    let dialect = request.as_ref().map_or(Dialect::Prometheus, |request| request.dialect);
    let with_body = request.as_ref().map_or(true, |request| !request.head_only);
    let body = made.as_ref().map_or(status.text(), |made| made.text(dialect));
    let header = request::header(status, dialect, body.len());
    board.count(status);
    place.takes(made.as_ref().map(|made| made.at));
    let told = async {
        write(&mut stream, place, header.as_bytes()).await?;
        if with_body {
            write(&mut stream, place, body.as_bytes()).await?;
        }
        stream.shutdown().await
    };
    if timeout(TAKE, told).await?.is_ok() {
        // To close with something unread would take the answer back.
        let end = async { stream.take(REQUEST as u64).read_to_end(&mut Vec::new()).await };
        let _ = timeout(LINGER, end).await;
    }
    Ok(())
}

/// Writes all of `bytes`.
async fn write(stream: &mut TcpStream, place: &Place, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
        place.progressed();
    }
    Ok(())
}

/// The head of a request, up to [`REQUEST`] bytes; `None` if the client went away.
async fn head(stream: &mut TcpStream, place: &Place) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while head.len() < REQUEST && !request::is_complete(&head) {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => head.extend_from_slice(&piece[..n]),
        }
        place.progressed();
    }
    Some(head)
}
