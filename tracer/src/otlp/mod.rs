//! Metrics to an OpenTelemetry receiver, through the OpenTelemetry SDK.
//!
//! Counters and gauges are those of the exposition: the SDK asks for them at each export. Histograms cannot be
//! handed to it ready-made, so it is told each value when a connection ends. Exports run on a thread of their
//! own; a receiver that is slow or gone delays nothing.

mod client;
mod instruments;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use opentelemetry::{KeyValue, metrics::MeterProvider as _};
use opentelemetry_otlp::{MetricExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider, Temporality},
};
use tracer_analysis::connection::Connection;

use crate::{
    diagnostics::{self, Level},
    sink::openmetrics::Exposition,
};
use client::Client;
use instruments::Instruments;

/// Time for one export, with the SDK's repetitions, and for the last one when tracing ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longer than any trace: exports are asked for, not timed, by the SDK.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The exposition that the SDK's callbacks read.
type Latest = Arc<Mutex<Arc<Exposition>>>;

/// Exports so far.
#[derive(Debug, Default)]
struct Outcomes {
    done: AtomicU64,
    failed: AtomicU64,
}

/// An OTLP receiver that metrics are sent to.
pub(crate) struct Otlp {
    url: String,
    interval: Duration,
    /// When the next export is due; `None` beyond any clock.
    due: Option<Instant>,
    instruments: Instruments,
    exports: SyncSender<Arc<Exposition>>,
    ended: Receiver<()>,
    outcomes: Arc<Outcomes>,
}

/// What [`Otlp`] is started from: the receiver is known, no thread runs yet.
pub(crate) struct Unstarted {
    exporter: MetricExporter,
    last_error: Arc<Mutex<String>>,
    url: String,
    interval: Duration,
    destinations: usize,
}

impl Unstarted {
    /// Takes the URL of the receiver, and how many destinations are named at most.
    pub(crate) fn new(url: &str, interval: Duration, destinations: usize) -> Result<Self> {
        let client = Client::new(PATIENCE);
        let last_error = client.last_error();
        let exporter = MetricExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(url)
            .with_timeout(PATIENCE)
            .with_temporality(Temporality::Cumulative)
            .build()
            .with_context(|| format!("cannot export metrics to {url} (--otlp)"))?;
        Ok(Self { exporter, last_error, url: url.to_owned(), interval, destinations })
    }

    /// Starts the thread that exports. Nothing is sent yet.
    pub(crate) fn start(self) -> Result<Otlp> {
        let Self { exporter, last_error, url, interval, destinations } = self;
        let latest = Latest::default();
        let provider = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(exporter).with_interval(NEVER).build())
            .with_resource(resource())
            .with_view(instruments::bounds(destinations))
            .build();
        let instruments = Instruments::new(&provider.meter("smtptrace"), &latest);
        let outcomes = Arc::new(Outcomes::default());
        let (exports, jobs) = sync_channel::<Arc<Exposition>>(1);
        let (end, ended) = sync_channel(1);
        let exporter = Exporter {
            provider,
            latest,
            last_error,
            outcomes: Arc::clone(&outcomes),
            url: url.clone(),
        };
        thread::Builder::new()
            .name("smtptrace-otlp".into())
            .spawn(move || {
                exporter.run(&jobs);
                // Nobody waits any more if it took too long.
                let _ = end.try_send(());
            })
            .context("cannot start the thread that exports metrics")?;
        let due = Instant::now().checked_add(interval);
        Ok(Otlp { url, interval, due, instruments, exports, ended, outcomes })
    }
}

impl Otlp {
    /// When the next export is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Adds the values of a connection to `destination` to the histograms.
    pub(crate) fn record(&mut self, connection: &Connection, destination: &str) {
        self.instruments.record(connection, destination);
    }

    /// Exports `exposition` if it is time. If the export before is still under way, this one counts as
    /// failed; the next one says all that it would have said.
    pub(crate) fn export_if_due(&mut self, exposition: &Arc<Exposition>) {
        let now = Instant::now();
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = now.checked_add(self.interval);
        if let Err(TrySendError::Full(_)) = self.exports.try_send(Arc::clone(exposition)) {
            self.outcomes.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Exports so far, by result.
    pub(crate) fn exports(&self) -> [(&'static str, u64); 2] {
        [
            ("ok", self.outcomes.done.load(Ordering::Relaxed)),
            ("failed", self.outcomes.failed.load(Ordering::Relaxed)),
        ]
    }

    /// Exports for the last time and says what failed.
    pub(crate) fn finish(self, exposition: Arc<Exposition>) {
        let end = Instant::now() + PATIENCE;
        let mut last = exposition;
        // There is room as soon as the export under way has ended.
        while let Err(TrySendError::Full(back)) = self.exports.try_send(last) {
            if Instant::now() >= end {
                break;
            }
            thread::sleep(Duration::from_millis(20));
            last = back;
        }
        drop(self.exports);
        let left = end.saturating_duration_since(Instant::now());
        let in_time = self.ended.recv_timeout(left) != Err(RecvTimeoutError::Timeout);
        let failed = self.outcomes.failed.load(Ordering::Relaxed) + u64::from(!in_time);
        if failed > 0 {
            let done = self.outcomes.done.load(Ordering::Relaxed);
            let url = &self.url;
            say(&format!("{failed} of {} exports to {url} failed", done + failed));
        }
        if !in_time {
            say(&format!("the last export did not end within {} s", PATIENCE.as_secs()));
        }
    }
}

/// What the thread has.
struct Exporter {
    provider: SdkMeterProvider,
    latest: Latest,
    last_error: Arc<Mutex<String>>,
    outcomes: Arc<Outcomes>,
    url: String,
}

impl Exporter {
    fn run(self, jobs: &Receiver<Arc<Exposition>>) {
        let mut warned = false;
        while let Ok(exposition) = jobs.recv() {
            *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = exposition;
            match self.provider.force_flush() {
                Ok(()) => {
                    self.outcomes.done.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    self.outcomes.failed.fetch_add(1, Ordering::Relaxed);
                    if !std::mem::replace(&mut warned, true) {
                        self.warn(&error.to_string());
                    }
                }
            }
        }
    }

    fn warn(&self, error: &str) {
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = if last.is_empty() { error } else { last.as_str() };
        let url = &self.url;
        say(&format!(
            "cannot export metrics to {url}: {reason}; further attempts follow each --interval, \
             without a word"
        ));
    }
}

/// A warning; what the receiver said may be in it.
fn say(text: &str) {
    diagnostics::say(Level::Warning, &text.escape_debug().to_string());
}

/// Who sends.
fn resource() -> Resource {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "smtptrace"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("host.name", host.trim().to_owned()),
        ])
        .build()
}
