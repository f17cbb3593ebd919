//! Distributions as bars.

use ratatui::text::{Line, Span};
use tracer_analysis::{destination::HistogramSummary, report::Destination};

use super::{
    super::theme::{HEADING, Theme},
    destination::time,
};
use crate::sink::quantity::{cell, grouped};

/// Bars of one histogram at most; beyond, two steps of the scale share one.
const BARS: usize = 12;

/// All distributions of a destination that hold anything.
pub(super) fn all(theme: Theme, of: &Destination, width: usize) -> Vec<Line<'static>> {
    let named = of.histograms.named().filter(|(_, summary)| summary.count > 0);
    let lines: Vec<_> =
        named.flat_map(|(name, summary)| one(theme, name, summary, width)).collect();
    if lines.is_empty() { vec![Line::from("Nothing was measured as yet.")] } else { lines }
}

fn title(name: &str) -> &str {
    match name {
        "connect_us" => "Connect: SYN to established",
        "banner_us" => "First byte of the greeting",
        "greeting_us" => "Complete greeting",
        "ehlo_us" => "EHLO",
        "starttls_us" => "STARTTLS",
        "tls_handshake_us" => "TLS handshake",
        "auth_us" => "AUTH",
        "transaction_us" => "Transaction",
        "final_reply_us" => "Final reply",
        "lifetime_us" => "Lifetime",
        "idle_us" => "Idle gaps",
        "turns" => "Turns per connection",
        "messages_per_connection" => "Messages per connection",
        other => other,
    }
}

fn one(theme: Theme, name: &str, summary: &HistogramSummary, width: usize) -> Vec<Line<'static>> {
    let is_time = name.ends_with("_us");
    let value = |it: Option<u64>| {
        if is_time { time(it) } else { it.map_or_else(|| "-".to_owned(), cell) }
    };
    let quantiles = format!(
        "  {} values; p50 {}, p90 {}, p99 {}, highest {}",
        grouped(summary.count),
        value(summary.p50),
        value(summary.p90),
        value(summary.p99),
        value(summary.max)
    );
    let mut lines = vec![Line::styled(title(name).to_owned(), HEADING), Line::from(quantiles)];
    let bars = bars(&summary.counts().unwrap_or_default());
    let highest = bars.iter().map(|bar| bar.count).max().unwrap_or(0).max(1);
    for bar in &bars {
        let range = match (is_time, bar.to - bar.from) {
            (false, 1) => cell(bar.from),
            (false, _) => format!("{} to {}", cell(bar.from), cell(bar.to - 1)),
            (true, _) => format!("below {}", time(Some(bar.to))),
        };
        let text = format!("  {range:>16} {:>8}  ", grouped(bar.count));
        let share = bar.count as f64 / highest as f64;
        let bar = theme.bar_of(share, width.saturating_sub(text.len()));
        lines.push(Line::from(vec![Span::raw(text), Span::styled(bar, theme.bar())]));
    }
    lines.push(Line::default());
    lines
}

/// Values from `from` to below `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bar {
    from: u64,
    to: u64,
    count: u64,
}

/// Counts on a scale of 1, 2, 5, 10, ..., from the smallest value to the largest.
fn bars(counts: &[(u64, u64)]) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    let (Some((min, _)), Some((max, _))) = (counts.first(), counts.last()) else { return bars };
    let (mut from, mut power) = (0, 1_u64);
    'scale: loop {
        for factor in [1, 2, 5] {
            let to = power.saturating_mul(factor);
            if to > *min {
                let inside = counts.iter().filter(|(value, _)| (from..to).contains(value));
                bars.push(Bar { from, to, count: inside.map(|(_, n)| n).sum() });
            }
            if to > *max || to == u64::MAX {
                break 'scale;
            }
            from = to;
        }
        power = power.saturating_mul(10);
    }
    while bars.len() > BARS {
        let pairs = bars.chunks(2).map(|pair| Bar {
            from: pair[0].from,
            to: pair[pair.len() - 1].to,
            count: pair.iter().map(|bar| bar.count).sum(),
        });
        bars = pairs.collect();
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bar() {
        let counts = [(3, 2), (5, 1), (19, 4), (1_000_000, 1)];
        let bars = bars(&counts);
        assert_eq!(bars.iter().map(|bar| bar.count).sum::<u64>(), 8);
        assert!(bars.len() <= BARS && bars.windows(2).all(|pair| pair[0].to == pair[1].from));
    }

    #[test]
    fn scale_begins_and_ends_with_the_values() {
        let bar = |from, to, count| Bar { from, to, count };
        assert_eq!(bars(&[(1, 5)]), [bar(1, 2, 5)]);
        assert_eq!(bars(&[(0, 1), (2, 1)]), [bar(0, 1, 1), bar(1, 2, 0), bar(2, 5, 1)]);
        assert_eq!(bars(&[]), []);
        assert_eq!(bars(&[(u64::MAX - 1, 1)]).iter().map(|bar| bar.count).sum::<u64>(), 1);
    }
}
