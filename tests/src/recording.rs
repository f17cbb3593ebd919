//! Recordings, read as plain JSON: the schema is tested here, not shared.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{attempt, flow::Nanos, pace};

/// The hook that counts changes of state at which no program ran.
const UNSEEN_BY: &str = "inet_sock_set_state";

/// One `connection` line.
#[derive(Debug, Clone)]
pub struct Record {
    json: Value,
}

impl Record {
    /// The whole line, for messages.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// A field; it must be there, though it may be `null`.
    pub fn field(&self, name: &str) -> Result<&Value> {
        self.json.get(name).with_context(|| format!("no field {name} in {}", self.json))
    }

    /// A number; `None` for `null`.
    pub fn number(&self, name: &str) -> Result<Option<u64>> {
        match self.field(name)? {
            Value::Null => Ok(None),
            value => {
                let number = value.as_u64().with_context(|| format!("{name} in {}", self.json))?;
                Ok(Some(number))
            }
        }
    }

    /// A number that must be known.
    pub fn known(&self, name: &str) -> Result<u64> {
        self.number(name)?.with_context(|| format!("{name} is null in {}", self.json))
    }

    /// A text; `None` for `null`.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.field(name)? {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            _ => bail!("{name} is not a text in {}", self.json),
        }
    }

    /// Fails if the field says something else than `expected`; `null` (unknown) is no lie.
    pub fn ensure_right_or_unknown(&self, name: &str, expected: impl Into<Value>) -> Result<()> {
        let (value, expected) = (self.field(name)?, expected.into());
        ensure!(
            value.is_null() || *value == expected,
            "{name} is {value}, expected {expected}: {}",
            self.json
        );
        Ok(())
    }

    /// Fails unless `end_cause`, `end_during` and `end_suspect` are these.
    pub fn ensure_ending(&self, expected: [Option<&str>; 3]) -> Result<()> {
        for (name, expected) in ["end_cause", "end_during", "end_suspect"].into_iter().zip(expected)
        {
            let value = self.text(name)?;
            ensure!(value == expected, "{name} is {value:?}, expected {expected:?}: {}", self.json);
        }
        Ok(())
    }

    /// Fails unless a field in microseconds is known and within a tenth of a second of what was captured, more on a
    /// slow machine. What a thread meant to do is nothing to compare with: it may have had to wait for a processor.
    pub fn ensure_as_captured(&self, name: &str, captured: Option<Nanos>) -> Result<()> {
        let captured = captured.with_context(|| format!("{name} is not in the capture"))?;
        self.ensure_near(name, Duration::from_nanos(captured.try_into()?))
    }

    /// Fails unless a field in microseconds is known and within a tenth of a second of `expected`, more on a slow machine.
    pub fn ensure_near(&self, name: &str, expected: Duration) -> Result<()> {
        let value = Duration::from_micros(self.known(name)?);
        ensure!(
            value.abs_diff(expected) < pace::stretched(Duration::from_millis(100)),
            "{name} is {value:?}, expected {expected:?}: {}",
            self.json
        );
        Ok(())
    }

    /// `start`.
    pub fn start(&self) -> Result<Nanos> {
        let text = self.text("start")?.context("start is null")?;
        let moment = OffsetDateTime::parse(text, &Rfc3339)
            .with_context(|| format!("start {text:?} is not RFC 3339"))?;
        ensure!(moment.offset().is_utc(), "start {text:?} is not in UTC");
        Ok(Nanos::try_from(moment.unix_timestamp_nanos())?)
    }

    /// `start` plus `lifetime_us`.
    pub fn end(&self) -> Result<Nanos> {
        let lifetime = Nanos::try_from(self.known("lifetime_us")?)?;
        Ok(self.start()? + lifetime * 1_000)
    }

    /// `src` and `sport`.
    pub fn client(&self) -> Result<SocketAddr> {
        self.endpoint("src", "sport")
    }

    /// `dst` and `dport`.
    pub fn server(&self) -> Result<SocketAddr> {
        self.endpoint("dst", "dport")
    }

    /// `owners`: process ids and names, in order.
    pub fn owners(&self) -> Result<Vec<(u64, &str)>> {
        let owners = self.field("owners")?.as_array().context("owners is no array")?;
        let owners = owners.iter().map(|it| Some((it["pid"].as_u64()?, it["comm"].as_str()?)));
        owners
            .collect::<Option<_>>()
            .with_context(|| format!("an owner without pid or comm in {}", self.json))
    }

    fn endpoint(&self, address: &str, port: &str) -> Result<SocketAddr> {
        let text = self.text(address)?.with_context(|| format!("{address} is null"))?;
        let ip = text.parse().with_context(|| format!("{address} is {text:?}"))?;
        Ok(SocketAddr::new(ip, u16::try_from(self.known(port)?)?))
    }
}

