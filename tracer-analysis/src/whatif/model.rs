//! The answer, as it is written in JSON. Field names carry their unit; `null` is unknown.

use serde::{Deserialize, Serialize};

use crate::{
    destination::{GroupBy, Prefixes},
    recording::Trust,
    report::Window,
};

/// Version of the schema of [`WhatIf`].
pub const SCHEMA: u32 = 1;

/// Tag of this kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhatIfKind {
    /// The only value.
    #[default]
    WhatIf,
}

/// Recordings replayed under several policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhatIf {
    /// Always `what_if`.
    #[serde(default)]
    pub kind: WhatIfKind,
    /// Schema number.
    pub schema: u32,
    /// Version of smtptrace that made it.
    pub version: String,
    /// Hosts that were traced.
    pub hosts: Vec<String>,
    /// When.
    pub window: Window,
    /// How far the recordings can be trusted.
    pub trust: Trust,
    /// What makes a destination, and so what shares connections.
    pub group_by: GroupBy,
    /// Lengths of the networks, where destinations are networks; else `null`.
    #[serde(default)]
    pub prefixes: Option<Prefixes>,
    /// Limits that hold under every policy.
    pub limits: Limits,
    /// All destinations together: the sums of theirs, under the key `total`.
    pub totals: Destination,
    /// The destinations, those first that would save most.
    pub destinations: Vec<Destination>,
}

/// Limits on a connection besides its time in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Messages of one connection at most.
    pub max_messages: Option<u32>,
    /// Age, in seconds, from which on a connection is not kept.
    pub max_age_s: Option<f64>,
}

/// One destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// Its key in the grouping; `total` for all of them.
    pub key: String,
    /// Which messages were replayed.
    pub messages: Messages,
    /// What was observed.
    pub observed: Observed,
    /// The replay of the policy that really ran; `null` without messages to replay.
    pub as_it_ran: Option<AsItRan>,
    /// What opening a connection costs.
    pub set_up: SetUp,
    /// What the path does to idle connections; `null` for all destinations together.
    pub path: Option<PathSummary>,
    /// What each policy would have needed; empty if the replay of what ran is not
    /// [confirmed](AsItRan::reproduces).
    pub policies: Vec<PolicyOutcome>,
    /// Connections over cache time, for a drawing; empty like `policies`.
    pub curve: Vec<CurvePoint>,
}

/// Which messages were replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Messages {
    /// Messages whose times are known.
    pub replayed: u64,
    /// Messages that were counted.
    pub counted: u64,
    /// Established connections whose messages could not be counted: theirs are in neither number.
    pub uncounted_connections: u64,
}

/// What was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// Connections that carried the replayed messages.
    pub connections: u64,
    /// Those of them that were encrypted.
    pub tls_handshakes: u64,
    /// Further connections that carried no message.
    pub unused_connections: u64,
}

/// The check of the model: the policy that really ran, replayed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AsItRan {
    /// How long connections were kept, in seconds, inferred from how this host closed them; `null` for
    /// all destinations together.
    pub cache_time_s: Option<f64>,
    /// Share of the messages after which the connection was kept open.
    pub kept_share: f64,
    /// Connections that the replay needs.
    pub connections: u64,
    /// By how much that is off the observed number, as a share of it; negative if it is fewer.
    pub difference: f64,
    /// Whether that is within [`Self::TOLERANCE`].
    pub reproduces: bool,
}

impl AsItRan {
    /// Largest difference with which the model counts as confirmed: 2 %.
    pub const TOLERANCE: f64 = 0.02;
}

/// What opening a connection costs, in microseconds: medians over the connections that carried a message
/// and were seen from their SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SetUp {
    /// Connections measured.
    pub measured_connections: u64,
    /// SYN to the first command of the first message: connect, greeting, EHLO, STARTTLS, TLS handshake
    /// and authentication, whatever of these there was. Seconds saved are reckoned with this.
    pub total_us: Option<u64>,
    /// SYN to established.
    pub connect_us: Option<u64>,
    /// Established to the end of the greeting.
    pub greeting_us: Option<u64>,
    /// TLS handshake.
    pub tls_handshake_us: Option<u64>,
}

/// What is known of idle gaps on the path to a destination, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PathSummary {
    /// Longest gap after which a connection was alive.
    pub survived_s: Option<f64>,
    /// Shortest gap after which one was dead.
    pub died_s: Option<f64>,
    /// Shortest gap after which the server closed.
    pub closed_by_server_s: Option<f64>,
    /// Longest gap that the replay bridges.
    pub bridged_s: f64,
}

/// What one policy would have needed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PolicyOutcome {
    /// How long connections are kept, in seconds.
    pub cache_time_s: f64,
    /// If no gap is bridged but those that the path is known to survive.
    pub known: Bridged,
    /// If longer gaps are survived as well, up to those that are known to end connections.
    pub if_path_survives: Bridged,
}

/// An outcome and what it saves.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Bridged {
    /// Connections opened.
    pub connections: u64,
    /// Fewer than were observed; negative if they are more.
    pub saved_connections: i64,
    /// TLS handshakes.
    pub tls_handshakes: u64,
    /// Fewer than were observed; negative if they are more.
    pub saved_tls_handshakes: i64,
    /// Set-up time saved, in seconds: saved connections times the median set-up of their destination;
    /// `null` if that was not measured.
    pub saved_s: Option<f64>,
    /// Saved connections to destinations whose set-up was not measured: they are not in `saved_s`.
    pub unpriced_connections: i64,
    /// Most connections from one host open at the same time, idle ones included; for all destinations
    /// together the sum of theirs, which need not coincide.
    pub peak_open: u64,
}

/// A point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct CurvePoint {
    /// How long connections are kept, in seconds.
    pub cache_time_s: f64,
    /// Connections opened, if no gap is bridged but those that the path is known to survive.
    pub connections: u64,
    /// The same if longer gaps are survived as well.
    pub connections_if_path_survives: u64,
    /// Set-up time saved, in seconds, as in [`Bridged::saved_s`], if no gap is bridged but those that the
    /// path is known to survive.
    #[serde(default)]
    pub saved_s: Option<f64>,
    /// The same if longer gaps are survived as well.
    #[serde(default)]
    pub saved_s_if_path_survives: Option<f64>,
}
