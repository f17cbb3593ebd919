//! `--journal`: what a trace finds, as messages in the systemd journal.
//!
//! While tracing: connections that died (warning), that failed, and that were turned away (notice), each
//! kind at most [`limit::Limit::ALL`] times a minute. At the end: the verdicts, by their severity. So
//! `journalctl -u smtptrace -p warning` shows what costs mail. The fields are explained in
//! `docs/journal.md`.

mod limit;
mod protocol;

use std::{path::Path, time::Instant};

use anyhow::Result;
use tracer_analysis::{
    connection::{Connection, EndCause, EndDuring, EndSuspect, Refusal},
    destination::Grouping,
    report::Report,
    verdict::{Severity, Verdict},
};

use crate::sink::{json::word, safe};
use limit::Limit;
use protocol::{Message, Priority, Socket};

pub(crate) use protocol::SOCKET;

/// What a message is about. Each has a `MESSAGE_ID` of its own, which never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An established connection was reset, timed out or got no answer.
    Died,
    /// A connection could not be established.
    Failed,
    /// The server refused the connection in its greeting, or throttled it later.
    TurnedAway,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Died, Self::Failed, Self::TurnedAway];

    const fn id(self) -> &'static str {
        match self {
            Self::Died => "fd2ad8fa2cb2485ab862903567d1365a",
            Self::Failed => "6bf4fedc06144643afe19b41ffd4a0ab",
            Self::TurnedAway => "375ab8767b774625a19a10967f403e7c",
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::Died => "connection_died",
            Self::Failed => "connect_failed",
            Self::TurnedAway => "turned_away",
        }
    }

    const fn priority(self) -> Priority {
        match self {
            Self::Died => Priority::Warning,
            Self::Failed | Self::TurnedAway => Priority::Notice,
        }
    }

    /// What the connection is told as, if it is told.
    fn of(connection: &Connection) -> Option<Self> {
        match connection.end_cause {
            EndCause::Open => None,
            _ if connection.failed() => Some(Self::Failed),
            _ if connection.died() => Some(Self::Died),
            _ => throttling(connection).map(|_| Self::TurnedAway),
        }
    }
}

const VERDICT_ID: &str = "c7ce612a067248408cf7bbebc49cbeff";
const SUPPRESSED_ID: &str = "865c37c927ae469b88903c213677e6b2";

/// Verdicts that are told at the end, the worst.
const VERDICTS: usize = 100;

/// The journal as an outlet of a trace.
#[derive(Debug)]
pub(crate) struct Journal {
    socket: Socket,
    by: Grouping,
    limits: [Limit; Kind::ALL.len()],
}

impl Journal {
    /// Connects to the journal at `socket`. Destinations are called as `by` says.
    pub(crate) fn open(socket: &Path, by: Grouping) -> Result<Self> {
        let now = Instant::now();
        Ok(Self {
            socket: Socket::connect(socket)?,
            by,
            limits: Kind::ALL.map(|_| Limit::new(now)),
        })
    }

    /// Tells of a connection that died, failed or was turned away.
    pub(crate) fn connection(&mut self, connection: &Connection) {
        let Some(kind) = Kind::of(connection) else { return };
        let destination = self.by.key(connection.dst, connection.banner_host.as_deref());
        if self.limits[kind as usize].lets_through(&destination) {
            self.socket.send(&about(connection, kind, &destination));
        }
    }

    /// Says how many messages were held back in the minute that is over, if there were any.
    pub(crate) fn minute(&mut self) {
        self.held_back(Limit::next);
    }

    /// Tells the verdicts, and what was held back. Returns how many messages the journal did not take.
    pub(crate) fn finish(mut self, report: &Report) -> u64 {
        self.socket.wait();
        self.held_back(Limit::end);
        for verdict in report.verdicts.iter().take(VERDICTS) {
            self.socket.send(&told(verdict));
        }
        let rest = report.verdicts.len().saturating_sub(VERDICTS);
        if rest > 0 {
            let text = format!("{rest} more verdicts, none worse; smtptrace report has them");
            self.socket.send(
                &Message::new(Priority::Notice, SUPPRESSED_ID, &text)
                    .field("SMTPTRACE_SUPPRESSED", &rest.to_string()),
            );
        }
        self.socket.refused()
    }

    fn held_back(&mut self, take: impl Fn(&mut Limit, Instant) -> u64) {
        let now = Instant::now();
        for kind in Kind::ALL {
            let count = take(&mut self.limits[kind as usize], now);
            if count > 0 {
                self.socket.send(&suppressed(kind, count));
            }
        }
    }
}

fn suppressed(kind: Kind, count: u64) -> Message {
    let text = format!("{count} more of {} in the last minute, not told one by one", kind.code());
    Message::new(kind.priority(), SUPPRESSED_ID, &text)
        .field("SMTPTRACE_CODE", kind.code())
        .field("SMTPTRACE_SUPPRESSED", &count.to_string())
}

/// The first refusal that is throttling.
fn throttling(connection: &Connection) -> Option<&Refusal> {
    connection.refusals.iter().flatten().find(|refusal| refusal.is_throttling())
}

