//! Bounds of a line. What smtptrace writes is far below them; a line that is beyond one was not written by it, and
//! would take memory for as long as what was read is kept.

use super::{Filters, Header, HookStatus, Line, Trailer};
use crate::connection::Connection;

/// Bytes of a name that a host, a user or a program chose. The kernel's are of 255 bytes at most; one that is not
/// UTF-8 takes three times as many.
const NAME: usize = 1_024;

/// Bytes of a path, of a message, or of one filter.
const TEXT: usize = 16 << 10;

/// Hooks of a trace: those of the kernel, and one for each TLS library and its functions.
const HOOKS: usize = 1_024;

/// Filters of a kind.
const FILTERS: usize = 65_536;

/// Bytes of all filters together: a command line has less room.
const ALL_FILTERS: usize = 256 << 10;

/// Entries of a list about one connection. Lists of turns and transactions hold 256.
const LIST: usize = 4_096;

impl Line {
    /// Whether it is within all bounds.
    pub(super) fn is_within_bounds(&self) -> bool {
        match self {
            Self::Header(header) => of_header(header),
            Self::Connection(connection) => of_connection(connection),
            Self::Clock(step) => step.host.len() <= NAME,
            Self::Trailer(trailer) => of_trailer(trailer),
        }
    }
}

fn of_header(header: &Header) -> bool {
    let Header { schema: _, version, host, kernel, start: _, hooks, filters } = header;
    [version, host, kernel].iter().all(|it| it.len() <= NAME)
        && of_hooks(hooks)
        && of_filters(filters)
}

fn of_trailer(trailer: &Trailer) -> bool {
    trailer.host.len() <= NAME && of_hooks(&trailer.trust.hooks)
}

fn of_hooks(hooks: &[HookStatus]) -> bool {
    let of_hook = |it: &HookStatus| {
        it.hook.len() <= NAME
            && it.fact.len() <= TEXT
            && is_short(it.program.as_deref(), NAME)
            && is_short(it.reason.as_deref(), TEXT)
    };
    hooks.len() <= HOOKS && hooks.iter().all(of_hook)
}

fn of_filters(filters: &Filters) -> bool {
    let texts = [&filters.dest, &filters.comm, &filters.unit, &filters.container];
    let others = [
        filters.dport.len(),
        filters.pid.len(),
        filters.uid.len(),
        filters.netns.len(),
        filters.cgroup.len(),
    ];
    let bytes: usize =
        texts.into_iter().flatten().map(|text| text.len() + size_of::<String>()).sum();
    bytes <= ALL_FILTERS && others.into_iter().all(|n| n <= FILTERS)
}

fn of_connection(connection: &Connection) -> bool {
    let names = [
        &connection.netns_name,
        &connection.container,
        &connection.unit,
        &connection.comm,
        &connection.connect_error,
        &connection.banner_host,
    ];
    let lists = [
        connection.owners.as_ref().map(Vec::len),
        connection.replies.as_ref().map(std::collections::BTreeMap::len),
        connection.refusals.as_ref().map(Vec::len),
        connection.transaction_spans_us.as_ref().map(Vec::len),
        connection.envelope_us.as_ref().map(Vec::len),
        connection.body_us.as_ref().map(Vec::len),
        connection.final_reply_us.as_ref().map(Vec::len),
        connection.idle_gaps_us.as_ref().map(Vec::len),
    ];
    [&connection.id, &connection.host].iter().all(|it| it.len() <= NAME)
        && names.into_iter().all(|it| is_short(it.as_deref(), NAME))
        && is_short(connection.cgroup_path.as_deref(), TEXT)
        && lists.into_iter().flatten().all(|len| len <= LIST)
        && connection.owners.iter().flatten().all(|owner| owner.comm.len() <= NAME)
}

fn is_short(text: Option<&str>, most: usize) -> bool {
    text.is_none_or(|text| text.len() <= most)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::recording::{Line, LineError};

    fn read(kind: &str, changes: Value) -> Result<Line, LineError> {
        let hook = json!({
            "hook": "h", "fact": "f", "state": "attached", "program": null, "reason": null,
        });
        let mut line = match kind {
            "header" => json!({
                "kind": kind, "schema": 1, "version": "1", "host": "mx", "kernel": "6",
                "start": "2026-11-22T00:00:00Z", "hooks": [hook], "filters": {},
            }),
            _ => json!({
                "kind": kind, "schema": 1, "id": "1", "host": "mx", "start": "2026-11-22T00:00:00Z",
                "seen_from": "connect", "family": "ipv4", "src": "192.0.2.1", "dst": "192.0.2.2",
                "dport": 25, "transactions_exact": true, "end_cause": "local_fin",
            }),
        };
        let Value::Object(changes) = changes else { panic!("{changes}") };
        line.as_object_mut().unwrap().extend(changes);
        Line::parse(&line.to_string())
    }

    #[test]
    fn what_would_take_memory_for_good_is_not_read() {
        let long = "x".repeat(20_000);
        for (kind, ordinary, hostile) in [
            ("header", json!({ "host": "mx.example" }), json!({ "host": long })),
            ("header", json!({ "version": "1.2.3-rc.1" }), json!({ "version": long })),
            (
                "header",
                json!({ "filters": { "dest": vec!["192.0.2.0/24"; 1_000] } }),
                json!({ "filters": { "dest": vec![""; 100_000] } }),
            ),
            (
                "header",
                json!({ "filters": { "pid": vec![1; 1_000] } }),
                json!({ "filters": { "pid": vec![1; 100_000] } }),
            ),
            ("connection", json!({ "comm": "smtp" }), json!({ "comm": long })),
            ("connection", json!({ "unit": "x".repeat(255) }), json!({ "unit": long })),
            (
                "connection",
                json!({ "cgroup_path": "x".repeat(4_096) }),
                json!({ "cgroup_path": long }),
            ),
            (
                "connection",
                json!({ "banner_host": "x".repeat(512) }),
                json!({ "banner_host": long }),
            ),
            (
                "connection",
                json!({ "idle_gaps_us": vec![100_000; 256] }),
                json!({ "idle_gaps_us": vec![100_000; 10_000] }),
            ),
        ] {
            assert!(read(kind, ordinary.clone()).is_ok(), "{ordinary}");
            let refused = read(kind, hostile);
            assert!(matches!(refused, Err(LineError::Bounds)), "{ordinary} {refused:?}");
        }
    }
}
