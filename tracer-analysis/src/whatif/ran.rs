//! The policy that really ran, as far as the connections show it.

use super::{Policy, demand::Cell};

/// For how long connections were kept, in microseconds: the median of the times after which this host
/// closed those it had kept. Where it closed none, the longest time between two messages of one
/// connection; 0 where connections were neither kept nor used again.
pub(super) fn cache_time_us(cell: &Cell) -> u64 {
    let reused = cell.longest_reuse_us.map(|gap| gap.saturating_add(1));
    cell.holds_us.quantile(0.5).or(reused).unwrap_or(0)
}

/// That policy. Limits on messages and age are not in it: where one was reached, the connection was not
/// kept after that message, which the messages say.
pub(super) fn policy(cell: &Cell) -> Policy {
    Policy::keep_for(cache_time_us(cell))
}
