//! The SMTP dialogue of a connection: from turns to messages.

pub mod lengths;
pub(crate) mod replies;

/// Pauses kept in which somebody waited.
const PAUSES: usize = 256;

/// Where a dialogue stands: what is asked and not yet answered, by either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    /// All that was asked is answered: a pause is idle time.
    #[default]
    Settled,
    /// A message is under way, and a command of its envelope may not be answered yet.
    Open,
    /// Somebody owes the rest: the server an answer, or the client what the server asked for.
    Owing,
    /// It may be either.
    Unclear,
}

impl Standing {
    /// Whether somebody is waiting.
    fn is_waiting(self) -> bool {
        matches!(self, Self::Open | Self::Owing)
    }

    /// What ways to read the same dialogue agree on.
    pub(crate) fn agreed(all: impl IntoIterator<Item = Self>) -> Self {
        let [mut settled, mut open, mut owing, mut unclear] = [false; 4];
        for standing in all {
            match standing {
                Self::Settled => settled = true,
                Self::Open => open = true,
                Self::Owing => owing = true,
                Self::Unclear => unclear = true,
            }
        }
        match (settled, open, owing, unclear) {
            (true, false, false, false) => Self::Settled,
            (false, false, true, false) => Self::Owing,
            (false, true, ..) | (false, _, true, _) => Self::Open,
            _ => Self::Unclear,
        }
    }
}

/// What the pause at the end of a dialogue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rest {
    /// Where the dialogue stood before the last write.
    pub(crate) before: Standing,
    /// Where it stands.
    pub(crate) now: Standing,
    /// Begin and end of the idle time before the server spoke unasked, `CLOCK_BOOTTIME`; `None` if it did not,
    /// or if it was not read.
    pub(crate) unasked: Option<[u64; 2]>,
    /// The replies were read, and so it is known whether the server spoke unasked.
    pub(crate) read: bool,
}
