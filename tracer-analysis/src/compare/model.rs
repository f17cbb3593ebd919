//! The comparison, as it is written in JSON.

use serde::{Deserialize, Serialize};

use crate::{
    destination::{GroupBy, Grouping, Prefixes},
    report::Window,
};

/// Version of the schema of [`Comparison`].
pub const SCHEMA: u32 = 1;

/// Tag of this kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComparisonKind {
    /// The only value.
    #[default]
    Comparison,
}

/// Two reports side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Always `comparison`.
    #[serde(default)]
    pub kind: ComparisonKind,
    /// Schema number.
    pub schema: u32,
    /// What makes a destination.
    pub group_by: GroupBy,
    /// Lengths of the networks, where destinations are networks; else `null`.
    #[serde(default)]
    pub prefixes: Option<Prefixes>,
    /// The first report.
    pub before: Side,
    /// The second report.
    pub after: Side,
    /// All destinations together. A change can also mean that mail goes elsewhere.
    pub totals: Destination,
    /// Destinations that are in both, those with most connections first.
    pub destinations: Vec<Destination>,
    /// Destinations that are in both, and left out because of the limit on their number.
    pub destinations_left_out: u64,
    /// Destinations that are in the first report only.
    pub only_before: u64,
    /// Destinations that are in the second report only.
    pub only_after: u64,
}

/// One of the two reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Hosts that were traced.
    pub hosts: Vec<String>,
    /// When.
    pub window: Window,
    /// All connections.
    pub connections: u64,
    /// Whether nothing was lost in tracing.
    pub complete: bool,
}

/// The rows of one destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// Its key in the grouping; `total` for all of them.
    pub key: String,
    /// Connections in the first report.
    pub connections_before: u64,
    /// Connections in the second report.
    pub connections_after: u64,
    /// Measures that both reports know.
    pub rows: Vec<Row>,
}

impl Destination {
    /// Rows with a difference that chance does not explain.
    pub fn differences(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.difference.is_real)
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Connects that failed, of those that ended.
    ConnectFailures,
    /// Sessions that died, of those that ended.
    Died,
    /// Messages that needed no new connection.
    ReuseRatio,
    /// Sessions that ended without a message, of those whose messages are known.
    Unused,
    /// SYN to established.
    ConnectUs,
    /// Established to the first byte of the greeting.
    BannerUs,
    /// Established to the end of the greeting.
    GreetingUs,
    /// TLS handshake.
    TlsHandshakeUs,
    /// Transactions.
    TransactionUs,
    /// Lifetime of sessions.
    LifetimeUs,
    /// Messages of a connection.
    MessagesPerConnection,
}

/// In what a measure is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A share between 0 and 1.
    Share,
    /// Microseconds.
    Us,
    /// A number.
    Count,
}

/// One measure of one destination.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What is compared.
    pub measure: Measure,
    /// Which quantile of it, between 0 and 1; `null` for a share.
    pub quantile: Option<f64>,
    /// In what.
    pub unit: Unit,
    /// The value in the first report.
    pub before: f64,
    /// The value in the second report.
    pub after: f64,
    /// Connections, messages or transactions that the first value is taken over.
    pub count_before: u64,
    /// The same for the second value.
    pub count_after: u64,
    /// What lies between.
    pub difference: Difference,
}

/// The second value less the first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// As measured.
    pub value: f64,
    /// Lower end of the interval of 95 % confidence, for this row alone; `null` if there is none.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// Confidence, between 0 and 1, that there is a difference, corrected for the number of rows.
    pub confidence: f64,
    /// Whether that is 95 % or more. If not, chance explains the difference.
    pub is_real: bool,
}

/// Why two reports cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// Their destinations are not the same kind of thing.
    #[error(
        "the first report is grouped by {before}, the second by {after}; make both with the same \
         --group-by, or compare the recordings"
    )]
    Grouping {
        /// Of the first.
        before: Grouping,
        /// Of the second.
        after: Grouping,
    },
}
