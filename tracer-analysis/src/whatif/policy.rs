//! When a connection is kept for the next message.

/// A policy of keeping connections open between messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A connection is closed when it has been idle for this long, in microseconds; with 0 it is never
    /// used again.
    pub cache_time_us: u64,
    /// Messages after which a connection is not kept; `None` for no limit.
    pub max_messages: Option<u32>,
    /// Age in microseconds, at the end of a message, from which on a connection is not kept; `None` for
    /// no limit.
    pub max_age_us: Option<u64>,
}

impl Policy {
    /// Keeps connections for `cache_time_us`, without another limit.
    pub const fn keep_for(cache_time_us: u64) -> Self {
        Self { cache_time_us, max_messages: None, max_age_us: None }
    }

    /// Whether a connection that carried `messages` and is `age_us` old is kept.
    pub(super) fn keeps(&self, messages: u32, age_us: u64) -> bool {
        self.max_messages.is_none_or(|most| messages < most)
            && self.max_age_us.is_none_or(|oldest| age_us < oldest)
    }
}
