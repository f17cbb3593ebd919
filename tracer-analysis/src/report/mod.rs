//! The report: all that a sink sees.

mod build;
mod model;

pub use build::{Context, TOTAL};
pub use model::{
    Destination, DestinationsOmitted, Families, FamilyHistograms, FamilySummary, Histograms,
    IdleLimit, PerMinute, Report, ReportKind, SCHEMA, TracerCpu, Window,
};

#[cfg(test)]
mod tests;
