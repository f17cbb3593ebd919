//! The metrics endpoint: HTTP/1.1, one small server on the runtime of the trace.
//!
//! A scraper can delay nothing: what it asks for is built between two looks at the kernel's buffers, at most
//! once a second, and everything it has to read or write has a time limit.

mod request;

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, watch},
    time::{sleep, timeout},
};

use crate::sink::openmetrics::{Dialect, Exposition};
use request::{Request, Status};

/// How long an exposition is served before a new one is built.
const FRESH: Duration = Duration::from_secs(1);

/// Connections served at a time; others wait to be accepted.
const CONNECTIONS: usize = 64;

/// Time for a client to say what it wants.
const ASK: Duration = Duration::from_secs(5);

/// Time for the trace to build an exposition.
const BUILD: Duration = Duration::from_secs(10);

/// Time for a client to take the answer.
const TAKE: Duration = Duration::from_secs(30);

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
}

/// The endpoint of a trace.
pub(crate) struct Endpoint {
    listener: Option<StdListener>,
    board: Arc<Board>,
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
        listener.set_nonblocking(true).context("cannot make the listening socket non-blocking")?;
        let board = Board {
            wanted: Notify::new(),
            page: watch::Sender::new(None),
            answers: Mutex::default(),
        };
        Ok(Self { listener: Some(listener), board: Arc::new(board) })
    }

    /// Begins to serve, on the runtime at hand.
    pub(crate) fn serve(&mut self) -> Result<()> {
        let Some(listener) = self.listener.take() else { return Ok(()) };
        let listener =
            TcpListener::from_std(listener).context("cannot poll the listening socket")?;
        tokio::spawn(accept(listener, Arc::clone(&self.board)));
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
}

impl Made {
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
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let board = Arc::clone(&board);
                tokio::spawn(async move {
                    answer(stream, &board).await;
                    drop(place);
                });
            }
            // Out of descriptors, or the client is gone already.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Reads one request and answers it. A client that is too slow is hung up on.
async fn answer(mut stream: TcpStream, board: &Board) {
    let Ok(Some(head)) = timeout(ASK, head(&mut stream)).await else { return };
    let request = Request::parse(&head);
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
    let write = async {
        stream.write_all(header.as_bytes()).await?;
        if with_body {
            stream.write_all(body.as_bytes()).await?;
        }
        stream.shutdown().await?;
        // To close with something unread would take the answer back.
        stream.take(REQUEST as u64).read_to_end(&mut Vec::new()).await
    };
    // Who does not read gets nothing.
    let _ = timeout(TAKE, write).await;
}

/// The head of a request, up to [`REQUEST`] bytes; `None` if the client went away.
async fn head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while head.len() < REQUEST && !request::is_complete(&head) {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => head.extend_from_slice(&piece[..n]),
        }
    }
    Some(head)
}
