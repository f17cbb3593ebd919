//! What an exposition consists of: families of samples.

use std::sync::Arc;

/// What a family holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Counts that never become smaller.
    Counter,
    /// Values at the moment.
    Gauge,
    /// Facts in labels; the value is 1.
    Info,
    /// Distributions.
    Histogram,
}

impl Kind {
    /// As `OpenMetrics` calls it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Info => "info",
            Self::Histogram => "histogram",
        }
    }
}

/// What all samples of a family have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Description {
    /// Name, without the suffix that its kind asks for.
    pub(crate) name: &'static str,
    /// What it holds.
    pub(crate) kind: Kind,
    /// Its unit, which is also the end of its name; empty for none.
    pub(crate) unit: &'static str,
    /// What it means, in one line.
    pub(crate) help: &'static str,
    /// Most series of one destination; 1 also where there is no such label.
    pub(crate) series: usize,
}

/// Shorthand for the tables of families.
pub(super) const fn counter(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Counter, unit: "", help, series: 1 }
}

/// Shorthand for the tables of families.
pub(super) const fn gauge(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Gauge, unit: "", help, series: 1 }
}

/// Shorthand for the tables of families.
pub(super) const fn info(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Info, unit: "", help, series: 1 }
}

/// Shorthand for the tables of families.
pub(super) const fn histogram(name: &'static str, help: &'static str) -> Description {
    Description { name, kind: Kind::Histogram, unit: "", help, series: 1 }
}

impl Description {
    /// The same in `unit`.
    pub(super) const fn measured_in(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// The same with up to `series` per destination.
    pub(super) const fn times(self, series: usize) -> Self {
        Self { series, ..self }
    }
}

/// A label and its value.
pub(crate) type Label = (&'static str, Arc<str>);

/// The value of a sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A count.
    Count(u64),
    /// A measure.
    Number(f64),
    /// A distribution: values up to each edge, the largest of which is all; their number and sum.
    Distribution { up_to: Vec<(f64, u64)>, count: u64, sum: f64 },
}

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// Its labels. Values are text from the network and not escaped.
    pub(crate) labels: Vec<Label>,
    /// Its value.
    pub(crate) value: Value,
}

/// A family and its samples.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    /// What they have in common.
    pub(crate) description: Description,
    /// Them.
    pub(crate) samples: Vec<Sample>,
}

impl Family {
    /// A family without samples yet.
    pub(super) fn new(description: Description) -> Self {
        Self { description, samples: Vec::new() }
    }

    /// Adds a count.
    pub(super) fn count(&mut self, labels: Vec<Label>, count: u64) {
        self.samples.push(Sample { labels, value: Value::Count(count) });
    }

    /// Adds a measure; nothing if it is not known.
    pub(super) fn number(&mut self, labels: Vec<Label>, number: Option<f64>) {
        self.samples.extend(number.map(|it| Sample { labels, value: Value::Number(it) }));
    }

    /// Adds a fact.
    pub(super) fn fact(&mut self, labels: Vec<Label>) {
        self.count(labels, 1);
    }
}
