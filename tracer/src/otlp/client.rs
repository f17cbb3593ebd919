//! The HTTP client of the exporter: blocking, without TLS.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use ureq::Agent;

/// Bytes of an answer at most.
const ANSWER: u64 = 1 << 20;

/// Sends requests and remembers what went wrong last.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    last_error: Arc<Mutex<String>>,
}

impl Client {
    /// A client that gives a request up after `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(patience))
            .http_status_as_error(false) // the exporter judges them
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("smtptrace/", env!("CARGO_PKG_VERSION")));
        Self { agent: config.build().into(), last_error: Arc::default() }
    }

    /// What went wrong last; empty so far.
    pub(super) fn last_error(&self) -> Arc<Mutex<String>> {
        Arc::clone(&self.last_error)
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, &body[..]);
        let (head, mut body) = self.agent.run(request)?.into_parts();
        let body = body.with_config().limit(ANSWER).read_to_vec()?;
        Ok(Response::from_parts(head, body.into()))
    }

    fn failed(&self, reason: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

#[async_trait]
impl HttpClient for Client {
    /// Blocks: it is called on the thread of the SDK's reader, which does nothing else.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.send(request);
        match &answer {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => self.failed(format!("it answers {}", answer.status())),
            Err(error) => self.failed(error.to_string()),
        }
        answer.map_err(Into::into)
    }
}
