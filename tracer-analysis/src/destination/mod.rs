//! Destinations: what the connections to one server, network, host or provider have in common.
//!
//! [`Fold`] takes connections one by one and keeps one [`Aggregate`] per address and greeting host.
//! How they are grouped ([`GroupBy`]) is decided when the report is made, so it does not depend on
//! the order of the records. Memory is bounded: every collection here has a documented limit, and
//! what goes beyond one is counted, not dropped.

mod ages;
mod aggregate;
mod arrivals;
mod bucket;
mod busiest;
mod cost;
mod course;
mod few;
mod fold;
mod group;
mod histogram;
mod idle;
mod idle_limit;
mod key;
mod lane;
mod messages;
mod minutes;
mod packed;
mod points;
mod pressure;
mod proportion;
mod reception;
mod reuse;
mod senders;
mod steady;
mod survival;
mod throttling;
mod timeline;
mod who;

pub use ages::Ages;
pub use aggregate::{Aggregate, FAILURE_NAMES, GAVE_UP, GREETING_CODES, OTHER_CODE, OTHER_FAILURE};
pub use arrivals::Arrivals;
pub use cost::Cost;
pub use course::{Bucket, Course};
pub use few::Few;
pub(crate) use fold::normal_host;
pub use fold::{Fold, HOSTS_PER_ADDRESS};
pub use group::{Group, Groups, OTHER};
pub use histogram::{Distribution, HistogramSummary, Span};
pub use idle::{IdleGaps, Keepalive, Killer, Manner};
pub use idle_limit::{IdleLimit, Tally};
pub use key::{GroupBy, Grouping, Prefixes, UnknownGroupBy};
pub use messages::{Counted, Messages};
pub use pressure::{Minute, Moment};
pub use reception::Reception;
pub use reuse::MissedReuse;
pub use senders::{SENDERS, Senders, Sent};
pub use steady::{Carried, Steady, SteadyFold, Tallies};
pub use survival::{Observed, Step, kaplan_meier, thinned};
pub use throttling::{Ends, Throttling};
pub use timeline::{Peak, Timeline};
pub use who::{SenderKind, Who};

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
