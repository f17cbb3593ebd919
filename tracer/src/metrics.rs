//! The metrics of a trace under way, and where they go: the endpoint, an OTLP receiver, the output at the
//! end.

use std::{
    collections::BTreeMap,
    future::pending,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::time::sleep_until;
use tracer_analysis::{
    connection::Connection,
    destination::{Fold, GroupBy, SteadyFold},
    recording::{Header, Trust},
    utc::Utc,
};

use crate::{
    cli::TraceArgs,
    listen::Endpoint,
    otlp::{Otlp, Unstarted},
    recording::State,
    sink::openmetrics::{About, Exposition, Own},
};

/// The metrics of a trace. There are none where nobody asked for them.
pub(crate) struct Metrics {
    fold: SteadyFold,
    group_by: GroupBy,
    endpoint: Option<Endpoint>,
    /// To be started when privileges are given up.
    unstarted: Option<Unstarted>,
    otlp: Option<Otlp>,
    /// Whether an exposition is waited for.
    due: bool,
    build_time: Option<Duration>,
    /// Whether the recording takes no more; `None` if there is none.
    recording_failed: Option<bool>,
}

impl Metrics {
    /// Opens what the command line asks for, so that an occupied port or a bad URL fails before tracing
    /// begins. `None` if it asks for no metrics.
    pub(crate) fn open(args: &TraceArgs) -> Result<Option<Self>> {
        let asked = args.metrics.listen.is_some() || args.metrics.otlp.is_some();
        if !asked && args.output.format.dialect().is_none() {
            return Ok(None);
        }
        let grouping = args.output.grouping()?;
        let limit = args.output.metrics_destinations;
        let endpoint = args.metrics.listen.map(Endpoint::bind).transpose()?;
        let otlp = args.metrics.otlp.as_deref();
        let unstarted = otlp.map(|url| Unstarted::new(url, args.interval, limit)).transpose()?;
        Ok(Some(Self {
            fold: SteadyFold::new(grouping, limit),
            group_by: grouping.by,
            endpoint,
            unstarted,
            otlp: None,
            due: false,
            build_time: None,
            recording_failed: None,
        }))
    }

    /// Begins to serve and to export, each on a thread.
    pub(crate) fn serve(&mut self) -> Result<()> {
        self.otlp = self.unstarted.take().map(Unstarted::start).transpose()?;
        self.endpoint.as_mut().map_or(Ok(()), Endpoint::serve)
    }

    /// Waits until an exposition is due: because somebody asks for one, or for the time of an export.
    pub(crate) async fn due(metrics: Option<&mut Self>) {
        let Some(metrics) = metrics else { return pending().await };
        let (endpoint, otlp) = (metrics.endpoint.as_ref(), metrics.otlp.as_ref());
        let wanted = async {
            match endpoint {
                Some(endpoint) => endpoint.wanted().await,
                None => pending().await,
            }
        };
        let time = async {
            match otlp.and_then(Otlp::due) {
                Some(time) => sleep_until(time.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = wanted => {}
            () = time => {}
        }
        metrics.due = true;
    }

    /// Takes note of what became of the recording, if there is one.
    pub(crate) fn recording(&mut self, state: Option<State>) {
        self.recording_failed = state.map(|state| state.failed);
    }

    /// Whether an exposition is due.
    pub(crate) fn is_due(&self) -> bool {
        self.due
    }

    /// Adds a connection that `fold` has already.
    pub(crate) fn add(&mut self, connection: &Connection, fold: &Fold) {
        let destination = self.fold.add(connection, fold.usual_host(connection.dst));
        if let Some(otlp) = &mut self.otlp {
            otlp.record(connection, &destination);
        }
    }

    /// What is known at `now`; with the connections that are open to these addresses, or at the end of
    /// the trace without.
    pub(crate) fn exposition(
        &mut self,
        header: &Header,
        now: Utc,
        trust: &Trust,
        open: Option<impl Iterator<Item = IpAddr>>,
        fold: &Fold,
    ) -> Exposition {
        let begin = Instant::now();
        let open = open.map(|addresses| {
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            for address in addresses {
                let host = fold.usual_host(address);
                *counts.entry(self.fold.destination(address, host, now)).or_default() += 1;
            }
            counts
        });
        let exposition = Exposition::new(
            &self.fold,
            &About {
                version: &header.version,
                hosts: std::slice::from_ref(&header.host),
                group_by: self.group_by,
                start: header.start,
                duration_s: now.micros_since(header.start) as f64 / 1e6,
                trust,
                open: open.as_ref(),
                named: self.fold.named(),
                replaced: self.fold.replaced(),
                limit: self.fold.limit(),
                own: Own {
                    scrapes: self.endpoint.as_ref().map(Endpoint::answers).unwrap_or_default(),
                    unfinished: self.endpoint.as_ref().map(Endpoint::unfinished),
                    build_time: self.build_time,
                    recording_failed: self.recording_failed,
                    exports: self.otlp.as_ref().map(Otlp::exports),
                },
            },
        );
        self.build_time = Some(begin.elapsed());
        exposition
    }

    /// Hands an exposition to those who wait for one.
    pub(crate) fn publish(&mut self, exposition: Exposition) {
        let exposition = Arc::new(exposition);
        self.due = false;
        if let Some(otlp) = &mut self.otlp {
            otlp.export_if_due(&exposition);
        }
        if let Some(endpoint) = &self.endpoint {
            endpoint.publish(exposition);
        }
    }

    /// Sends the last exposition. Takes as long as an export may take, at most.
    pub(crate) fn finish(self, exposition: Exposition) {
        if let Some(otlp) = self.otlp {
            otlp.finish(Arc::new(exposition));
        }
    }
}
