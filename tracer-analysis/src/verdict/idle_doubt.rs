//! Why it cannot be told how long sessions may idle, and what would tell.

use serde::{Deserialize, Serialize};

use super::{
    Confidence,
    idle_limit::closes_idle_sessions,
    idle_path::{LimitedPath, limited_paths, path_of},
    timers,
};
use crate::destination::{Group, IdleGaps};

/// Why it cannot be told how long sessions may idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IdleDoubt {
    /// No session died, and no gap was as long as the shortest timer known of a middlebox.
    GapsTooShort,
    /// Gaps were that long, but no session was used again after one of them.
    NotTested,
    /// The server closed idle sessions before the shortest known timer.
    ServerClosesFirst,
    /// Sessions died after long gaps, too few of them to rule out chance.
    TooFewDied,
    /// Sessions died, but others survived gaps as long.
    NoPattern,
    /// As many sessions died in use as idle.
    DieInUse,
}

impl IdleDoubt {
    /// Of a destination, which is judged as a whole or by family; `None` if it can be told.
    pub fn of(group: &Group) -> Option<Self> {
        let gaps = group.all.idle.as_deref().filter(|gaps| gaps.count() > 0)?;
        Self::on(gaps, &limited_paths(group))
    }

    /// Of these gaps by themselves.
    pub fn of_gaps(gaps: &IdleGaps) -> Option<Self> {
        let path = path_of(gaps);
        Self::on(gaps, path.as_slice())
    }

    pub(super) fn on(gaps: &IdleGaps, paths: &[LimitedPath<'_>]) -> Option<Self> {
        if paths.iter().any(|path| path.confidence() > Confidence::Low) {
            return None;
        }
        if gaps.died(|_, _| true, 0) > 0 {
            return Some(paths.first().map_or(Self::NoPattern, Self::on_path));
        }
        let (alive, longest) = (gaps.longest_alive_us(), gaps.longest_us());
        if alive >= Some(timers::SHORTEST_US) {
            None
        } else if longest >= Some(timers::SHORTEST_US) {
            Some(Self::NotTested)
        } else if closes_idle_sessions(gaps) && gaps.closed_by_server.max() == longest {
            Some(Self::ServerClosesFirst)
        } else {
            Some(Self::GapsTooShort)
        }
    }

    /// Why the limit of `path` is not sure.
    pub(super) fn on_path(path: &LimitedPath<'_>) -> Self {
        if path.sessions_die_in_use() { Self::DieInUse } else { Self::TooFewDied }
    }

    /// What would tell; `None` where nothing has to be told, because sessions do not idle long enough to meet
    /// a known timer.
    pub const fn needed(self) -> Option<&'static str> {
        match self {
            Self::GapsTooShort | Self::ServerClosesFirst => None,
            Self::NotTested => Some("sessions used again after gaps that long"),
            Self::TooFewDied => {
                Some("a longer trace, with more sessions used again after gaps that long")
            }
            Self::NoPattern => {
                Some("a longer trace, to see whether long gaps or bad times end them")
            }
            Self::DieInUse => {
                Some("first the reason why sessions in use die: it may end idle ones, too")
            }
        }
    }
}
