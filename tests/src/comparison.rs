//! Records against a capture of the same connections.

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    flow::{ClosingFlag, Direction, Flow, Nanos},
    pace,
    recording::Record,
};

/// Largest deviation allowed for a single time.
const MAX: Nanos = 5_000_000;
/// Largest deviation of a single time that may come from the machine: a processor was taken away between the
/// hook and the capture. Then the run says nothing, and is made again.
const MAX_DISTURBED: Nanos = 20_000_000;
/// How often a run is made, at most, until one is not disturbed.
const ATTEMPTS: usize = 3;
/// Largest median deviation allowed.
const MAX_MEDIAN: Nanos = 100_000;
/// Fewest connections that have a median. With one or two, a packet that waited for a processor between
/// the hook and the capture decides, which says nothing about the tracer.
const MEDIAN_OF: usize = 10;

/// A record and the captured connection it is about.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// What smtptrace wrote.
    pub record: &'a Record,
    /// What was on the wire.
    pub flow: &'a Flow,
}

/// Pairs each record with its connection: same addresses and ports, nearest in time. Fails if a
/// record or a connection is left over.
pub fn pair<'a>(records: &'a [Record], flows: &'a [Flow]) -> Result<Vec<Pair<'a>>> {
    ensure!(
        records.len() == flows.len(),
        "{} records, but {} connections in the capture",
        records.len(),
        flows.len()
    );
    let mut free: Vec<&Flow> = flows.iter().collect();
    let mut pairs = Vec::with_capacity(records.len());
    for record in records {
        let (client, server, start) = (record.client()?, record.server()?, record.start()?);
        let nearest = (0..free.len())
            .filter(|&index| (free[index].client, free[index].server) == (client, server))
            .min_by_key(|&index| (free[index].syn - start).abs())
            .with_context(|| format!("{client} > {server} is not in the capture"))?;
        pairs.push(Pair { record, flow: free.swap_remove(nearest) });
    }
    Ok(pairs)
}

/// Deviations of one kind of time, over all connections.
#[derive(Debug, Default)]
struct Deviations(Vec<Nanos>);

impl Deviations {
    fn ensure_small(mut self, what: &str) -> Result<Times> {
        self.0.iter_mut().for_each(|deviation| *deviation = deviation.abs());
        self.0.sort_unstable();
        let max = *self.0.last().with_context(|| format!("{what}: nothing was compared"))?;
        let median = self.0[self.0.len() / 2];
        println!("{what}: n={} median={median} ns, max={max} ns", self.0.len());
        let most = pace::wider(MAX_DISTURBED);
        ensure!(max <= most, "{what}: {max} ns off the capture: {:?}", self.0);
        ensure!(
            self.0.len() < MEDIAN_OF || median < pace::wider(MAX_MEDIAN),
            "{what}: median {median} ns off the capture: {:?}",
            self.0
        );
        Ok(if max <= pace::wider(MAX) { Times::Agree } else { Times::Disturbed })
    }
}

/// What the times of a run say; nothing more than 20 ms off the capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Times {
    /// All are within 5 ms of the capture.
    Agree,
    /// One is more than that off.
    Disturbed,
}

/// Makes a run until its times agree with the capture, or with whatever they are compared with; three times at most.
/// Returns what it gave.
pub fn undisturbed<T>(mut run: impl FnMut() -> Result<(Times, T)>) -> Result<T> {
    for _ in 0..ATTEMPTS {
        if let (Times::Agree, done) = run()? {
            return Ok(done);
        }
    }
    bail!("in each of {ATTEMPTS} runs the machine disturbed a time")
}

