//! What one connection costs in user space, from the bytes of the kernel to the fold, and from a line of a
//! recording: `cargo bench -p tracer-analysis --bench records`.

#![allow(clippy::expect_used, reason = "a bench fails by panicking")]

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use tracer_analysis::{
    connection::{Clock, Connection, Context, Table},
    decoder::{self, Event},
    destination::Fold,
    recording::Line,
};
use tracer_common::record::{ConnectionState, Turn, direction, kind};

const RECORDING: &str = include_str!("../../tests/testdata/recordings/mx2.jsonl");
const MILLISECOND: u64 = 1_000_000;

/// The record of a connection with one message in cleartext, as the kernel side hands it over.
fn closed() -> Vec<u8> {
    let mut state: ConnectionState = bytemuck::Zeroable::zeroed();
    state.kind = kind::CLOSED;
    state.id = 1 << 12;
    state.start_ns = 1_000 * MILLISECOND;
    state.established_ns = state.start_ns + MILLISECOND;
    state.first_byte_ns = state.start_ns + 2 * MILLISECOND;
    state.dst = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 25];
    state.src = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
    (state.sport, state.dport) = (40_000, 25);
    state.direction = direction::SERVER;
    state.batch.kind = kind::TURNS;
    state.batch.id = state.id;
    for (turn, at) in state.batch.turns.iter_mut().take(5).zip(3_u64..) {
        let start_ns = state.start_ns + at * MILLISECOND;
        let last_ns = start_ns + MILLISECOND / 2;
        *turn = Turn {
            start_ns,
            first_byte_ns: last_ns,
            last_write_ns: start_ns,
            last_ns,
            client_bytes: 40,
            server_bytes: 30,
        };
    }
    (state.batch.count, state.turns) = (5, 5);
    state.local_fin_ns = state.start_ns + 9 * MILLISECOND;
    state.closed_ns = state.start_ns + 10 * MILLISECOND;
    state.last_data_ns = state.local_fin_ns;
    bytemuck::bytes_of(&state).to_vec()
}

fn lines() -> Vec<&'static str> {
    let is_connection = |line: &&str| matches!(Line::parse(line), Ok(Line::Connection(_)));
    RECORDING.lines().filter(is_connection).collect()
}

fn connections(lines: &[&str]) -> Vec<Connection> {
    let connection = |line: &&str| match Line::parse(line) {
        Ok(Line::Connection(connection)) => Some(*connection),
        _ => None,
    };
    lines.iter().filter_map(connection).collect()
}

fn table() -> Table {
    let clock = Clock { utc_minus_boot_ns: 1_700_000_000_000_000_000 };
    Table::new(Context { host: "mx1.test".into(), clock }, 1_000)
}

fn records(criterion: &mut Criterion) {
    let bytes = closed();
    let event = decoder::event(&bytes).expect("the record is well formed");
    let lines = lines();
    let connections = connections(&lines);
    assert!(matches!(event, Event::Closed(_)) && connections.len() == lines.len());
    assert!(lines.len() > 10, "a recording to read");

    let mut group = criterion.benchmark_group("records");
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |bencher| bencher.iter(|| decoder::event(black_box(&bytes))));
    group.bench_function("decode and assemble", |bencher| {
        let mut table = table();
        bencher.iter(|| decoder::event(black_box(&bytes)).map(|event| table.event(&event)));
    });
    group.throughput(Throughput::Elements(lines.len() as u64));
    group.bench_function("fold", |bencher| {
        let mut fold = Fold::new(100);
        bencher.iter(|| connections.iter().for_each(|it| fold.add(black_box(it))));
    });
    group.bench_function("read from a recording", |bencher| {
        bencher.iter(|| lines.iter().filter(|line| Line::parse(black_box(line)).is_ok()).count());
    });
    group.bench_function("write to a recording", |bencher| {
        let lines: Vec<Line> =
            connections.iter().map(|it| Line::Connection(Box::new(it.clone()))).collect();
        bencher.iter(|| lines.iter().filter(|line| black_box(line).to_json().is_ok()).count());
    });
    group.finish();
}

/// What criterion runs.
mod runs {
    criterion::criterion_group!(benches, super::records);
}

criterion::criterion_main!(runs::benches);
