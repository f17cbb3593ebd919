//! The measures of a destination, from its report.

use super::{
    Measure, PER_OBSERVATION, Unit,
    estimate::{Counts, Estimate, total},
};
use crate::{destination::HistogramSummary, report::Destination};

/// A measure as one side knows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    pub(super) measure: Measure,
    pub(super) quantile: Option<f64>,
    pub(super) unit: Unit,
    pub(super) count: u64,
    pub(super) estimate: Estimate,
}

const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// All measures that are known, in a fixed order.
pub(super) fn measures(of: &Destination) -> Vec<Measured> {
    shares(of).into_iter().flatten().chain(quantiles(of)).collect()
}

fn shares(of: &Destination) -> [Option<Measured>; 4] {
    let ended = of.connections.saturating_sub(of.open);
    let sessions = ended.saturating_sub(of.connect_failures);
    let share = |measure, part: u64, all: u64| {
        let estimate = Estimate::share(part, all)?;
        Some(Measured { measure, quantile: None, unit: Unit::Share, count: all, estimate })
    };
    [
        share(Measure::ConnectFailures, of.connect_failures, ended),
        share(Measure::Died, of.died, sessions),
        reuse(of),
        of.unused_connections
            .and_then(|unused| share(Measure::Unused, unused, of.counted_connections)),
    ]
}

/// The share of messages that needed no new connection. Messages of one connection are no independent
/// observations: its error is that of a ratio of two sums over connections (messages that were reused, and
/// all messages).
fn reuse(of: &Destination) -> Option<Measured> {
    let share = of.reuse_ratio.filter(|share| (0.0..=1.0).contains(share))?;
    let carried = of.histograms.messages_per_connection.as_ref()?.counts()?;
    let carried: Counts = carried.into_iter().filter(|(messages, _)| *messages > 0).collect();
    let connections = total(&carried) as f64;
    let add =
        |sum: u64, (messages, n): &(u64, u64)| sum.saturating_add(messages.saturating_mul(*n));
    let messages = carried.iter().fold(0, add);
    if messages == 0 {
        return None;
    }
    // Of the m messages of a connection m - 1 were reused.
    let squares: f64 = carried
        .iter()
        .map(|&(messages, n)| {
            let residual = messages as f64 - 1.0 - share * messages as f64;
            residual * residual * n as f64
        })
        .sum();
    let variance = squares / (messages as f64 * messages as f64);
    let alike = share * (1.0 - share) / variance;
    let independent = if alike.is_finite() { alike.min(connections) } else { connections };
    Some(Measured {
        measure: Measure::ReuseRatio,
        quantile: None,
        unit: Unit::Share,
        count: of.transactions.unwrap_or(messages),
        estimate: Estimate::Share { share, observations: independent / PER_OBSERVATION },
    })
}

fn quantiles(of: &Destination) -> Vec<Measured> {
    let all = &of.histograms;
    let histograms = [
        (Measure::ConnectUs, Some(&all.connect_us)),
        (Measure::BannerUs, Some(&all.banner_us)),
        (Measure::GreetingUs, Some(&all.greeting_us)),
        (Measure::TlsHandshakeUs, all.tls_handshake_us.as_ref()),
        (Measure::TransactionUs, all.transaction_us.as_ref()),
        (Measure::LifetimeUs, Some(&all.lifetime_us)),
        (Measure::MessagesPerConnection, all.messages_per_connection.as_ref()),
    ];
    let known = histograms.into_iter().filter_map(|(measure, histogram)| {
        Some((measure, histogram.and_then(HistogramSummary::counts)?))
    });
    known.flat_map(|(measure, counts)| of_histogram(measure, &counts)).collect()
}

fn of_histogram(measure: Measure, counts: &Counts) -> Vec<Measured> {
    let unit = match measure {
        Measure::MessagesPerConnection => Unit::Count,
        _ => Unit::Us,
    };
    let count = total(counts);
    let of = |q| {
        let estimate = Estimate::quantile(q, counts)?;
        Some(Measured { measure, quantile: Some(q), unit, count, estimate })
    };
    QUANTILES.into_iter().filter_map(of).collect()
}
