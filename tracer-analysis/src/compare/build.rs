//! Putting two reports side by side.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    CompareError, Comparison, ComparisonKind, Destination, Difference, Row, SCHEMA, Side,
    estimate::{chance, difference, holm},
    measures::{Measured, measures},
};
use crate::{destination::OTHER, report};

/// Confidence from which on a difference is called one.
const CONFIDENCE: f64 = 0.95;
/// Half the width of the intervals that are shown, in standard deviations: 95 %.
const SHOWN_Z: f64 = 1.959_964;

/// Compares two reports that hold their histograms. At most `top` destinations are compared besides the
/// total, those with most connections in the report that has fewer of them.
pub fn compare(
    before: &report::Report,
    after: &report::Report,
    top: usize,
) -> Result<Comparison, CompareError> {
    let [before_by, after_by] = [before, after].map(report::Report::grouping);
    if before_by != after_by {
        return Err(CompareError::Grouping { before: before_by, after: after_by });
    }
    let mut pairs = pairs(before, after);
    let common = pairs.len();
    pairs.truncate(top);
    let mut totals = destination(&before.totals, &after.totals);
    let mut destinations: Vec<Destination> =
        pairs.into_iter().map(|(a, b)| destination(a, b)).collect();
    correct(&mut totals, &mut destinations);
    let only = |all: &[report::Destination]| all.iter().filter(|one| one.key != OTHER).count();
    Ok(Comparison {
        kind: ComparisonKind::Comparison,
        schema: SCHEMA,
        group_by: before.group_by,
        prefixes: before_by.used_prefixes(),
        before: side(before),
        after: side(after),
        totals,
        destinations_left_out: (common - destinations.len()) as u64,
        destinations,
        only_before: only(&before.destinations).saturating_sub(common) as u64,
        only_after: only(&after.destinations).saturating_sub(common) as u64,
    })
}

fn side(report: &report::Report) -> Side {
    Side {
        hosts: report.hosts.clone(),
        window: report.window,
        connections: report.totals.connections,
        complete: report.trust.is_complete(),
    }
}

/// Destinations that are in both reports, those with most connections first.
fn pairs<'a>(
    before: &'a report::Report,
    after: &'a report::Report,
) -> Vec<(&'a report::Destination, &'a report::Destination)> {
    let after: BTreeMap<&str, &report::Destination> =
        after.destinations.iter().map(|one| (one.key.as_str(), one)).collect();
    let both = before.destinations.iter().filter(|one| one.key != OTHER);
    let both = both.filter_map(|one| Some((one, *after.get(one.key.as_str())?)));
    let mut both: Vec<_> = both.collect();
    both.sort_by_key(|(a, b)| (Reverse(a.connections.min(b.connections)), a.key.clone()));
    both
}

/// The rows of one destination; how sure they are is not corrected yet.
fn destination(before: &report::Destination, after: &report::Destination) -> Destination {
    let known = measures(after);
    let rows = measures(before).into_iter().filter_map(|a| {
        let same = |b: &&Measured| (a.measure, a.quantile) == (b.measure, b.quantile);
        known.iter().find(same).map(|b| row(&a, b))
    });
    Destination {
        key: before.key.clone(),
        connections_before: before.connections,
        connections_after: after.connections,
        rows: rows.collect(),
    }
}

fn row(before: &Measured, after: &Measured) -> Row {
    let (a, b) = (before.estimate.value(), after.estimate.value());
    let (low, high) = difference(&before.estimate, &after.estimate, SHOWN_Z);
    Row {
        measure: before.measure,
        quantile: before.quantile,
        unit: before.unit,
        before: a,
        after: b,
        count_before: before.count,
        count_after: after.count,
        difference: Difference {
            value: b - a,
            low: Some(low).filter(|low| low.is_finite()),
            high: Some(high).filter(|high| high.is_finite()),
            confidence: 1.0 - chance(&before.estimate, &after.estimate),
            is_real: false,
        },
    }
}

/// Corrects all rows for their number.
fn correct(totals: &mut Destination, destinations: &mut [Destination]) {
    let of_destinations = destinations.iter_mut().flat_map(|one| &mut one.rows);
    let rows: Vec<&mut Row> = totals.rows.iter_mut().chain(of_destinations).collect();
    let chances: Vec<f64> = rows.iter().map(|row| 1.0 - row.difference.confidence).collect();
    let corrected = holm(&chances);
    for (row, chance) in rows.into_iter().zip(corrected) {
        row.difference.confidence = 1.0 - chance;
        row.difference.is_real = row.difference.confidence >= CONFIDENCE;
    }
}
