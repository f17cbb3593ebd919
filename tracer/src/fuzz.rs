//! What the fuzz targets call. The tests call it with the inputs that are kept of them, in `fuzz/corpus/`.
//!
//! A panic is a finding; so are time and memory beyond the limits of the fuzzer.

use std::{io, time::Duration};

use tracer_analysis::{
    check::{self, Levels, Limits, Scope, Thresholds},
    compare::compare,
    decoder::{self, Event},
    destination::{Fold, GroupBy, SteadyFold},
    recording::Line,
    report::{Intervals, Listed, Report},
};
use tracer_common::record::{
    DECRYPTED_PIECE_BYTES, TURN_BATCH, TurnBatch, WITHOUT_HEADER, direction,
};

use crate::{
    cli::Format,
    input::report_of,
    listen::request::{Hosts, Request},
    recording::{Writer, read_bytes},
    replay::Replay,
    report::{Recordings, exposition},
    sink::{check_text, compare_text, csv, hlog::Log, html, json, openmetrics::Dialect, text},
};

/// Few, so that what is beyond a bound is looked at, too.
const DESTINATIONS: usize = 4;

/// Any bytes as a record of the ring buffer and of the reply buffer.
///
/// # Panics
///
/// If a field is out of its range.
pub fn decoder(bytes: &[u8]) {
    let is_within_bounds = |batch: &TurnBatch| {
        batch.count <= TURN_BATCH && batch.in_use().len() == batch.count as usize
    };
    match decoder::event(bytes) {
        Ok(Event::Closed(state)) => {
            assert!(state.id != 0 && state.direction <= direction::UNKNOWN);
            assert!(is_within_bounds(&state.batch));
        }
        Ok(Event::Turns(batch)) => assert!(is_within_bounds(&batch)),
        Ok(Event::Decrypted(reply)) => {
            assert!(reply.len <= DECRYPTED_PIECE_BYTES);
            assert_eq!(reply.in_use().len(), reply.len as usize);
        }
        Ok(Event::Owner(_) | Event::Opened(_)) | Err(_) => {}
    }
    if let Ok((meta, payload)) = decoder::reply(bytes) {
        let header = if meta.flags & WITHOUT_HEADER == 0 { 20 } else { 0 };
        assert!(payload.len() <= meta.payload as usize);
        assert!(payload.len() + header <= meta.captured as usize);
    }
}

/// Any bytes as the head of a request to the metrics endpoint.
pub fn http_request(bytes: &[u8]) {
    for hosts in [Hosts::Any, Hosts::Loopback] {
        let _ = Request::parse(bytes, hosts);
    }
}

/// Any bytes as a file with a recording, compressed or not.
pub fn compressed(bytes: &[u8]) {
    // A frame header is rarely guessed.
    let frame = [&[0x28, 0xb5, 0x2f, 0xfd], bytes].concat();
    for file in [bytes, &frame] {
        let _ = read_bytes(file, |line| drop(line.to_json()));
    }
}

/// Any bytes as a recording; a report on it is made and written in all formats.
///
/// # Panics
///
/// If a format cannot be written, holds what is not printable, or is not read again.
pub fn report(bytes: &[u8]) {
    for by in [GroupBy::Address, GroupBy::Host] {
        let mut fold = Fold::new(DESTINATIONS);
        let mut steady = SteadyFold::new(by, DESTINATIONS);
        let mut replay = Replay::for_format(Format::Html, DESTINATIONS);
        let intervals = Intervals::new(Duration::from_secs(10), by, DESTINATIONS);
        let mut log = Log::new(io::sink(), intervals, "0.0.0");
        let mut lines = Writer::plain(io::sink());
        let mut recordings = Recordings::default();
        let read = recordings.read_by(
            |each| read_bytes(bytes, each),
            |line| {
                written(lines.line(line));
                match line {
                    Line::Header(header) => log.begin(header.start),
                    Line::Connection(connection) => {
                        fold.add(connection);
                        steady.add(connection, fold.usual_host(connection.dst));
                        written(log.add(connection));
                        if let Some(replay) = &mut replay {
                            replay.add(connection);
                        }
                    }
                    Line::Clock(_) | Line::Trailer(_) => {}
                }
            },
        );
        written(lines.flush());
        let context = recordings.context(true);
        written(log.finish(context.end));
        if read.is_err() {
            continue;
        }
        let metrics = exposition(&steady, by.into(), &context);
        for dialect in [Dialect::OpenMetrics, Dialect::Prometheus] {
            assert_printable(metrics.text(dialect).as_bytes());
        }
        let report = Report::listing(Listed::ALL, &fold, by, context);
        let what_if = replay.map(|replay| replay.answer(&report));
        let options = html::HtmlOptions { top: DESTINATIONS };
        written(html::write(&report, what_if.as_ref(), &mut io::sink(), &options));
        let mut out = Vec::new();
        written(text::write(&report, &mut out, &text::TextOptions { top: DESTINATIONS }));
        written(csv::write(&report, &mut out));
        assert_printable(&out);
        of_report(&report);
        let mut document = Vec::new();
        written(json::write(&report, &mut document));
        let again = report_of(&document);
        assert!(matches!(again, Ok(Some(_))), "what was written is not read: {again:?}");
    }
}

/// Any bytes as a saved report that is compared and checked.
///
/// # Panics
///
/// If one of these holds what is not printable.
pub fn document(bytes: &[u8]) {
    let Ok(Some(report)) = report_of(bytes) else { return };
    of_report(&report);
}

/// What is made of a report, wherever it comes from; the other forms are made of recordings only.
fn of_report(report: &Report) {
    let mut out = Vec::new();
    if let Ok(comparison) = compare(report, report, DESTINATIONS) {
        written(compare_text::write(&comparison, &mut out, true));
        written(json::write(&comparison, &mut io::sink()));
    }
    let levels = Levels { warning: Some(0.5), critical: 0.1 };
    let thresholds = Thresholds {
        min_reuse: Some(levels),
        max_dead_on_reuse: Some(Limits::Share(levels)),
        max_greeting_p99_us: Some(Levels { warning: None, critical: 1_000 }),
        fail_on: None,
    };
    for scope in [Scope::Total, Scope::Each(1), Scope::One("192.0.2.1".into())] {
        if let Ok(found) = check::check(report, &thresholds, &scope) {
            written(check_text::write(&found, &mut out));
        }
    }
    assert_printable(&out);
}

/// Memory takes everything.
fn written(result: io::Result<()>) {
    if let Err(error) = result {
        panic!("what goes to memory was not written: {error}");
    }
}

fn assert_printable(text: &[u8]) {
    let odd = text.iter().find(|byte| !matches!(byte, b'\n' | b' '..=b'~'));
    assert_eq!(odd, None, "{}", String::from_utf8_lossy(text));
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn inputs_that_are_kept() {
        let targets = [
            ("compressed", compressed as fn(&[u8])),
            ("decoder", decoder),
            ("document", document),
            ("http_request", http_request),
            ("report", report),
        ];
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in targets {
            let files: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().flatten().collect();
            assert!(!files.is_empty(), "{name}");
            for file in files {
                target(&fs::read(file.path()).unwrap());
            }
        }
    }
}
