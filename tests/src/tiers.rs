//! Records of the same traffic, made by different kinds of hooks, compared field by field.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::recording::{Record, Recording};

/// Fields that name the record and not the connection.
const OF_THE_RECORD: [&str; 1] = ["id"];

/// Moments, as text; times end in `_us`.
const MOMENTS: [&str; 2] = ["start", "end"];

/// Fields that are drawn from what servers say, or for which that is evidence beside other evidence; the same or
/// unknown where some replies could not be read.
const OF_REPLIES: [&str; 22] = [
    "greeting_us",
    "banner_code",
    "banner_host",
    "tls",
    "ehlo_us",
    "starttls_us",
    "tls_handshake_us",
    "auth_us",
    "transactions",
    "transactions_method",
    "transactions_exact",
    "replies",
    "refusals",
    "transaction_spans_us",
    "transaction_spans_omitted",
    "envelope_us",
    "body_us",
    "final_reply_us",
    "server_mta",
    "end_during",
    "end_suspect",
    "end_quit",
];

/// Idle gaps are recorded from 0.1 s on. On a slow machine others than those of the script come near that, and the
/// difference of a microsecond decides: only longer ones are compared.
const LEAST_GAP_US: u64 = 600_000;

/// How exact the comparison is.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Times may differ by so many microseconds.
    pub micros: u64,
    /// The second recording was made without some of the replies: what is drawn from them may be unknown.
    pub without_replies: bool,
}

/// Fails unless both recordings tell the same of the same connections. Returns the greatest difference of a
/// time, in microseconds.
pub fn ensure_same(one: &Recording, other: &Recording, tolerance: Tolerance) -> Result<u64> {
    let count = one.connections.len();
    ensure!(
        count == other.connections.len(),
        "{count} connections against {}:\n{one:?}\n{other:?}",
        other.connections.len()
    );
    let mut greatest = 0;
    for record in &one.connections {
        let same = |it: &&Record| key(it) == key(record);
        let twin =
            other.connections.iter().find(same).with_context(|| {
                format!("{} is missing in {:?}", record.json(), other.connections)
            })?;
        let difference = ensure_same_record(record, twin, tolerance)
            .with_context(|| format!("\n{}\nagainst\n{}", record.json(), twin.json()))?;
        greatest = greatest.max(difference);
    }
    Ok(greatest)
}

/// What tells connections apart.
fn key(record: &Record) -> [&Value; 4] {
    ["src", "sport", "dst", "dport"].map(|name| &record.json()[name])
}

fn ensure_same_record(one: &Record, other: &Record, tolerance: Tolerance) -> Result<u64> {
    let (fields, others) = (object(one.json())?, object(other.json())?);
    ensure!(fields.keys().eq(others.keys()), "other fields");
    let mut greatest = 0;
    for (name, value) in fields {
        let other = &others[name];
        if OF_THE_RECORD.contains(&name.as_str()) {
            continue;
        }
        if tolerance.without_replies && OF_REPLIES.contains(&name.as_str()) {
            let unknown = other.is_null() || *other == false || *other == 0;
            if unknown {
                continue;
            }
        }
        let (value, other) = (&long_gaps(name, value), &long_gaps(name, other));
        let difference = difference(name, value, other)
            .with_context(|| format!("{name}: {value} against {other}"))?;
        ensure!(
            difference <= tolerance.micros,
            "{name}: {value} against {other}: more than {} us apart",
            tolerance.micros
        );
        greatest = greatest.max(difference);
    }
    Ok(greatest)
}

/// `value` without idle gaps that are too short to be compared.
fn long_gaps(name: &str, value: &Value) -> Value {
    let is_long = |gap: &Value| gap.as_u64().is_none_or(|gap| gap >= LEAST_GAP_US);
    match (name, value) {
        ("idle_gaps_us", Value::Array(gaps)) => {
            gaps.iter().filter(|it| is_long(it)).cloned().collect()
        }
        ("idle_max_survived_us", longest) if !is_long(longest) => Value::Null,
        _ => value.clone(),
    }
}

fn object(json: &Value) -> Result<&Map<String, Value>> {
    json.as_object().context("a record is no object")
}

