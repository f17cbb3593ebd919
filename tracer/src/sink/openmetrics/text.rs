//! An exposition as text.

use std::fmt::{self, Write};

use super::{
    Exposition,
    family::{Family, Kind, Label, Sample, Value},
};
use crate::sink::safe;

/// A form of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
}

impl Dialect {
    /// Its media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Exposition {
    /// The text in `dialect`.
    pub(crate) fn text(&self, dialect: Dialect) -> String {
        let mut text = String::new();
        // A String takes everything.
        let _ = self.write(dialect, &mut text);
        text
    }

    fn write(&self, dialect: Dialect, out: &mut String) -> fmt::Result {
        for family in self.families.iter().filter(|family| !family.samples.is_empty()) {
            head(family, dialect, out)?;
            for sample in &family.samples {
                write_sample(family, sample, out)?;
            }
        }
        if dialect == Dialect::OpenMetrics { out.write_str("# EOF\n") } else { Ok(()) }
    }
}

/// `OpenMetrics` knows infos and units, and names a counter without its suffix.
fn head(family: &Family, dialect: Dialect, out: &mut String) -> fmt::Result {
    let about = &family.description;
    let (name, kind) = match (dialect, about.kind) {
        (Dialect::Prometheus, Kind::Info) => (format!("{}_info", about.name), Kind::Gauge),
        (Dialect::Prometheus, Kind::Counter) => (format!("{}_total", about.name), Kind::Counter),
        (_, kind) => (about.name.to_owned(), kind),
    };
    writeln!(out, "# HELP {name} {}", about.help)?;
    writeln!(out, "# TYPE {name} {}", kind.as_str())?;
    if dialect == Dialect::OpenMetrics && !about.unit.is_empty() {
        writeln!(out, "# UNIT {name} {}", about.unit)?;
    }
    Ok(())
}

fn write_sample(family: &Family, sample: &Sample, out: &mut String) -> fmt::Result {
    let (name, labels) = (family.description.name, &sample.labels);
    let suffix = match family.description.kind {
        Kind::Counter => "_total",
        Kind::Info => "_info",
        Kind::Gauge | Kind::Histogram => "",
    };
    match &sample.value {
        Value::Count(count) => line(out, name, suffix, labels, None, *count),
        Value::Number(number) => line(out, name, suffix, labels, None, *number),
        Value::Distribution { up_to, count, sum } => {
            for (edge, n) in up_to {
                line(out, name, "_bucket", labels, Some(*edge), *n)?;
            }
            line(out, name, "_bucket", labels, Some(f64::INFINITY), *count)?;
            line(out, name, "_count", labels, None, *count)?;
            line(out, name, "_sum", labels, None, *sum)
        }
    }
}

fn line(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &[Label],
    edge: Option<f64>,
    value: impl fmt::Display,
) -> fmt::Result {
    write!(out, "{name}{suffix}")?;
    let mut before = '{';
    for (label, text) in labels {
        write!(out, "{before}{label}=\"")?;
        escape(text, out);
        out.push('"');
        before = ',';
    }
    match edge {
        Some(f64::INFINITY) => write!(out, "{before}le=\"+Inf\"}}")?,
        Some(edge) => write!(out, "{before}le=\"{edge:?}\"}}")?,
        None if before == ',' => out.push('}'),
        None => {}
    }
    writeln!(out, " {value}")
}

/// What is not printable ASCII is written as everywhere else; of the rest, backslash and quote are escaped.
fn escape(text: &str, out: &mut String) {
    for c in safe(text).chars() {
        if matches!(c, '\\' | '"') {
            out.push('\\');
        }
        out.push(c);
    }
}
