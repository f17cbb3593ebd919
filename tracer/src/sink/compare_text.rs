//! A comparison as text.

use std::io;

use tracer_analysis::compare::{Comparison, Destination, Measure, Row as Compared, Side, Unit};

use super::{
    quantity::{cell, grouped, milliseconds, plural},
    safe_text::{safe, wrap},
    table::{Column, Row, table},
    text::{listed, window},
};

/// Writes a comparison. Of destinations the rows without a difference are left out unless `all`.
pub(crate) fn write(
    comparison: &Comparison,
    out: &mut impl io::Write,
    all: bool,
) -> io::Result<()> {
    let mut text = side("Before: ", &comparison.before);
    text.push_str(&side("After: ", &comparison.after));
    text.push_str(&wrap("", 2, &conclusion(comparison)));
    let totals = &comparison.totals;
    text.push_str(&destination(totals, "All destinations", true));
    // Of a single destination there is nothing to say that was not said of all.
    let single = comparison.destinations.len() == 1
        && comparison.only_before + comparison.only_after == 0
        && comparison.destinations[0].connections_before == totals.connections_before;
    if !single {
        for one in &comparison.destinations {
            text.push_str(&destination(one, &safe(&one.key), all));
        }
    }
    text.push('\n');
    text.push_str(&left_out(comparison));
    text.push_str(LEGEND);
    out.write_all(text.as_bytes())
}

const LEGEND: &str = "\
sure: confidence in a difference, corrected for the number of rows compared;
chance: a difference that chance explains, so none is claimed; few: too few
values to tell. 95 %: interval of the difference, of each row by itself.
";

fn side(head: &str, side: &Side) -> String {
    let hosts = listed(side.hosts.iter().map(|host| safe(host)));
    let connections = plural(side.connections, "connection", "connections");
    let losses = if side.complete { "" } else { "; records were lost or may be missing" };
    wrap(head, 2, &format!("{hosts}; {}; {connections}{losses}", window(&side.window)))
}

fn conclusion(comparison: &Comparison) -> String {
    let destinations = &comparison.destinations;
    let differences = |of: &Destination| of.differences().count();
    let in_all = differences(&comparison.totals);
    let changed = destinations.iter().filter(|one| differences(one) > 0).count();
    let rows = |of: &Destination| of.rows.len();
    let rows: usize = rows(&comparison.totals) + destinations.iter().map(rows).sum::<usize>();
    if in_all + changed == 0 {
        return format!("No difference beyond chance in {}", plural(rows as u64, "row", "rows"));
    }
    format!(
        "{} beyond chance in all destinations together; {} of {} differ",
        plural(in_all as u64, "difference", "differences"),
        grouped(changed as u64),
        plural(destinations.len() as u64, "destination", "destinations"),
    )
}

fn destination(of: &Destination, name: &str, all: bool) -> String {
    let rows: Vec<Row> =
        of.rows.iter().filter(|row| all || row.difference.is_real).map(row).collect();
    let counts = format!(
        "{name}: {} before, {} after",
        plural(of.connections_before, "connection", "connections"),
        grouped(of.connections_after)
    );
    let mut text = format!("\n{}", wrap("", 2, &counts));
    if !rows.is_empty() {
        text.push_str(&table("measure", &COLUMNS, &rows));
    }
    let rest = (of.rows.len() - rows.len()) as u64;
    if rest > 0 {
        let without = plural(rest, "measure", "measures");
        text.push_str(&wrap("  ", 2, &format!("{without} without a difference (--all)")));
    }
    text
}

const COLUMNS: [Column; 6] = [
    Column::new("", "before"),
    Column::new("", "after"),
    Column::new("difference", "value"),
    Column::new("95 %", "from"),
    Column::new("95 %", "to"),
    Column::new("", "sure"),
];

fn row(of: &Compared) -> Row {
    let value = |value: f64| number(value, of.unit);
    let limit = |limit: Option<f64>| limit.map_or_else(|| "-".to_owned(), value);
    let difference = &of.difference;
    Row {
        key: name(of),
        cells: vec![
            value(of.before),
            value(of.after),
            value(difference.value),
            limit(difference.low),
            limit(difference.high),
            sure(of),
        ],
    }
}

