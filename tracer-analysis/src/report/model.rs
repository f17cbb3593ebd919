//! The report as it is written in JSON.
//!
//! Field names carry their unit. `null` is unknown, or not computed by this version; never 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    connection::{EndCause, TransactionsMethod},
    destination::{Counted, GroupBy, HistogramSummary, Prefixes},
    recording::{Filters, Trust},
    report::{IdleLimit, OverTime, Sender, SendersOmitted},
    utc::Utc,
    verdict::{Finding, Verdict},
};

/// Version of the report schema that this build writes.
pub const SCHEMA: u32 = 1;

/// Tag of this kind of document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ReportKind {
    /// The only value.
    #[default]
    Report,
}

/// A report on all connections of a trace, or of several recordings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// Always `report`.
    #[serde(default)]
    pub kind: ReportKind,
    /// Schema number.
    pub schema: u32,
    /// Version of smtptrace that made it.
    pub version: String,
    /// The host that was traced; `null` if there were several.
    pub host: Option<String>,
    /// All hosts that were traced.
    pub hosts: Vec<String>,
    /// When.
    pub window: Window,
    /// Filters that were in force; `null` if they are unknown or differ between recordings.
    pub filters: Option<Filters>,
    /// What makes a destination.
    pub group_by: GroupBy,
    /// Lengths of the networks, where destinations are networks; else `null`. A version that wrote none
    /// took the usual ones.
    #[serde(default)]
    pub prefixes: Option<Prefixes>,
    /// How far the numbers can be trusted.
    pub trust: Trust,
    /// What tracing cost, as a share of one processor core.
    pub tracer_cpu: TracerCpu,
    /// All destinations together, under the key `total`.
    pub totals: Destination,
    /// The destinations, worst first: by connections that failed or died, then by their share of
    /// all, then by connections. `~other`, if there is one, is last.
    pub destinations: Vec<Destination>,
    /// What was over the limit and went to `~other`.
    pub destinations_omitted: DestinationsOmitted,
    /// Who opened these connections, worst first: by connections that failed, died or were turned away, then by
    /// connections. `~other`, if there is one, is last. Empty in reports of versions that did not tell.
    #[serde(default)]
    pub senders: Vec<Sender>,
    /// What was over the limit and went to the sender `~other`.
    #[serde(default)]
    pub senders_omitted: SendersOmitted,
    /// Conclusions, the worst first; none in reports of versions that drew none.
    #[serde(default, deserialize_with = "null_is_none_drawn")]
    pub verdicts: Vec<Verdict>,
    /// The same by cause, the worst first: one for all destinations that share it. In JSON each destination has
    /// its verdicts.
    #[serde(skip)]
    pub findings: Vec<Finding>,
    /// What was not asked for; nothing in a report that is written as JSON.
    #[serde(skip)]
    pub unlisted: Unlisted,
}

/// How much of a report is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Destinations, at most.
    pub destinations: usize,
    /// Verdicts, at most.
    pub verdicts: usize,
}

impl Listed {
    /// All of it.
    pub const ALL: Self = Self { destinations: usize::MAX, verdicts: usize::MAX };
}

/// What a report does not list because it was not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unlisted {
    /// Destinations.
    pub destinations: u64,
    /// Verdicts; none is worse than one that is listed.
    pub verdicts: u64,
}

/// The time that a report covers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Window {
    /// Begin.
    pub start: Utc,
    /// End.
    pub end: Utc,
    /// Seconds between the two.
    pub duration_s: f64,
}

/// CPU time of the tracer as a share of one core: 0.01 is 1 %. `null` if it was not measured.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TracerCpu {
    /// Of the smtptrace process.
    pub user_share: Option<f64>,
    /// Of the BPF programs.
    pub kernel_share: Option<f64>,
}

/// What went to `~other` because the number of destinations is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DestinationsOmitted {
    /// Destinations that are kept at most.
    pub limit: u64,
    /// Connections in `~other`.
    pub connections: u64,
}

