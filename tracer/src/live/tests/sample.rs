//! A trace for tests: what has ended, what is open, and a look at it.

use std::{rc::Rc, time::Duration};

use bytemuck::Zeroable as _;
use tracer_analysis::{
    connection::{Clock, Connection, Context, EndCause, Table, TurnSpan, TurnSpans},
    destination::{Fold, GroupBy},
    recording::Trust,
    report::{Context as ReportContext, Report},
    utc::Utc,
};
use tracer_common::record::{ConnectionState, Turn, TurnBatch, direction};

use crate::live::{
    rates::Rates,
    recent::Recent,
    snapshot::{Snapshot, Source, Title},
    state::{State, View},
    theme::Theme,
};

const START: &str = "2026-11-22T03:00:00Z";

/// Nanoseconds of the kernel's clock at [`START`].
const START_NS: u64 = 1_000_000_000_000;

/// A message to `dst`, `number` seconds after the start.
pub(in crate::live) fn connection(number: u64, dst: &str) -> Connection {
    let line = serde_json::json!({
        "schema": 1, "id": format!("{number:016x}"), "host": "mx1.example.net", "start": START,
        "seen_from": "connect", "family": if dst.contains(':') { "ipv6" } else { "ipv4" },
        "src": "192.0.2.200", "sport": 40_000, "dst": dst, "dport": 25, "pid": 77, "comm": "smtp",
        "owners": [{"pid": 77, "comm": "smtp", "first_us": 0}],
        "transactions": 1, "transactions_method": "replies", "transactions_exact": true,
        "end_cause": "local_fin", "connect_us": 18_400, "banner_us": 31_000 + number * 900,
        "greeting_us": 32_000, "banner_code": 220, "lifetime_us": 2_500_000, "bytes_sent": 48_200,
        "bytes_received": 1_311, "retransmits": 0, "turns": 6, "end_during": "idle",
        "end_idle_us": 60_000,
    });
    let connection: Connection = serde_json::from_value(line).unwrap();
    Connection { start: connection.start.plus_micros(number * 1_000_000), ..connection }
}

fn failed(number: u64, dst: &str) -> Connection {
    Connection {
        connect_us: None,
        banner_us: None,
        greeting_us: None,
        banner_code: None,
        transactions: None,
        connect_error: Some("ECONNREFUSED".to_owned()),
        end_cause: EndCause::ConnectError,
        lifetime_us: Some(130),
        ..connection(number, dst)
    }
}

fn refused(number: u64, dst: &str) -> Connection {
    let refusal = serde_json::json!([{"at_us": 31_000, "code": 421, "enhanced": "4.7.0",
        "during": "greeting"}]);
    let refusals = serde_json::from_value(refusal).ok();
    let (banner_code, transactions) = (Some(421), Some(0));
    Connection { banner_code, refusals, transactions, ..connection(number, dst) }
}

/// A connection that is open since `second`, and has said EHLO.
pub(in crate::live) fn open(id: u64, dst: [u8; 4], second: u64) -> ConnectionState {
    let start_ns = START_NS + second * 1_000_000_000;
    let mut address = [0; 16];
    address[10] = 0xff;
    address[11] = 0xff;
    address[12..].copy_from_slice(&dst);
    let mut comm = [0; 16];
    comm[..4].copy_from_slice(b"smtp");
    ConnectionState {
        id,
        start_ns,
        established_ns: start_ns + 20_000_000,
        first_byte_ns: start_ns + 60_000_000,
        last_data_ns: start_ns + 2_000_000_000,
        dst: address,
        batch: TurnBatch { comm, ..TurnBatch::zeroed() },
        pid: 77,
        sport: 40_001,
        dport: 25,
        turns: 1,
        direction: direction::SERVER,
        current: Turn {
            start_ns: start_ns + 1_000_000_000,
            first_byte_ns: start_ns + 1_040_000_000,
            last_ns: start_ns + 2_000_000_000,
            client_bytes: 18,
            server_bytes: 120,
            ..Turn::zeroed()
        },
        ..ConnectionState::zeroed()
    }
}

