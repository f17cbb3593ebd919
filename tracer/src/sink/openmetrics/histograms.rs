//! The distributions of a destination, as classic histograms.

use tracer_analysis::destination::{Aggregate, Distribution};

use super::family::{Description, Family, Label, Sample, Value, histogram};

/// A family of histograms.
pub(crate) struct Measure {
    /// Name and meaning.
    pub(crate) description: Description,
    /// Upper edges of the buckets, in the unit of the distribution.
    pub(crate) edges: &'static [u64],
    /// How many of that unit make one of the description's.
    pub(crate) divisor: f64,
    /// Where the values are.
    pub(crate) of: fn(&Aggregate) -> &Distribution,
}

/// Microseconds that make a second.
const SECOND: f64 = 1e6;

/// Steps of a dialogue: round trips (5 ms to 0.5 s), SYNs that had to be repeated (1 s, 3 s), greetings that
/// are held back on purpose (5 s, 10 s, 30 s), and what is beyond patience.
const STEP_US: &[u64] = &[
    5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000, 60_000_000,
];

/// Idle gaps and lives of connections: the timers of mail servers (2 s, 5 s, 300 s) and of known
/// middleboxes (30 s, 60 s, 120 s, 240 s, 350 s, 900 s, 1200 s, 3600 s).
const KEPT_US: &[u64] = &[
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    240_000_000,
    300_000_000,
    350_000_000,
    900_000_000,
    1_200_000_000,
    3_600_000_000,
];

const MESSAGES: &[u64] = &[0, 1, 2, 3, 5, 10, 20, 50, 100, 1_000];

const fn seconds(
    name: &'static str,
    help: &'static str,
    edges: &'static [u64],
    of: fn(&Aggregate) -> &Distribution,
) -> Measure {
    let description = histogram(name, help).measured_in("seconds");
    Measure { description, edges, divisor: SECOND, of }
}

/// All of them.
pub(crate) const MEASURES: &[Measure] = &[
    seconds(
        "smtptrace_connect_duration_seconds",
        "Time from the SYN until the connection was established.",
        STEP_US,
        |all| &all.connect_us,
    ),
    seconds(
        "smtptrace_banner_duration_seconds",
        "Time from established to the first byte of the greeting.",
        STEP_US,
        |all| &all.banner_us,
    ),
    seconds(
        "smtptrace_greeting_duration_seconds",
        "Time from established to the end of the greeting.",
        STEP_US,
        |all| &all.greeting_us,
    ),
    seconds(
        "smtptrace_ehlo_duration_seconds",
        "Time from EHLO in cleartext to the end of its reply.",
        STEP_US,
        |all| &all.ehlo_us,
    ),
    seconds(
        "smtptrace_starttls_duration_seconds",
        "Time from STARTTLS to the end of its reply.",
        STEP_US,
        |all| &all.starttls_us,
    ),
    seconds(
        "smtptrace_tls_handshake_duration_seconds",
        "Time of TLS handshakes, from the ClientHello to the client's last part.",
        STEP_US,
        |all| &all.tls_handshake_us,
    ),
    seconds(
        "smtptrace_auth_duration_seconds",
        "Time from AUTH in cleartext to the end of the reply that decided it.",
        STEP_US,
        |all| &all.auth_us,
    ),
    seconds(
        "smtptrace_transaction_duration_seconds",
        "Time of transactions, from the envelope to the final reply.",
        STEP_US,
        |all| &all.transaction_us,
    ),
    seconds(
        "smtptrace_final_reply_duration_seconds",
        "Time from the last write of a body in cleartext to the final reply.",
        STEP_US,
        |all| &all.final_reply_us,
    ),
    seconds(
        "smtptrace_lifetime_seconds",
        "Time from SYN to CLOSE of established connections.",
        KEPT_US,
        |all| &all.lifetime_us,
    ),
    seconds(
        "smtptrace_idle_gap_seconds",
        "Idle gaps of 0.1 s or more that ended in another turn.",
        KEPT_US,
        |all| &all.idle_us,
    ),
    Measure {
        description: histogram(
            "smtptrace_connection_messages",
            "Messages of each established connection that ended and whose messages were counted.",
        ),
        edges: MESSAGES,
        divisor: 1.0,
        of: |all| &all.messages.per_connection,
    },
];

impl Measure {
    /// Adds the histogram of one destination; nothing if no value was ever seen.
    pub(super) fn add(&self, all: &Aggregate, labels: Vec<Label>, family: &mut Family) {
        let values = (self.of)(all);
        if values.count() == 0 {
            return;
        }
        let edge = |&edge: &u64| (edge as f64 / self.divisor, values.at_most(edge));
        let value = Value::Distribution {
            up_to: self.edges.iter().map(edge).collect(),
            count: values.count(),
            sum: values.sum() as f64 / self.divisor,
        };
        family.samples.push(Sample { labels, value });
    }
}