/// One destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Destination {
    /// Its name in the grouping: an address, a network, a host or a domain.
    pub key: String,
    /// What else it is called; `null` if that is not known, or was not asked.
    #[serde(default)]
    pub name: Option<Name>,
    /// The grouping.
    pub group: GroupBy,
    /// Distinct server addresses; `null` if they were not kept.
    pub addresses: Option<u64>,
    /// All connections, also failed and open ones.
    pub connections: u64,
    /// Those that were never established, although they ended.
    pub connect_failures: u64,
    /// The same by errno name; `gave_up` if the application closed the socket first.
    pub failures: BTreeMap<String, u64>,
    /// Established ones that ended in a reset, in a timeout or without an answer.
    pub died: u64,
    /// Messages handed over by the connections in `counted_connections`; `null` if there are none.
    pub transactions: Option<u64>,
    /// Established connections whose messages could be counted.
    #[serde(default)]
    pub counted_connections: u64,
    /// Those of them whose count is exact, not inferred.
    #[serde(default)]
    pub exact_connections: u64,
    /// How they were counted: by the server's replies, or inferred from lengths under TLS.
    #[serde(default)]
    pub counted_by: BTreeMap<TransactionsMethod, Counted>,
    /// Share of messages that needed no new connection, 0 to 1: 1 - connections that carried a message
    /// / messages.
    pub reuse_ratio: Option<f64>,
    /// Counted connections that ended without having carried a message.
    pub unused_connections: Option<u64>,
    /// Connections with a message that were opened although another one to the destination stood idle,
    /// or at most 10 s after we had closed one ourselves; `null` if that can be said of none.
    pub missed_reuse: Option<u64>,
    /// Whether all connections could be looked at; if not, `missed_reuse` is of those that could.
    #[serde(default)]
    pub missed_reuse_exact: bool,
    /// Most connections that existed at the same instant, those being tried included.
    pub peak_concurrency: u64,
    /// Whether that is exact; if not, it is an upper bound, or (with connections of unknown age) an
    /// estimate.
    pub peak_concurrency_exact: bool,
    /// Connections opened per minute.
    pub connections_per_minute: PerMinute,
    /// Payload bytes sent, retransmissions included.
    pub bytes_sent: Option<u64>,
    /// Payload bytes received.
    pub bytes_received: Option<u64>,
    /// Segments retransmitted.
    pub retransmits: Option<u64>,
    /// Connections that were open before tracing began; they are in no histogram but `idle_us`.
    pub midlife: u64,
    /// Connections that were open when tracing ended.
    pub open: u64,
    /// Distributions.
    pub histograms: Histograms,
    /// Connections by what ended them.
    pub endings: BTreeMap<EndCause, u64>,
    /// The same without those that were never established.
    pub session_endings: BTreeMap<EndCause, u64>,
    /// Those of these that QUIT had ended before: ordinary ends, whoever closed or reset. Under TLS a QUIT
    /// cannot be seen: a server that closes at once after an exchange is taken to have been asked to.
    #[serde(default)]
    pub after_quit: BTreeMap<EndCause, u64>,
    /// Greetings by reply code; `0` is all codes beyond the number that is kept.
    pub greeting_codes: BTreeMap<u16, u64>,
    /// How long a connection may idle on this path.
    pub idle_limit: Option<IdleLimit>,
    /// Connections, concurrency and 421 replies over time; `null` if there was no connection, if it was not
    /// asked for (as in reports without `hdr`), and in reports of versions that did not have it.
    #[serde(default)]
    pub over_time: Option<OverTime>,
    /// Counts by address family.
    pub families: Families,
}

/// A name of a destination that is not its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Name {
    /// The name. That of an address is what the owner of the network wrote into its PTR record: text
    /// from strangers.
    pub name: String,
    /// Whether that name has this address, too, so that its owner agrees. If not, anybody's name may
    /// stand here.
    pub verified: bool,
}

