//! What a verdict is.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::mta::Mta;

/// What is concluded. The meaning of a code never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Connections are used for several messages where they could be.
    CachingWorks,
    /// Messages that could have shared a connection did not.
    CachingIneffective,
    /// New connections were opened although a usable one was there, or had just been closed by us.
    ReuseMissed,
    /// Connections that were opened and carried no message.
    ConnectionsUnused,
    /// Cached connections turned out dead when they were used again.
    DeadOnReuse,
    /// Something on the path ends idle connections.
    IdleKilledByMiddlebox,
    /// The server itself ends idle connections.
    IdleClosedByServer,
    /// Idle connections live longer than the shortest timer known of a middlebox.
    IdleSurvives,
    /// No gap was long enough to say what the path does to idle connections.
    IdleLimitUnknown,
    /// Keepalive is on, but its first probe comes later than idle connections die.
    KeepaliveTooSlow,
    /// The server refuses connections beyond a number that are open at a time.
    ConcurrencyLimited,
    /// The server refuses connections beyond a number that are opened per minute.
    RateLimited,
    /// The server ends connections after a number of messages.
    MessageLimit,
    /// The server ends connections at an age, whatever they carried.
    SessionAgeLimit,
    /// The server throttles, but neither concurrency nor rate explains when.
    Throttled,
    /// Connects per minute rise while messages do not.
    RetryStorm,
    /// The greeting comes late.
    GreetingSlow,
    /// IPv4 and IPv6 behave differently.
    FamilyAsymmetry,
    /// The TLS handshake takes long.
    TlsSlow,
    /// Segments are lost on the path.
    PathLossy,
    /// Records were lost or could not be used: other verdicts rest on a part of the connections.
    EvidenceIncomplete,
}

impl Code {
    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CachingWorks => "caching_works",
            Self::CachingIneffective => "caching_ineffective",
            Self::ReuseMissed => "reuse_missed",
            Self::ConnectionsUnused => "connections_unused",
            Self::DeadOnReuse => "dead_on_reuse",
            Self::IdleKilledByMiddlebox => "idle_killed_by_middlebox",
            Self::IdleClosedByServer => "idle_closed_by_server",
            Self::IdleSurvives => "idle_survives",
            Self::IdleLimitUnknown => "idle_limit_unknown",
            Self::KeepaliveTooSlow => "keepalive_too_slow",
            Self::ConcurrencyLimited => "concurrency_limited",
            Self::RateLimited => "rate_limited",
            Self::MessageLimit => "message_limit",
            Self::SessionAgeLimit => "session_age_limit",
            Self::Throttled => "throttled",
            Self::RetryStorm => "retry_storm",
            Self::GreetingSlow => "greeting_slow",
            Self::FamilyAsymmetry => "family_asymmetry",
            Self::TlsSlow => "tls_slow",
            Self::PathLossy => "path_lossy",
            Self::EvidenceIncomplete => "evidence_incomplete",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much it matters: how much harm is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing has to be done.
    Info,
    /// Mail is delayed, or some of it is refused.
    Warning,
    /// Most mail is refused, or every delivery loses time.
    Critical,
}

impl Severity {
    /// Of a server that refuses so many of all connections: critical from half of them on.
    pub fn of_refusals(refused: u64, all: u64) -> Self {
        if refused > 0 && refused * 2 >= all { Self::Critical } else { Self::Warning }
    }

    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// How sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// A hint: few observations, or another explanation is nearly as good.
    Low,
    /// Chance explains it in at most one case of twenty.
    Medium,
    /// Chance explains it in at most one case of a hundred.
    High,
}

impl Confidence {
    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// One fact that a verdict rests on. The unit is in its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Evidence {
    /// Yes or no.
    Flag(bool),
    /// A count.
    Count(u64),
    /// A measure.
    Number(f64),
    /// A name.
    Text(String),
    /// Not known.
    Unknown(()),
}

impl From<u64> for Evidence {
    fn from(value: u64) -> Self {
        Self::Count(value)
    }
}

impl From<f64> for Evidence {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<bool> for Evidence {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<&str> for Evidence {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl<T: Into<Self>> From<Option<T>> for Evidence {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unknown(()), Into::into)
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Advice {
    /// The mail server whose settings it names; `null` for advice that holds for any.
    pub mta: Option<Mta>,
    /// In words, with the exact setting.
    pub text: String,
    /// The bound that it sets for all destinations, if it is such a setting.
    #[serde(skip)]
    pub bound: Option<u64>,
}

/// A conclusion about one destination, or about the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Verdict {
    /// What is concluded.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// Key of the destination; `total` for all of the host.
    pub destination: String,
    /// Connections that it is about: those refused, dead, opened without need. Of two verdicts of the same
    /// severity, the one that touches more comes first. 0 in reports of versions that did not tell.
    #[serde(default)]
    pub connections: u64,
    /// In one sentence, with the numbers.
    pub summary: String,
    /// What it rests on, by name.
    pub evidence: BTreeMap<String, Evidence>,
    /// How sure it is.
    pub confidence: Confidence,
    /// What to do, for each mail server that connected there.
    pub advice: Vec<Advice>,
}

impl Verdict {
    /// A verdict without evidence and advice yet.
    pub fn new(
        code: Code,
        severity: Severity,
        confidence: Confidence,
        destination: &str,
        summary: String,
    ) -> Self {
        Self {
            code,
            severity,
            destination: destination.to_owned(),
            connections: 0,
            summary,
            evidence: BTreeMap::new(),
            confidence,
            advice: Vec::new(),
        }
    }

    /// Adds a fact.
    #[must_use]
    pub fn because(mut self, name: &str, value: impl Into<Evidence>) -> Self {
        self.evidence.insert(name.to_owned(), value.into());
        self
    }

    /// Sets the connections that it is about; without this, all of its destination.
    #[must_use]
    pub fn touching(self, connections: u64) -> Self {
        Self { connections, ..self }
    }

    /// Adds what to do: the same for any mail server, or for one.
    #[must_use]
    pub fn advise(mut self, mta: Option<Mta>, text: impl Into<String>) -> Self {
        self.advice.push(Advice { mta, text: text.into(), bound: None });
        self
    }

    /// The same with a setting that is a bound, and that holds for the whole mail server: of several
    /// destinations, the lowest bound is right for all.
    #[must_use]
    pub fn advise_bound(mut self, mta: Option<Mta>, text: impl Into<String>, bound: u64) -> Self {
        self.advice.push(Advice { mta, text: text.into(), bound: Some(bound) });
        self
    }
}
