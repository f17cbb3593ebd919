//! The families of the exposition as instruments of the SDK.

use std::sync::{Arc, PoisonError};

use opentelemetry::{
    KeyValue, StringValue,
    metrics::{AsyncInstrument, Histogram, Meter},
};
use opentelemetry_sdk::metrics::{Instrument, Stream};
use tracer_analysis::{connection::Connection, destination::Aggregate};

use super::Latest;
use crate::sink::openmetrics::{
    Description, Exposition, Kind, Label, MEASURES, Value, descriptions,
};

/// Series of an instrument about the tracer itself: hooks and TLS libraries.
const HOST_SERIES: usize = 200;

/// What values are told to.
pub(super) struct Instruments {
    /// In the order of [`MEASURES`].
    histograms: Vec<Histogram<f64>>,
}

impl Instruments {
    /// Makes all instruments. Those that are not told values read them from `latest`.
    pub(super) fn new(meter: &Meter, latest: &Latest) -> Self {
        for (at, description) in descriptions().enumerate() {
            observe(meter, at, &description, latest);
        }
        let histogram = |measure: &crate::sink::openmetrics::Measure| {
            let about = &measure.description;
            let edges = measure.edges.iter().map(|&edge| edge as f64 / measure.divisor);
            meter
                .f64_histogram(name(about))
                .with_unit(unit(about))
                .with_description(about.help)
                .with_boundaries(edges.collect())
                .build()
        };
        Self { histograms: MEASURES.iter().map(histogram).collect() }
    }

    /// Tells the values of one connection, by the rules of the aggregates.
    pub(super) fn record(&self, connection: &Connection, destination: &str) {
        let mut one = Aggregate::default();
        one.add(connection);
        let attributes = [KeyValue::new("destination", destination.to_owned())];
        for (histogram, measure) in self.histograms.iter().zip(MEASURES) {
            for span in (measure.of)(&one).spans() {
                for _ in 0..span.count {
                    histogram.record(span.highest as f64 / measure.divisor, &attributes);
                }
            }
        }
    }
}

/// Has the SDK ask for the family number `at` of the exposition.
fn observe(meter: &Meter, at: usize, about: &Description, latest: &Latest) {
    let latest = Arc::clone(latest);
    let (name, unit, help) = (name(about), unit(about), about.help);
    match (about.kind, about.unit) {
        (Kind::Counter, "seconds") => {
            let counter = meter.f64_observable_counter(name).with_unit(unit).with_description(help);
            let read = move |to: &dyn AsyncInstrument<f64>| each(&latest, at, as_number, to);
            counter.with_callback(read).build();
        }
        (Kind::Counter, _) => {
            let counter = meter.u64_observable_counter(name).with_unit(unit).with_description(help);
            let read = move |to: &dyn AsyncInstrument<u64>| each(&latest, at, as_count, to);
            counter.with_callback(read).build();
        }
        (Kind::Gauge | Kind::Info, _) => {
            let gauge = meter.f64_observable_gauge(name).with_unit(unit).with_description(help);
            let read = move |to: &dyn AsyncInstrument<f64>| each(&latest, at, as_number, to);
            gauge.with_callback(read).build();
        }
        (Kind::Histogram, _) => {}
    }
}

/// Passes the samples of a family on.
fn each<T>(latest: &Latest, at: usize, value: fn(&Value) -> T, to: &dyn AsyncInstrument<T>) {
    let exposition: Arc<Exposition> =
        Arc::clone(&latest.lock().unwrap_or_else(PoisonError::into_inner));
    for sample in exposition.families.get(at).iter().flat_map(|family| &family.samples) {
        let attributes: Vec<KeyValue> = sample.labels.iter().map(attribute).collect();
        to.observe(value(&sample.value), &attributes);
    }
}

fn attribute((label, text): &Label) -> KeyValue {
    KeyValue::new(*label, StringValue::from(Arc::clone(text)))
}

fn as_count(value: &Value) -> u64 {
    match value {
        Value::Count(count) | Value::Distribution { count, .. } => *count,
        Value::Number(_) => 0,
    }
}

fn as_number(value: &Value) -> f64 {
    match value {
        Value::Number(number) => *number,
        Value::Count(count) | Value::Distribution { count, .. } => *count as f64,
    }
}

/// Its name as OpenTelemetry writes names: with a namespace, and without the unit.
fn name(about: &Description) -> String {
    let bare =
        about.name.strip_suffix(about.unit).map_or(about.name, |it| it.trim_end_matches('_'));
    bare.replacen("smtptrace_", "smtptrace.", 1)
}

/// The unit as UCUM writes it.
fn unit(about: &Description) -> &'static str {
    match about.unit {
        "seconds" => "s",
        "bytes" => "By",
        _ => "",
    }
}

/// Bounds of the number of series, which no instrument reaches with `destinations` named ones: the SDK would
/// put what is beyond its own bound in a series without labels.
pub(super) fn bounds(
    destinations: usize,
) -> impl Fn(&Instrument) -> Option<Stream> + Send + Sync + 'static {
    let limits: Vec<(String, usize)> = descriptions()
        .map(|about| (name(&about), (destinations + 2).saturating_mul(about.series) + HOST_SERIES))
        .collect();
    move |instrument| {
        let (_, limit) = limits.iter().find(|(name, _)| name == instrument.name())?;
        Stream::builder().with_cardinality_limit(*limit).build().ok()
    }
}
