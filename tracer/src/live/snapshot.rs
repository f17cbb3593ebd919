//! What the live view shows of a trace at one moment.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use tracer_analysis::{
    connection::{Connection, EndCause, Table},
    destination::{Fold, GroupBy, Grouping},
    report::{Destination, Report, TOTAL},
    utc::Utc,
    verdict::{Code, Severity, Verdict},
};
use tracer_common::record::ConnectionState;

use super::{
    rates::{INTERVALS, Interval, Rates},
    recent::{Ended, Recent},
};

/// Connections listed of one destination.
const LISTED: usize = 500;

/// What does not change while the trace runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Title {
    pub(super) host: String,
    pub(super) ports: String,
    pub(super) group_by: GroupBy,
    /// Length of an interval in words.
    pub(super) interval: String,
    /// Hooks that are not attached.
    pub(super) hooks_missing: usize,
}

/// A report that is shared, equal only to itself.
#[derive(Debug, Clone)]
pub(super) struct Shared(pub(super) Rc<Report>);

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

/// One destination, or all.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Row {
    pub(super) key: String,
    /// Its place in the report; `None` if none of its connections has ended.
    pub(super) at: Option<usize>,
    /// Connections that are open now, or being opened.
    pub(super) open: u64,
    /// Connections in all.
    pub(super) connections: u64,
    /// Those opened in the last complete interval.
    pub(super) new: u64,
    /// Those opened in each of the last intervals, the one under way included.
    pub(super) spark: Vec<u64>,
    /// The worst verdict.
    pub(super) worst: Option<(Severity, Code)>,
}

/// A connection in a list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Listed {
    pub(super) id: String,
    pub(super) server: String,
    pub(super) port: Option<u16>,
    pub(super) process: String,
    /// Seconds since the SYN, or until the end.
    pub(super) age_s: u64,
    /// Seconds without data of one that is open.
    pub(super) idle_s: Option<u64>,
    pub(super) turns: u32,
    pub(super) messages: Option<u32>,
    /// How it ended, or what it is at.
    pub(super) state: String,
    pub(super) bad: bool,
}

/// One destination in all detail.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Detail {
    pub(super) key: String,
    /// `None` if none of its connections has ended.
    pub(super) destination: Option<Rc<Destination>>,
    pub(super) verdicts: Vec<Verdict>,
    /// Open ones first, then those that ended, the newest first.
    pub(super) connections: Vec<Listed>,
}

/// Everything that is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Snapshot {
    pub(super) report: Shared,
    /// Seconds since tracing began; whole minutes after the first.
    pub(super) elapsed_s: u64,
    /// In the order of the report, then those that are not in it yet.
    pub(super) rows: Vec<Row>,
    pub(super) all: Row,
    /// Whether all open connections were looked at.
    pub(super) open_exact: bool,
    /// The last complete interval; of the first, what there is.
    pub(super) last: Interval,
    /// Share of a core that smtptrace took, in thousandths.
    pub(super) cpu_permille: Option<u64>,
    /// The last of so many lines for stderr.
    pub(super) notice: Option<(String, usize)>,
    pub(super) detail: Option<Detail>,
    pub(super) connection: Option<Rc<Ended>>,
}

/// Where a snapshot is taken from.
pub(super) struct Source<'a> {
    pub(super) now: Utc,
    pub(super) now_ns: u64,
    pub(super) started: Utc,
    pub(super) by: Grouping,
    pub(super) report: &'a Rc<Report>,
    pub(super) fold: &'a Fold,
    pub(super) table: &'a Table,
    /// Connections that the kernel side holds.
    pub(super) held: &'a [ConnectionState],
    pub(super) held_all: bool,
    pub(super) rates: &'a Rates,
    pub(super) recent: &'a Recent,
    pub(super) own_cpu_us: Option<u64>,
    pub(super) notice: Option<(String, usize)>,
}