/// Connections opened per minute.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PerMinute {
    /// Most in one minute, UTC-aligned.
    pub peak: u64,
    /// Mean over the window; `null` if that has no length.
    pub mean: Option<f64>,
}

/// Distributions of one destination. Values have the unit of the field's name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Histograms {
    /// SYN to established.
    pub connect_us: HistogramSummary,
    /// Established to the first byte of the greeting.
    pub banner_us: HistogramSummary,
    /// Established to the end of the greeting.
    pub greeting_us: HistogramSummary,
    /// EHLO in cleartext, from its write to the end of the reply; `null` if none was seen.
    pub ehlo_us: Option<HistogramSummary>,
    /// STARTTLS, from its write to the end of the 220; `null` if none was seen.
    pub starttls_us: Option<HistogramSummary>,
    /// TLS handshake, from the `ClientHello` to the client's last part; `null` if none was understood.
    pub tls_handshake_us: Option<HistogramSummary>,
    /// AUTH in cleartext, from its command to the end of the reply that decided it; `null` if none was
    /// seen.
    pub auth_us: Option<HistogramSummary>,
    /// Transactions, from the first write of the envelope to the final reply; `null` if the times of
    /// none are known.
    pub transaction_us: Option<HistogramSummary>,
    /// Body to final reply: from the begin of the last write of the body to the first byte of the final
    /// reply, in cleartext; `null` if none is known.
    pub final_reply_us: Option<HistogramSummary>,
    /// SYN to CLOSE of established and finished connections.
    pub lifetime_us: HistogramSummary,
    /// Idle gaps of 0.1 s or more that ended in another turn.
    pub idle_us: HistogramSummary,
    /// Turns of established and finished connections.
    pub turns: HistogramSummary,
    /// Messages of each counted connection that ended; `null` if there are none.
    pub messages_per_connection: Option<HistogramSummary>,
}

impl Histograms {
    /// Each distribution that is known, by the name of its field.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &HistogramSummary)> {
        [
            ("connect_us", Some(&self.connect_us)),
            ("banner_us", Some(&self.banner_us)),
            ("greeting_us", Some(&self.greeting_us)),
            ("ehlo_us", self.ehlo_us.as_ref()),
            ("starttls_us", self.starttls_us.as_ref()),
            ("tls_handshake_us", self.tls_handshake_us.as_ref()),
            ("auth_us", self.auth_us.as_ref()),
            ("transaction_us", self.transaction_us.as_ref()),
            ("final_reply_us", self.final_reply_us.as_ref()),
            ("lifetime_us", Some(&self.lifetime_us)),
            ("idle_us", Some(&self.idle_us)),
            ("turns", Some(&self.turns)),
            ("messages_per_connection", self.messages_per_connection.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, summary)| Some((name, summary?)))
    }
}

/// A destination by address family; `null` if it had no connection over that one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Families {
    /// Over IPv4.
    pub ipv4: Option<FamilySummary>,
    /// Over IPv6.
    pub ipv6: Option<FamilySummary>,
}

/// The connections of a destination over one address family.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FamilySummary {
    /// All connections, also failed and open ones.
    pub connections: u64,
    /// Those that were never established, although they ended.
    pub connect_failures: u64,
    /// The same by errno name.
    pub failures: BTreeMap<String, u64>,
    /// Established ones that ended in a reset, in a timeout or without an answer.
    pub died: u64,
    /// Connections by what ended them.
    pub endings: BTreeMap<EndCause, u64>,
    /// How long a connection may idle on this path.
    #[serde(default)]
    pub idle_limit: Option<IdleLimit>,
    /// Distributions.
    pub histograms: FamilyHistograms,
}

/// Distributions of one address family.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FamilyHistograms {
    /// SYN to established.
    pub connect_us: HistogramSummary,
    /// Established to the first byte of the greeting.
    pub banner_us: HistogramSummary,
}

/// Versions without verdicts wrote `null`.
fn null_is_none_drawn<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Verdict>, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}