/// Compares start, connect time, time to the greeting's first byte, begin of a close by the server and end of
/// every established connection with the capture. Fails if one is more than 20 ms off, or the median of ten or more is 0.1 ms off.
pub fn compare_times(pairs: &[Pair<'_>]) -> Result<Times> {
    let (mut start, mut connect, mut banner, mut closed, mut end) = (
        Deviations::default(),
        Deviations::default(),
        Deviations::default(),
        Deviations::default(),
        Deviations::default(),
    );
    for Pair { record, flow } in pairs {
        let established = flow.established.context("no SYN-ACK in the capture")?;
        start.0.push(record.start()? - flow.syn);
        connect.0.push(micros(record, "connect_us")? - (established - flow.syn));
        if let Some(first) = flow.first_received {
            banner.0.push(micros(record, "banner_us")? - (first - established));
        }
        let by_server = flow.closings.first().filter(|it| it.direction == Direction::FromServer);
        if let Some(closing) = by_server {
            closed.0.push(micros(record, "end_began_us")? - (closing.at - flow.syn));
        }
        let last = flow.end().with_context(|| format!("no end in the capture: {flow:?}"))?;
        end.0.push(record.end()? - last);
    }
    let mut times = vec![start.ensure_small("start")?, connect.ensure_small("connect_us")?];
    if !banner.0.is_empty() {
        times.push(banner.ensure_small("banner_us")?);
    }
    if !closed.0.is_empty() {
        times.push(closed.ensure_small("end_began_us")?);
    }
    times.push(end.ensure_small("end")?);
    Ok(if times.contains(&Times::Disturbed) { Times::Disturbed } else { Times::Agree })
}

/// Compares one time of `record` with the same one in the capture. Fails if it is more than 20 ms off.
pub fn compare_time(record: &Record, field: &str, captured: Option<Nanos>) -> Result<Times> {
    let captured = captured.with_context(|| format!("{field} is not in the capture"))?;
    Deviations(vec![micros(record, field)? - captured]).ensure_small(field)
}

impl Times {
    /// Those of two comparisons.
    pub fn and(self, other: Self) -> Self {
        if self == Self::Agree { other } else { self }
    }
}

fn micros(record: &Record, field: &str) -> Result<Nanos> {
    Ok(Nanos::try_from(record.known(field)?)? * 1_000)
}

/// Fails unless the byte counters agree with the capture.
///
/// What the client had not acknowledged when it closed may be counted by the kernel or not: a segment
/// that finds the socket locked by the close waits, and is then refused.
pub fn ensure_bytes_agree(pair: Pair<'_>) -> Result<()> {
    let Pair { record, flow } = pair;
    let (sent, received) = (record.known("bytes_sent")?, record.known("bytes_received")?);
    ensure!(
        sent == flow.sent.total,
        "bytes_sent {sent}, captured {}: {} {flow:?}",
        flow.sent.total,
        record.json()
    );
    ensure!(
        (flow.received_before_close..=flow.received.unique).contains(&received),
        "bytes_received {received}, captured {} to {}: {} {flow:?}",
        flow.received_before_close,
        flow.received.unique,
        record.json()
    );
    Ok(())
}

/// `end_cause` that the flags in the capture call for, for a connection that was established.
pub fn expected_cause(flow: &Flow) -> Result<&'static str> {
    let client_fin = flow.closings.iter().any(|closing| {
        (closing.direction, closing.flag) == (Direction::FromClient, ClosingFlag::Fin)
    });
    match flow.first_closing() {
        Some((Direction::FromClient, ClosingFlag::Fin)) => Ok("local_fin"),
        // The two FINs crossed: the client closed before it had seen the server's.
        Some((Direction::FromServer, ClosingFlag::Fin))
            if client_fin && !flow.client_fin_is_answer =>
        {
            Ok("local_fin")
        }
        Some((Direction::FromServer, ClosingFlag::Fin)) => Ok("peer_fin"),
        Some((Direction::FromServer, ClosingFlag::Rst)) => Ok("rst_received"),
        Some((Direction::FromClient, ClosingFlag::Rst)) => Ok("rst_sent"),
        None => bail!("neither FIN nor RST in the capture: {flow:?}"),
    }
}

/// Whether the client sent a reset just after the server's had come: its socket was closing already, because one that
/// has received a reset sends none.
fn resets_crossed(flow: &Flow) -> bool {
    const CROSSING: Nanos = 1_000_000;
    let [first, second, ..] = &flow.closings[..] else { return false };
    let both = first.flag == ClosingFlag::Rst && second.flag == ClosingFlag::Rst;
    let in_order =
        (first.direction, second.direction) == (Direction::FromServer, Direction::FromClient);
    both && in_order && second.at - first.at < CROSSING
}

