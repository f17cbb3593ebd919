//! Histograms as percentile text (`.hgrm`), as `HdrHistogram`'s plotter reads it: one file per
//! destination and metric.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hdrhistogram::{Histogram, serialization::Deserializer};
use tracer_analysis::report::Report;

/// Percentile steps for each halving of what is left, as the Java tools print them.
const TICKS: u32 = 5;

/// Characters of a key that a file name takes: with its endings it must stay below 255 bytes.
const LONGEST: usize = 200;

/// Writes `directory/DESTINATION.METRIC.hgrm` for each histogram that is not empty.
pub(crate) fn write(report: &Report, directory: &Path) -> Result<()> {
    for destination in std::iter::once(&report.totals).chain(&report.destinations) {
        for (name, summary) in destination.histograms.named() {
            let Some(hdr) = &summary.hdr else { continue };
            let path = directory.join(format!("{}.{name}.hgrm", file_name(&destination.key)));
            let histogram = decode(hdr)?;
            let mut text = Vec::new();
            percentiles(&histogram, &mut text)?;
            fs::write(&path, text)
                .with_context(|| format!("cannot write the histogram {}", path.display()))?;
        }
    }
    Ok(())
}

fn decode(hdr: &str) -> Result<Histogram<u64>> {
    let bytes = STANDARD.decode(hdr).context("the histogram is not base64")?;
    match Deserializer::new().deserialize(&mut bytes.as_slice()) {
        Ok(histogram) => Ok(histogram),
        Err(error) => bail!("the histogram cannot be decoded: {error}"),
    }
}

/// The format of `HdrHistogram`'s `outputPercentileDistribution`.
fn percentiles(histogram: &Histogram<u64>, out: &mut impl io::Write) -> io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS) {
        total += step.count_since_last_iteration();
        let quantile = step.quantile_iterated_to();
        let value = step.value_iterated_to();
        if quantile < 1.0 {
            let inverse = 1.0 / (1.0 - quantile);
            writeln!(
                out,
                "{value:12.3} {quantile:2.12} {total:10} {inverse:14.2}",
                value = value as f64
            )?;
        } else {
            writeln!(out, "{value:12.3} {quantile:2.12} {total:10}", value = value as f64)?;
        }
    }
    writeln!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        histogram.mean(),
        histogram.stdev()
    )?;
    writeln!(
        out,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        histogram.max() as f64,
        histogram.len()
    )?;
    writeln!(
        out,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.buckets(),
        2 * histogram.distinct_values() / (usize::from(histogram.buckets()) + 1)
    )
}

/// A key as a file name: letters, digits, dots, hyphens, underscores; anything else is `_`, and it
/// never begins with a dot.
fn file_name(key: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '~');
    let name: String =
        key.chars().take(LONGEST).map(|c| if allowed(c) { c } else { '_' }).collect();
    if name.starts_with('.') { format!("_{name}") } else { name }
}

/// The texts of all destinations together, one after the other.
#[cfg(test)]
pub(super) fn total_of(report: &Report) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, summary) in report.totals.histograms.named() {
        let Some(hdr) = &summary.hdr else { continue };
        text.extend(format!("{}.{name}.hgrm\n", file_name(&report.totals.key)).bytes());
        percentiles(&decode(hdr).unwrap(), &mut text).unwrap();
    }
    for destination in &report.destinations {
        text.extend(format!("{}.hgrm\n", file_name(&destination.key)).bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_stay_in_their_directory() {
        assert_eq!(file_name("mx.example.org"), "mx.example.org");
        assert_eq!(file_name("../../etc/passwd"), "_.._.._etc_passwd");
        assert_eq!(file_name("2001:db8::25"), "2001_db8__25");
        assert_eq!(file_name("192.0.2.0/24"), "192.0.2.0_24");
    }
}