/// A recording as it stands in a file.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// First line.
    pub header: Value,
    /// Connections, in the order of the file.
    pub connections: Vec<Record>,
    /// Last line, if tracing ended cleanly.
    pub trailer: Option<Value>,
    /// Where the wall clock was set.
    pub clock_steps: Vec<Value>,
    /// What follows the last line break: a line cut short.
    pub remainder: String,
}

impl Recording {
    /// Reads `file`. Every complete line must be JSON of a known kind, the header first and the
    /// trailer last.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("recording {}", file.display()))
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (lines, remainder) = text.rsplit_once('\n').unwrap_or(("", text));
        let mut recording = Self { remainder: remainder.to_owned(), ..Self::default() };
        for line in lines.lines() {
            ensure!(recording.trailer.is_none(), "a line after the trailer: {line}");
            let json: Value =
                serde_json::from_str(line).with_context(|| format!("line {line:?}"))?;
            let kind = json["kind"].as_str().unwrap_or_default().to_owned();
            ensure!(json["schema"].is_u64(), "a line without a schema number: {line}");
            ensure!(
                recording.header.is_null() == (kind == "header"),
                "a header must be the first line and nowhere else: {line}"
            );
            match kind.as_str() {
                "header" => recording.header = json,
                "connection" => recording.connections.push(Record { json }),
                "clock" => recording.clock_steps.push(json),
                "trailer" => recording.trailer = Some(json),
                _ => bail!("unknown kind: {line}"),
            }
        }
        Ok(recording)
    }

    /// The trailer; fails if tracing did not end cleanly.
    pub fn trailer(&self) -> Result<&Value> {
        self.trailer.as_ref().context("the recording has no trailer")
    }

    /// A counter of the trailer's `trust`; `None` for `null`.
    pub fn trust(&self, counter: &str) -> Result<Option<u64>> {
        match self.trailer()?["trust"].get(counter) {
            None => bail!("the trailer has no trust counter {counter}: {:?}", self.trailer),
            Some(Value::Null) => Ok(None),
            Some(value) => Ok(Some(value.as_u64().context("a trust counter is no number")?)),
        }
    }

    /// What the trailer counts as lost, if all of it is what the kernel did: it ran no program at changes of state, or
    /// skipped so many runs, as it says itself. Any other loss is the tracer's own.
    fn lost_by_kernel(&self, skipped: u64) -> Option<String> {
        let trust = &self.trailer.as_ref()?["trust"];
        let lost = trust["events_lost"].as_u64().filter(|lost| *lost > 0)?;
        let hook = trust["hooks"].as_array()?.iter().find(|it| it["hook"] == UNSEEN_BY)?;
        let unseen = hook["events_lost"].as_u64()?;
        let others = ["map_full", "undecodable", "connections_lost"];
        let nothing_else = others.iter().all(|it| trust[it].as_u64().unwrap_or(0) == 0);
        (nothing_else && lost <= unseen + skipped).then(|| {
            format!(
                "the kernel ran no program at {unseen} changes of state, and skipped {skipped} runs"
            )
        })
    }

    /// Notes a [disturbance](attempt) if all that was lost are runs of programs, of which the kernel skipped `skipped`.
    pub fn note_skipped(&self, skipped: u64) {
        if let Some(reason) = self.lost_by_kernel(skipped) {
            attempt::disturbed(&reason);
        }
    }

    /// Fails unless the trailer says that nothing was lost and counts the lines rightly.
    pub fn ensure_complete(&self) -> Result<()> {
        self.note_skipped(0);
        for counter in ["events_lost", "map_full", "undecodable", "connections_lost"] {
            let count = self.trust(counter)?;
            ensure!(count == Some(0), "{counter} is {count:?}: {:?}", self.trailer);
        }
        let counted = self.trailer()?["connections"].as_u64();
        ensure!(
            counted == Some(self.connections.len() as u64),
            "the trailer counts {counted:?} connections, the file has {}",
            self.connections.len()
        );
        ensure!(self.remainder.is_empty(), "unfinished line {:?}", self.remainder);
        Ok(())
    }

    /// The only connection; fails if there are none or several.
    pub fn single(&self) -> Result<&Record> {
        match self.connections.as_slice() {
            [record] => Ok(record),
            records => {
                let lines: Vec<String> = records.iter().map(|r| r.json.to_string()).collect();
                bail!("expected one connection, got {}:\n{}", records.len(), lines.join("\n"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"kind":"header","schema":1}"#;
    const CONNECTION: &str = r#"{"kind":"connection","schema":1,"start":"2026-01-01T00:00:01.000002Z","lifetime_us":3,"srtt_us":null}"#;
    const TRAILER: &str = r#"{"kind":"trailer","schema":1,"connections":1,"trust":{"events_lost":0,"map_full":0,"undecodable":0,"connections_lost":0}}"#;

    #[test]
    fn reads_lines_and_times() {
        let text = format!("{HEADER}\n{CONNECTION}\n{TRAILER}\n");
        let recording = Recording::parse(&text).unwrap();
        recording.ensure_complete().unwrap();
        let record = recording.single().unwrap();
        assert_eq!(record.start().unwrap() % 1_000_000_000, 2_000);
        assert_eq!(record.end().unwrap() - record.start().unwrap(), 3_000);
        assert_eq!(record.number("srtt_us").unwrap(), None);
        assert!(record.number("no_such_field").is_err());
        record.ensure_right_or_unknown("srtt_us", 7).unwrap();
        record.ensure_right_or_unknown("lifetime_us", 3).unwrap();
        assert!(record.ensure_right_or_unknown("lifetime_us", 4).is_err());
        assert!(record.ensure_right_or_unknown("no_such_field", 4).is_err());
    }

    #[test]
    fn refuses_what_is_out_of_order_or_lost() {
        assert!(Recording::parse(&format!("{CONNECTION}\n{HEADER}\n")).is_err());
        assert!(Recording::parse(&format!("{HEADER}\n{TRAILER}\n{CONNECTION}\n")).is_err());
        assert!(Recording::parse(&format!("{HEADER}\nnot json\n")).is_err());
        let lost = TRAILER.replace("\"events_lost\":0", "\"events_lost\":1");
        let recording = Recording::parse(&format!("{HEADER}\n{CONNECTION}\n{lost}\n")).unwrap();
        assert!(recording.ensure_complete().is_err());
        let missing = Recording::parse(&format!("{HEADER}\n{TRAILER}\n")).unwrap();
        assert!(missing.ensure_complete().is_err());
        assert!(missing.single().is_err());
    }

    #[test]
    fn tells_runs_that_the_kernel_skipped_from_losses_of_the_tracer() {
        let lost = |all: u64, unseen: u64, connections: u64| {
            let trust = format!(
                r#""events_lost":{all},"hooks":[{{"hook":"{UNSEEN_BY}","events_lost":{unseen}}}],"connections_lost":{connections}"#
            );
            let trailer = TRAILER.replace(r#""events_lost":0"#, &trust);
            let trailer = trailer.replace(r#","connections_lost":0}}"#, "}}");
            Recording::parse(&format!("{HEADER}\n{trailer}\n")).unwrap()
        };
        let by_kernel = |recording: Recording, skipped| recording.lost_by_kernel(skipped).is_some();
        assert!(by_kernel(lost(1, 1, 0), 0), "a change of state that no program saw");
        assert!(by_kernel(lost(3, 1, 0), 2), "and runs of other programs that were skipped");
        assert!(!by_kernel(lost(3, 1, 0), 1), "one more than that");
        assert!(!by_kernel(lost(1, 1, 1), 0), "a record");
        assert!(!by_kernel(lost(0, 0, 0), 9), "nothing");
    }

    #[test]
    fn keeps_a_line_cut_short_apart() {
        let recording = Recording::parse(&format!("{HEADER}\n{CONNECTION}\n{{\"kind\"")).unwrap();
        assert_eq!(recording.connections.len(), 1);
        assert_eq!(recording.remainder, "{\"kind\"");
        assert!(recording.trailer().is_err());
    }
}