/// Fails unless `end_cause` agrees with the first FIN or reset in the capture.
pub fn ensure_cause_agrees(pair: Pair<'_>) -> Result<()> {
    let expected = expected_cause(pair.flow)?;
    let cause = pair.record.text("end_cause")?;
    ensure!(
        cause == Some(expected) || cause == Some("rst_sent") && resets_crossed(pair.flow),
        "end_cause {cause:?}, the capture says {expected}: {} {:?}",
        pair.record.json(),
        pair.flow.closings
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::{capture, flow::Closing, recording::Recording};

    fn flows(name: &str) -> Vec<Flow> {
        capture::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)).unwrap()
    }

    /// The record that a perfect tracer would write of `flow`, `late` nanoseconds late.
    fn record(flow: &Flow, late: Nanos, cause: &str) -> Record {
        let start = i128::from(flow.syn + late);
        let start = time::OffsetDateTime::from_unix_timestamp_nanos(start).unwrap();
        let micros = |from: Nanos, to: Nanos| (to - from) / 1_000;
        let established = flow.established.unwrap();
        let line = json!({
            "kind": "connection", "schema": 1,
            "start": start.format(&time::format_description::well_known::Rfc3339).unwrap(),
            "src": flow.client.ip(), "sport": flow.client.port(),
            "dst": flow.server.ip(), "dport": flow.server.port(),
            "connect_us": micros(flow.syn, established),
            "banner_us": micros(established, flow.first_received.unwrap()),
            "lifetime_us": micros(flow.syn, flow.end().unwrap()),
            "end_began_us": micros(flow.syn, flow.closings[0].at),
            "bytes_sent": flow.sent.total, "bytes_received": flow.received.unique,
            "end_cause": cause,
        });
        let text = format!("{{\"kind\":\"header\",\"schema\":1}}\n{line}\n");
        Recording::parse(&text).unwrap().connections.remove(0)
    }

    #[test]
    fn a_true_record_agrees_and_a_false_one_does_not() {
        let flows = flows("reset-on-reuse.pcap");
        let flow = &flows[0];
        let good = [record(flow, 0, "rst_received")];
        let pairs = pair(&good, &flows).unwrap();
        assert_eq!(compare_times(&pairs).unwrap(), Times::Agree);
        ensure_bytes_agree(pairs[0]).unwrap();
        ensure_cause_agrees(pairs[0]).unwrap();

        // As a median 0.2 ms is too much.
        let late = record(flow, 200_000, "peer_fin");
        let pair = Pair { record: &late, flow };
        assert!(compare_times(&[pair; MEDIAN_OF]).is_err());
        assert!(ensure_cause_agrees(pair).is_err());
        // Of a few it is not, but 6 ms are not agreement, and 21 ms no disturbance.
        let [right] = &good;
        let right = Pair { record: right, flow };
        let with_one = |late| {
            let late = record(flow, late, "rst_received");
            compare_times(&[right, right, Pair { record: &late, flow }])
        };
        assert_eq!(compare_times(&[right, right, pair]).unwrap(), Times::Agree);
        assert_eq!(with_one(4_900_000).unwrap(), Times::Agree);
        assert_eq!(with_one(6_000_000).unwrap(), Times::Disturbed);
        assert!(with_one(21_000_000).is_err());

        // A reset of ours just after the server's was under way already; one much later was not.
        let sent = record(flow, 0, "rst_sent");
        assert!(ensure_cause_agrees(Pair { record: &sent, flow }).is_err());
        for (later, agrees) in [(5_000, true), (50_000_000, false)] {
            let mut crossed = flow.clone();
            let reset = crossed.closings[0];
            let (at, direction) = (reset.at + later, Direction::FromClient);
            crossed.closings.push(Closing { at, direction, ..reset });
            let pair = Pair { record: &sent, flow: &crossed };
            assert_eq!(ensure_cause_agrees(pair).is_ok(), agrees);
        }

        let mut more = flow.clone();
        more.sent.total += 1;
        assert!(ensure_bytes_agree(Pair { flow: &more, ..right }).is_err());
        let mut less = flow.clone();
        less.received.unique -= 1;
        assert!(ensure_bytes_agree(Pair { flow: &less, ..right }).is_err());
    }

    #[test]
    fn a_disturbed_run_is_made_again_and_not_for_ever() {
        let disturbed = |most: usize| {
            let mut runs = 0;
            undisturbed(|| {
                runs += 1;
                Ok((if runs > most { Times::Agree } else { Times::Disturbed }, runs))
            })
        };
        assert_eq!(disturbed(0).unwrap(), 1);
        assert_eq!(disturbed(ATTEMPTS - 1).unwrap(), ATTEMPTS);
        assert!(disturbed(ATTEMPTS).is_err());
    }

    #[test]
    fn nobody_is_left_over() {
        let flows = flows("reset-on-reuse.pcap");
        let record = record(&flows[0], 0, "rst_received");
        assert!(pair(&[], &flows).is_err());
        assert!(pair(std::slice::from_ref(&record), &[]).is_err());
        let mut other = flows.clone();
        other[0].client.set_port(1);
        assert!(pair(&[record], &other).is_err());
    }

    #[test]
    fn causes_follow_the_flags() {
        let cause = |name: &str, index: usize| expected_cause(&flows(name)[index]).unwrap();
        assert_eq!(cause("reset-on-reuse.pcap", 0), "rst_received");
        assert_eq!(cause("server-idle-timeout.pcap", 0), "peer_fin");
        assert_eq!(cause("ipv6-syn-drop.pcap", 1), "local_fin");
        assert!(expected_cause(&flows("silent-drop.pcap")[0]).is_err());
    }
}
