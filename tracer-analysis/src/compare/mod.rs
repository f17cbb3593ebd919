//! Before and after: which differences between two reports chance does not explain.
//!
//! Every measure has one method: an interval for each side, from which follows an interval for the
//! difference (Newcombe's, also called MOVER: the squares of the distances from the values to the limits
//! that face each other add up). For shares the interval of a side is Wilson's; for quantiles it reaches
//! between order statistics, as many ranks apart as a binomial count of the values below may stray. The
//! confidence in a difference is that of the widest interval that leaves zero out, corrected by Holm's
//! method for all rows that are shown: that one of them be called different by chance has a probability of
//! at most 5 %.
//!
//! It errs on the side of "no difference":
//! - Connections are not independent: those that come close together share a server that is busy, or a
//!   queue. Only every [`PER_OBSERVATION`]th counts, so intervals are twice as wide as for independent ones.
//! - Messages of one connection stand or fall together: the share of reused ones has the precision of the
//!   connections, not of the messages.
//! - Histograms are 1 % coarse: quantiles nearer than that are never called different.
//! - A quantile without enough values on both sides of it has no limit, and is never called different.

mod build;
mod estimate;
mod measures;
mod model;
mod normal;

pub use build::compare;
pub use estimate::PER_OBSERVATION;
pub use model::{
    CompareError, Comparison, ComparisonKind, Destination, Difference, Measure, Row, SCHEMA, Side,
    Unit,
};

#[cfg(test)]
mod tests;
