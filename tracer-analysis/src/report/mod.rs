//! The report: all that a sink sees.

mod build;
mod idle_limit;
mod intervals;
mod model;
mod over_time;
mod senders;

pub use build::{Context, TOTAL};
pub use idle_limit::{CURVE, CannotTell, ClosedByServer, CurvePoint, IdleLimit, Keepalive};
pub use intervals::{Interval, Intervals};
pub use model::{
    Destination, DestinationsOmitted, Families, FamilyHistograms, FamilySummary, Histograms,
    Listed, Name, PerMinute, Report, ReportKind, SCHEMA, TracerCpu, Unlisted, Window,
};
pub use over_time::OverTime;
pub use senders::{Sender, SendersOmitted};

#[cfg(test)]
mod over_time_tests;
#[cfg(test)]
mod senders_tests;
#[cfg(test)]
mod tests;