impl Source<'_> {
    /// The destinations and the totals.
    pub(super) fn snapshot(&self) -> Snapshot {
        let elapsed_s = self.now.micros_since(self.started) / 1_000_000;
        let current = self.rates.interval(self.now);
        let complete = current.saturating_sub(1);
        let mut rows = self.rows();
        let mut all = Row {
            key: TOTAL.to_owned(),
            connections: self.report.totals.connections,
            spark: self.rates.opened(current),
            ..Row::default()
        };
        for (cell, counts) in self.rates.cells(current) {
            let key = self.fold.key(self.by, cell.0, cell.1.as_deref());
            if let Some(row) = rows.get_mut(&key) {
                add(&mut row.spark, &counts);
            }
        }
        for state in self.open() {
            let mut began = vec![0; INTERVALS];
            let age = current.saturating_sub(self.rates.interval(self.table.utc(state.start_ns)));
            if let Some(at) = usize::try_from(age).ok().and_then(|it| INTERVALS.checked_sub(it + 1))
            {
                began[at] = 1;
            }
            let key = self.key(state);
            let row = rows.entry(key.clone()).or_insert_with(|| Row { key, ..Row::default() });
            for row in [row, &mut all] {
                row.open += 1;
                row.connections += 1;
                add(&mut row.spark, &began);
            }
        }
        let shown = if current == 0 { 1 } else { 2 };
        let last = |row: &Row| row.spark.len().checked_sub(shown).map_or(0, |at| row.spark[at]);
        let mut rows: Vec<Row> = rows.into_values().collect();
        rows.sort_by(|a, b| (a.at.is_none(), a.at, &a.key).cmp(&(b.at.is_none(), b.at, &b.key)));
        rows.iter_mut().chain([&mut all]).for_each(|row| row.new = last(row));
        self.judge(&mut rows, &mut all);
        let new = all.new;
        Snapshot {
            report: Shared(Rc::clone(self.report)),
            elapsed_s: if elapsed_s < 60 { elapsed_s } else { elapsed_s / 60 * 60 },
            rows,
            all,
            open_exact: self.held_all,
            last: Interval { opened: new, ..self.rates.all(complete) },
            cpu_permille: self.own_cpu_us.and_then(|us| us.checked_div(elapsed_s * 1_000)),
            notice: self.notice.clone(),
            detail: None,
            connection: None,
        }
    }

    /// The rows of the report.
    fn rows(&self) -> BTreeMap<String, Row> {
        let rows = self.report.destinations.iter().enumerate().map(|(at, destination)| {
            let key = destination.key.clone();
            let connections = destination.connections;
            let spark = vec![0; INTERVALS];
            (key.clone(), Row { key, at: Some(at), connections, spark, ..Row::default() })
        });
        rows.collect()
    }

    /// Gives each row its worst verdict; they are sorted.
    fn judge(&self, rows: &mut [Row], all: &mut Row) {
        let mut worst = HashMap::new();
        for verdict in &self.report.verdicts {
            let what = (verdict.severity, verdict.code);
            worst.entry(verdict.destination.as_str()).or_insert(what);
        }
        for row in rows.iter_mut().chain([all]) {
            row.worst = worst.get(row.key.as_str()).copied();
        }
    }

    /// Connections that are not dead.
    fn open(&self) -> impl Iterator<Item = &ConnectionState> {
        self.held.iter().filter(|state| state.closed_ns == 0)
    }

    fn key(&self, state: &ConnectionState) -> String {
        let address = std::net::Ipv6Addr::from(state.dst).to_canonical();
        self.fold.key(self.by, address, self.table.greeting_host(state.id))
    }

    /// One destination in all detail.
    pub(super) fn detail(&self, key: &str) -> Detail {
        let destination = Destination::of(self.fold, self.by, key, self.started, self.now);
        let verdicts = self.report.verdicts.iter().filter(|it| it.destination == key);
        Detail {
            key: key.to_owned(),
            destination: destination.filter(|it| it.connections > 0).map(Rc::new),
            verdicts: verdicts.cloned().collect(),
            connections: self.connections(key),
        }
    }

    /// The connections of a destination, as far as they are known.
    pub(super) fn connections(&self, key: &str) -> Vec<Listed> {
        let is_there = |theirs: &str| key == TOTAL || key == theirs;
        let mut open: Vec<_> = self.held.iter().filter(|it| is_there(&self.key(it))).collect();
        open.sort_by_key(|state| std::cmp::Reverse(state.start_ns));
        let open = open.into_iter().map(|state| self.listed(state));
        let ended = self.recent.iter().filter(|ended| {
            let it = &ended.connection;
            is_there(&self.fold.key(self.by, it.dst, it.banner_host.as_deref()))
        });
        open.chain(ended.map(|it| ended_listed(&it.connection))).take(LISTED).collect()
    }

    fn listed(&self, state: &ConnectionState) -> Listed {
        let seconds = |since: u64| self.now_ns.saturating_sub(since) / 1_000_000_000;
        let last = state.last_data_ns.max(state.established_ns).max(state.start_ns);
        let (comm, dead) = (String::from_utf8_lossy(&state.batch.comm), state.closed_ns != 0);
        let now = match state {
            _ if dead => "dead, not closed by its process",
            it if it.established_ns == 0 => "connecting",
            it if it.peer_fin_ns != 0 => "closed by the server, not yet by us",
            it if it.local_fin_ns != 0 => "closing",
            it if it.first_byte_ns == 0 => "waiting for the greeting",
            _ => "open",
        };
        Listed {
            id: format!("{:016x}", state.id),
            server: std::net::Ipv6Addr::from(state.dst).to_canonical().to_string(),
            port: (state.sport != 0).then_some(state.sport),
            process: format!("{}/{}", comm.trim_end_matches('\0'), state.pid),
            age_s: seconds(state.start_ns),
            idle_s: Some(seconds(last)),
            turns: state.turns,
            messages: None,
            state: now.to_owned(),
            bad: dead,
        }
    }

    /// The connection with this id, if it is still known.
    pub(super) fn connection(&self, id: &str) -> Option<Rc<Ended>> {
        let number = u64::from_str_radix(id, 16).ok()?;
        if let Some(state) = self.held.iter().find(|state| state.id == number) {
            let (connection, turns) = self.table.so_far(state, self.now_ns);
            return Some(Rc::new(Ended { connection, turns }));
        }
        self.recent.iter().find(|ended| ended.connection.id == id).map(Rc::clone)
    }
}

fn add(sum: &mut Vec<u64>, counts: &[u64]) {
    sum.resize(counts.len(), 0);
    sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
}

fn ended_listed(it: &Connection) -> Listed {
    let during = it.end_during.map(|during| format!("{during:?}").to_lowercase());
    let how = match (it.end_cause, &it.connect_error) {
        (EndCause::ConnectError, Some(error)) => error.clone(),
        (cause, _) => crate::sink::text::in_words(cause).to_owned(),
    };
    let process = format!(
        "{}/{}",
        it.comm.as_deref().unwrap_or("?"),
        it.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string())
    );
    Listed {
        id: it.id.clone(),
        server: it.dst.to_string(),
        port: it.sport,
        process,
        age_s: it.lifetime_us.unwrap_or(0) / 1_000_000,
        idle_s: None,
        turns: it.turns.unwrap_or(0),
        messages: it.transactions,
        state: during.map_or(how.clone(), |during| format!("{how} ({during})")),
        bad: it.failed() || it.died(),
    }
}