/// How far two values are apart in time; fails if anything else differs.
fn difference(name: &str, one: &Value, other: &Value) -> Result<u64> {
    match (one, other) {
        (Value::Array(ones), Value::Array(others)) => {
            ensure!(ones.len() == others.len(), "{} against {}", ones.len(), others.len());
            let pairs = ones.iter().zip(others).map(|(one, other)| difference(name, one, other));
            Ok(pairs.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0))
        }
        (Value::Object(ones), Value::Object(others)) => {
            ensure!(ones.keys().eq(others.keys()), "other fields");
            let pairs = ones.iter().map(|(name, one)| difference(name, one, &others[name]));
            Ok(pairs.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0))
        }
        (Value::String(one), Value::String(other)) if MOMENTS.contains(&name) => {
            let [one, other] = [moment(one)?, moment(other)?];
            Ok(u64::try_from((one - other).abs() / 1_000)?)
        }
        (Value::Number(one), Value::Number(other)) if name.ends_with("_us") => {
            let [one, other] = [one, other].map(|it| it.as_u64().context("no whole number"));
            Ok(one?.abs_diff(other?))
        }
        _ if one == other => Ok(0),
        _ => bail!("not equal"),
    }
}

/// Nanoseconds since 1970.
fn moment(text: &str) -> Result<i128> {
    let format = &time::format_description::well_known::Rfc3339;
    let moment = time::OffsetDateTime::parse(text, format).with_context(|| format!("{text:?}"))?;
    Ok(moment.unix_timestamp_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Tolerance = Tolerance { micros: 10, without_replies: false };

    fn recording(fields: &str) -> Recording {
        let line = format!(
            r#"{{"kind":"connection","schema":1,"id":"1","src":"10.0.0.1","sport":7,"dst":"10.0.0.2","dport":25,{fields}}}"#
        );
        Recording::parse(&format!("{{\"kind\":\"header\",\"schema\":1}}\n{line}\n")).unwrap()
    }

    fn compare(one: &str, other: &str, tolerance: Tolerance) -> Result<u64> {
        ensure_same(&recording(one), &recording(other), tolerance)
    }

    #[test]
    fn times_may_differ_and_nothing_else() {
        let of = |turns: u32, idle: u32| format!(r#""turns":{turns},"idle_gaps_us":[5,700{idle}]"#);
        assert_eq!(compare(&of(3, 100), &of(3, 107), EXACT).unwrap(), 7);
        assert!(compare(&of(3, 100), &of(3, 111), EXACT).is_err());
        assert!(compare(&of(3, 100), &of(4, 100), EXACT).is_err());
        assert!(
            compare(&of(3, 100), r#""turns":3,"idle_gaps_us":[700100,700100]"#, EXACT).is_err()
        );
        assert!(compare(&of(3, 100), r#""turns":3,"idle_gaps_us":null"#, EXACT).is_err());
    }

    #[test]
    fn moments_are_times() {
        let at = |fraction: &str| format!(r#""start":"2026-01-01T00:00:01.{fraction}Z""#);
        assert_eq!(compare(&at("000000"), &at("000004"), EXACT).unwrap(), 4);
        assert!(compare(&at("000000"), &at("100000"), EXACT).is_err());
    }

    #[test]
    fn owners_differ_in_time_only() {
        let owner =
            |pid: u32, first: u32| format!(r#""owners":[{{"pid":{pid},"first_us":{first}}}]"#);
        assert_eq!(compare(&owner(1, 5), &owner(1, 6), EXACT).unwrap(), 1);
        assert!(compare(&owner(1, 5), &owner(2, 5), EXACT).is_err());
    }

    #[test]
    fn what_was_not_read_must_not_be_told() {
        let blind = Tolerance { without_replies: true, ..EXACT };
        let (all, none) = (r#""tls":"none","turns":1"#, r#""tls":null,"turns":1"#);
        assert_eq!(compare(all, none, blind).unwrap(), 0);
        assert!(compare(all, none, EXACT).is_err());
        let wrong = r#""tls":"implicit","turns":1"#;
        assert!(compare(all, wrong, blind).is_err());
        let [peer, unknown, other] = ["\"peer\"", "null", "\"middlebox\""]
            .map(|suspect| format!(r#""end_suspect":{suspect}"#));
        assert_eq!(compare(&peer, &unknown, blind).unwrap(), 0);
        assert!(compare(&peer, &unknown, EXACT).is_err());
        assert!(compare(&peer, &other, blind).is_err());
    }

    #[test]
    fn connections_must_be_the_same_ones() {
        let mut other = recording(r#""turns":1"#);
        other.connections.clear();
        assert!(ensure_same(&recording(r#""turns":1"#), &other, EXACT).is_err());
    }
}