fn about(connection: &Connection, kind: Kind, destination: &str) -> Message {
    let seconds = |us: Option<u64>| us.map(|us| format!("{:.3}", us as f64 / 1e6));
    let text = format!("{}: {}", safe(destination), words(connection, kind));
    let refusal = throttling(connection);
    Message::new(kind.priority(), kind.id(), &text)
        .field("SMTPTRACE_CODE", kind.code())
        .field("SMTPTRACE_DESTINATION", &safe(destination))
        .field("SMTPTRACE_ADDRESS", &connection.dst.to_string())
        .field("SMTPTRACE_PORT", &connection.dport.to_string())
        .known("SMTPTRACE_HOST", connection.banner_host.as_deref().map(safe))
        .field("SMTPTRACE_CONNECTION", &safe(&connection.id))
        .field("SMTPTRACE_START", &connection.start.to_string())
        .field("SMTPTRACE_END_CAUSE", &word(connection.end_cause))
        .known("SMTPTRACE_END_DURING", connection.end_during.map(word))
        .known("SMTPTRACE_END_SUSPECT", connection.end_suspect.map(word))
        .known("SMTPTRACE_IDLE_S", seconds(connection.end_idle_us))
        .known("SMTPTRACE_UNANSWERED_S", seconds(connection.end_unanswered_us))
        .known("SMTPTRACE_ERRNO", connection.connect_error.as_deref().map(safe))
        .known("SMTPTRACE_REPLY_CODE", refusal.map(|it| it.code))
        .known("SMTPTRACE_ENHANCED_CODE", refusal.and_then(|it| it.enhanced))
        .known("SMTPTRACE_PID", connection.pid)
        .known("SMTPTRACE_COMM", connection.comm.as_deref().map(safe))
}

/// What became of a connection, in a few words.
fn words(connection: &Connection, kind: Kind) -> String {
    match kind {
        Kind::Failed => match &connection.connect_error {
            Some(error) => format!("connect failed: {}", safe(error)),
            None => "connect failed: given up".to_owned(),
        },
        Kind::TurnedAway => match throttling(connection) {
            Some(Refusal { code, enhanced: Some(enhanced), .. }) => {
                format!("turned away: {code} {enhanced}")
            }
            Some(Refusal { code, .. }) => format!("turned away: {code}"),
            None => "turned away".to_owned(),
        },
        Kind::Died => died(connection),
    }
}

fn died(connection: &Connection) -> String {
    let how = match connection.end_cause {
        EndCause::RstReceived => "reset",
        EndCause::Timeout => "timed out",
        _ => "no answer",
    };
    let idle_s = connection.end_idle_us.map(|us| us as f64 / 1e6);
    let when = match (connection.end_during, idle_s) {
        (Some(EndDuring::Reuse), Some(idle_s)) => format!(" when used again after {idle_s:.1} s"),
        (Some(EndDuring::Idle), Some(idle_s)) => format!(" after {idle_s:.1} s of idling"),
        (Some(EndDuring::Greeting), _) => " before the greeting".to_owned(),
        (Some(EndDuring::Dialogue), _) => " in the dialogue".to_owned(),
        _ => String::new(),
    };
    let who = match connection.end_suspect {
        Some(EndSuspect::Peer) => "; suspect: the server",
        Some(EndSuspect::Middlebox) => "; suspect: a box on the path",
        None => "",
    };
    let cost = connection.end_unanswered_us.filter(|_| kind_is_silent(connection.end_cause));
    let cost = cost.map(|us| format!("; it waited {:.1} s", us as f64 / 1e6)).unwrap_or_default();
    format!("connection died: {how}{when}{who}{cost}")
}

fn kind_is_silent(cause: EndCause) -> bool {
    matches!(cause, EndCause::Timeout | EndCause::Unanswered)
}

fn told(verdict: &Verdict) -> Message {
    let priority = match verdict.severity {
        Severity::Critical => Priority::Critical,
        Severity::Warning => Priority::Warning,
        Severity::Info => Priority::Notice,
        Severity::Ok => Priority::Info,
    };
    let destination = safe(&verdict.destination);
    let text = format!("{destination}: {}: {}", verdict.code, safe(&verdict.summary));
    let advice: Vec<String> = verdict.advice.iter().map(|advice| safe(&advice.text)).collect();
    let evidence = serde_json::to_string(&verdict.evidence).ok().map(|json| safe(&json));
    Message::new(priority, VERDICT_ID, &text)
        .field("SMTPTRACE_CODE", verdict.code.as_str())
        .field("SMTPTRACE_DESTINATION", &destination)
        .field("SMTPTRACE_SEVERITY", verdict.severity.as_str())
        .field("SMTPTRACE_CONFIDENCE", verdict.confidence.as_str())
        .known("SMTPTRACE_EVIDENCE", evidence)
        .known("SMTPTRACE_ADVICE", (!advice.is_empty()).then(|| advice.join("\n")))
}

/// The messages about connections and verdicts, without any limit, for the tests of sinks.
#[cfg(test)]
pub(crate) fn all(connections: &[Connection], report: &Report) -> Vec<u8> {
    let of = |connection: &Connection| {
        let key = report.grouping().key(connection.dst, connection.banner_host.as_deref());
        Kind::of(connection).map(|kind| about(connection, kind, &key))
    };
    let messages = connections.iter().filter_map(of).chain(report.verdicts.iter().map(told));
    messages.flat_map(|message| [message.bytes(), b"\n"].concat()).collect()
}