fn name(of: &Compared) -> String {
    let what = match of.measure {
        Measure::ConnectFailures => "connects failed, %",
        Measure::Died => "sessions died, %",
        Measure::ReuseRatio => "messages reused, %",
        Measure::Unused => "sessions unused, %",
        Measure::ConnectUs => "connect ms",
        Measure::BannerUs => "first byte ms",
        Measure::GreetingUs => "greeting ms",
        Measure::TlsHandshakeUs => "TLS handshake ms",
        Measure::TransactionUs => "transaction ms",
        Measure::LifetimeUs => "lifetime ms",
        Measure::MessagesPerConnection => "messages each",
    };
    match of.quantile {
        Some(q) => format!("{what} p{}", (q * 100.0).round()),
        None => what.to_owned(),
    }
}

/// A value or a difference in the unit of its row.
fn number(value: f64, unit: Unit) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative; float to integer saturates"
    )]
    let whole = value.abs().round() as u64;
    match unit {
        Unit::Share => format!("{:.1}", value * 100.0),
        Unit::Us if whole == 0 => "0".to_owned(),
        Unit::Us => format!("{sign}{}", milliseconds(Some(whole))),
        Unit::Count => format!("{sign}{}", cell(whole)),
    }
}

fn sure(of: &Compared) -> String {
    let difference = &of.difference;
    match difference.confidence {
        _ if difference.value == 0.0 => "same".to_owned(),
        _ if difference.low.or(difference.high).is_none() => "few".to_owned(),
        _ if !difference.is_real => "chance".to_owned(),
        0.9995.. => ">99.9".to_owned(),
        confidence => format!("{:.1}", (confidence * 1000.0).floor() / 10.0),
    }
}

fn left_out(comparison: &Comparison) -> String {
    let mut parts = Vec::new();
    for (n, what) in [
        (comparison.destinations_left_out, "in both, not compared (--top N)"),
        (comparison.only_before, "before only"),
        (comparison.only_after, "after only"),
    ] {
        if n > 0 {
            parts.push(format!("{} {what}", grouped(n)));
        }
    }
    if parts.is_empty() {
        return String::new();
    }
    wrap("Other destinations: ", 2, &parts.join("; "))
}

#[cfg(test)]
mod tests {
    use tracer_analysis::compare::Difference;

    use super::*;

    fn compared(unit: Unit, value: f64, confidence: f64) -> Compared {
        Compared {
            measure: Measure::ConnectUs,
            quantile: Some(0.99),
            unit,
            before: 20_000.0,
            after: 20_000.0 + value,
            count_before: 10,
            count_after: 10,
            difference: Difference {
                value,
                low: Some(-1.0),
                high: None,
                confidence,
                is_real: confidence >= 0.95,
            },
        }
    }

    #[test]
    fn only_differences_have_a_number() {
        assert_eq!(sure(&compared(Unit::Us, 5.0, 0.949)), "chance");
        assert_eq!(sure(&compared(Unit::Us, 5.0, 0.999_4)), "99.9");
        assert_eq!(sure(&compared(Unit::Us, 5.0, 0.999_6)), ">99.9");
        assert_eq!(sure(&compared(Unit::Us, 0.0, 0.0)), "same");
        let mut unbounded = compared(Unit::Us, 5.0, 0.0);
        unbounded.difference.low = None;
        assert_eq!(sure(&unbounded), "few");
    }

    #[test]
    fn rows_say_their_unit() {
        let row = row(&compared(Unit::Us, -3_000.0, 0.99));
        assert_eq!(row.key, "connect ms p99");
        assert_eq!(row.cells, ["20", "17", "-3.0", "-0.00", "-", "99.0"]);
        assert_eq!(number(0.256, Unit::Share), "25.6");
        assert_eq!(number(-12.0, Unit::Count), "-12");
    }
}
