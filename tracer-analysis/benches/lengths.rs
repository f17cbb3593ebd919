//! What it costs to read one TLS connection: `cargo bench -p tracer-analysis --bench lengths`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use tracer_analysis::dialogue::lengths::{Lengths, Server};
use tracer_common::record::Turn;

const MILLISECOND: u64 = 1_000_000;

/// Bytes of client and server, Postfix to Postfix with TLS 1.3: EHLO, STARTTLS, hello, flight, EHLO.
const OPENING: [(u32, u32); 5] = [(17, 165), (10, 30), (517, 1337), (80, 255), (39, 169)];
/// RSET, envelope, body.
const MESSAGE: [(u32, u32); 3] = [(28, 36), (110, 87), (3_299, 59)];

fn session(messages: usize) -> Vec<Turn> {
    // No RSET before the first.
    let messages = std::iter::repeat_n(MESSAGE, messages).flatten().skip(1);
    let turns = OPENING.into_iter().chain(messages).zip(1_u64..);
    let turn = |((client_bytes, server_bytes), at): ((u32, u32), u64)| {
        let start_ns = at * MILLISECOND;
        let first_byte_ns = start_ns + 1_000;
        Turn {
            start_ns,
            first_byte_ns,
            last_ns: first_byte_ns,
            last_write_ns: start_ns,
            client_bytes,
            server_bytes,
        }
    };
    turns.map(turn).collect()
}

fn infer(turns: &[Turn]) -> Option<u32> {
    let mut lengths = Lengths::new();
    lengths.tls_begins(turns[2].first_byte_ns, &Server::default());
    for turn in turns {
        lengths.turn(turn);
    }
    lengths.finish().transactions
}

fn lengths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lengths");
    for messages in [1_usize, 10, 1_000] {
        let turns = session(messages);
        assert_eq!(infer(&turns), u32::try_from(messages).ok());
        group.throughput(Throughput::Elements(turns.len() as u64));
        let id = BenchmarkId::new("messages", messages);
        group.bench_with_input(id, &turns, |bencher, turns| {
            bencher.iter(|| infer(black_box(turns)));
        });
    }
    group.finish();
}

/// What criterion runs.
mod runs {
    criterion::criterion_group!(benches, super::lengths);
}

criterion::criterion_main!(runs::benches);
