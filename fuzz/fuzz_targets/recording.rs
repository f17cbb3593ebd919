//! Any text as lines of a recording: no panic, what is read is written and read again the same, and a
//! report can be made of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_analysis::{
    destination::{Fold, GroupBy},
    recording::{Line, Trust},
    report::{Context, Report},
    utc::Utc,
};

fuzz_target!(|text: &str| {
    let mut fold = Fold::new(4);
    for line in text.lines() {
        let Ok(line) = Line::parse(line) else { continue };
        let written = line.to_json().expect("what was read can be written");
        assert!(!written.contains('\n'));
        assert_eq!(Line::parse(&written).expect("what was written can be read"), line);
        if let Line::Connection(connection) = line {
            fold.add(&connection);
        }
    }
    let context = Context {
        hosts: vec!["mx1".to_owned()],
        version: "0.0.0".to_owned(),
        start: Utc::from_nanos(0),
        end: Utc::from_nanos(3_600_000_000_000),
        filters: None,
        trust: Trust::default(),
        hdr: text.len() % 2 == 0,
    };
    for by in [GroupBy::Address, GroupBy::Host] {
        let report = Report::new(&fold, by, context.clone());
        serde_json::to_string(&report).expect("a report can be written");
    }
});