/// A trace of 65 seconds, with an interval of 10 s.
pub(in crate::live) struct Sample {
    pub(in crate::live) fold: Fold,
    pub(in crate::live) rates: Rates,
    pub(in crate::live) recent: Recent,
    pub(in crate::live) table: Table,
    pub(in crate::live) held: Vec<ConnectionState>,
    pub(in crate::live) trust: Trust,
    pub(in crate::live) second: u64,
    pub(in crate::live) by: GroupBy,
}

impl Sample {
    pub(in crate::live) fn empty() -> Self {
        let start = Utc::parse(START).unwrap();
        let utc_minus_boot_ns = i128::from(start.micros()) * 1_000 - i128::from(START_NS);
        let context = Context { host: "mx1".to_owned(), clock: Clock { utc_minus_boot_ns } };
        let mut table = Table::new(context, 100);
        table.keep_turns();
        Self {
            fold: Fold::new(100),
            rates: Rates::new(start, Duration::from_secs(10), 100),
            recent: Recent::default(),
            table,
            held: Vec::new(),
            trust: Trust { connections_lost: Some(0), ..Trust::default() },
            second: 65,
            by: GroupBy::Address,
        }
    }

    /// 23 messages to one server, five connections that another one refused, three connects that failed,
    /// and two connections that are open, one of them to a server where none has ended.
    pub(in crate::live) fn usual() -> Self {
        let mut sample = Self::empty();
        let served = (0..23).map(|at| connection(at * 2, "192.0.2.25"));
        let refused = (50..55).map(|at| refused(at, "198.51.100.7"));
        let failed = (20..23).map(|at| failed(at, "2001:db8::25"));
        served.chain(refused).chain(failed).for_each(|it| sample.add(&it));
        sample.held = vec![open(1_001, [192, 0, 2, 25], 51), open(1_002, [203, 0, 113, 9], 63)];
        sample
    }

    pub(in crate::live) fn add(&mut self, connection: &Connection) {
        self.fold.add(connection);
        self.rates.ended(connection);
        self.recent.add(connection);
        let span = |start_us| TurnSpan {
            start_us,
            answer_us: Some(start_us + 31_000),
            end_us: start_us + 40_000,
            client_bytes: 120,
            server_bytes: 64,
        };
        let spans = vec![span(120_000), span(250_000), span(2_400_000)];
        self.recent.turns(&connection.id, TurnSpans { spans, omitted: 0 });
    }

    pub(in crate::live) fn report(&self) -> Rc<Report> {
        let start = Utc::parse(START).unwrap();
        let context = ReportContext {
            hosts: vec!["mx1".to_owned()],
            version: "0.1.0".to_owned(),
            start,
            end: start.plus_micros(self.second * 1_000_000),
            filters: None,
            trust: self.trust.clone(),
            hdr: false,
        };
        Rc::new(Report::new(&self.fold, self.by, context))
    }

    pub(in crate::live) fn source<'a>(&'a self, report: &'a Rc<Report>) -> Source<'a> {
        let now_ns = START_NS + self.second * 1_000_000_000;
        Source {
            now: self.table.utc(now_ns),
            now_ns,
            started: Utc::parse(START).unwrap(),
            by: self.by.into(),
            report,
            fold: &self.fold,
            table: &self.table,
            held: &self.held,
            held_all: true,
            rates: &self.rates,
            recent: &self.recent,
            own_cpu_us: Some(65_000),
            notice: None,
        }
    }

    pub(in crate::live) fn snapshot(&self) -> Snapshot {
        self.source(&self.report()).snapshot()
    }

    /// What a screen of this size shows of it.
    pub(in crate::live) fn state(&self, size: (u16, u16)) -> State {
        let title = Title {
            host: "mx1".to_owned(),
            ports: "25".to_owned(),
            group_by: self.by,
            interval: "10 s".to_owned(),
            hooks_missing: 0,
        };
        let mut state = State::new(title, Theme { colour: true, unicode: false }, size);
        state.snapshot = Some(self.snapshot());
        state
    }

    /// Gives the state what its view needs, as the next look at the trace does.
    pub(in crate::live) fn look(&self, state: &mut State) {
        let report = self.report();
        let source = self.source(&report);
        let mut snapshot = source.snapshot();
        snapshot.detail = state.wanted().map(|key| source.detail(key));
        snapshot.connection = state.wanted_connection().and_then(|id| source.connection(id));
        assert_eq!(snapshot.detail.is_some(), state.view != View::Destinations);
        state.snapshot = Some(snapshot);
    }
}
