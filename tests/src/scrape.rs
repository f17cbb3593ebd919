//! The metrics endpoint of smtptrace, asked as scrapers ask, and its answers as independent parsers read
//! them.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::python;

/// What a client that wants `OpenMetrics` sends.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";
/// What a client that wants the text format of Prometheus sends.
pub const PROMETHEUS: &str = "text/plain; version=0.0.4";

const PATIENCE: Duration = Duration::from_secs(20);

/// Reads an exposition of either format, written to a file, and prints its samples as JSON.
const PARSE: &str = "
import json, math, sys
from importlib import import_module
parser = import_module(sys.argv[1])
text = open(sys.argv[2], encoding='utf-8').read()
for family in parser.text_string_to_metric_families(text):
    for s in family.samples:
        value = s.value if math.isfinite(s.value) else str(s.value)
        print(json.dumps([family.name, family.type, getattr(family, 'unit', ''),
                          family.documentation, s.name, s.labels, value]))
";

/// An address on the loopback interface that nobody listens on.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    listener.local_addr().context("find a free port")
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: String,
}

/// Sends `request` as it is and reads the answer to its end.
pub fn exchange(address: SocketAddr, request: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).context("connect to the endpoint")?;
    stream.set_read_timeout(Some(PATIENCE)).context("set the read timeout")?;
    stream.write_all(request).context("send the request")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).context("read the answer")?;
    let text = String::from_utf8(bytes).context("an answer in UTF-8")?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else { bail!("no answer: {text:?}") };
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let status = status.parse().with_context(|| format!("status in {head:?}"))?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Ok(Answer { status, headers, body: body.to_owned() })
}

/// Asks for the metrics in the format `accept`.
pub fn get(address: SocketAddr, accept: &str) -> Result<Answer> {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n");
    exchange(address, request.as_bytes())
}

/// A sample, as a parser read it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name of its family.
    pub family: String,
    /// Type of its family.
    pub kind: String,
    /// What HELP says.
    pub help: String,
    /// Its own name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// An exposition.
#[derive(Debug, Clone)]
pub struct Exposition {
    /// All samples, in order.
    pub samples: Vec<Sample>,
}

impl Exposition {
    /// Reads `text` with the parser of the Python client for that format.
    pub fn parse(text: &str, accept: &str, file: &std::path::Path) -> Result<Self> {
        let parser = match accept {
            OPENMETRICS => "prometheus_client.openmetrics.parser",
            _ => "prometheus_client.parser",
        };
        std::fs::write(file, text).context("keep the exposition")?;
        let file = file.to_str().context("a path in UTF-8")?;
        let lines = python::run(PARSE, &[parser, file])?;
        let samples = lines.lines().map(sample).collect::<Result<_>>()?;
        Ok(Self { samples })
    }

    /// The sum of the samples called `name` with (at least) these labels; `None` without any.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &Sample| {
            let label = |(label, text): &(&str, &str)| {
                sample.labels.get(*label).is_some_and(|value| value == text)
            };
            sample.name == name && labels.iter().all(label)
        };
        let found: Vec<f64> = self.samples.iter().filter(|it| has(it)).map(|it| it.value).collect();
        (!found.is_empty()).then(|| found.iter().sum())
    }
}

fn sample(line: &str) -> Result<Sample> {
    let read: Value = serde_json::from_str(line).context("output of the parser")?;
    let text = |at: usize| read[at].as_str().unwrap_or_default().to_owned();
    let labels = read[5].as_object().context("labels")?;
    let labels = labels
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
    ensure!(read[6].is_number(), "not a finite value: {line}");
    Ok(Sample {
        family: text(0),
        kind: text(1),
        help: text(3),
        name: text(4),
        labels: labels.collect(),
        value: read[6].as_f64().context("a value")?,
    })
}
