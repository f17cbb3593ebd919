//! Counts of what a selection of senders leaves out.

use std::fmt;

use crate::sink::quantity::{grouped, plural};

/// Connections that were traced, and not recorded, because of their senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LeftOut {
    /// Of other senders.
    pub(crate) others: u64,
    /// Of senders that are not known: their cgroup was gone, or cannot be seen.
    pub(crate) unknown: u64,
}

impl LeftOut {
    /// Whether a connection passes, of which it is known, or not, whether its sender is wanted. Counts it if
    /// it does not.
    pub(crate) fn passes(&mut self, wanted: Option<bool>) -> bool {
        match wanted {
            Some(true) => return true,
            Some(false) => self.others += 1,
            None => self.unknown += 1,
        }
        false
    }

    /// All that did not pass.
    pub(crate) fn all(self) -> u64 {
        self.others + self.unknown
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = plural(self.others, "connection", "connections");
        write!(f, "left out: {others} of other senders")?;
        if self.unknown > 0 {
            let unknown = grouped(self.unknown);
            write!(
                f,
                ", and {unknown} of senders that are not known: their cgroup was gone or unseen"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pass_is_counted() {
        let mut left_out = LeftOut::default();
        assert!(left_out.passes(Some(true)));
        assert_eq!(left_out, LeftOut::default());
        assert!(!left_out.passes(Some(false)) && !left_out.passes(None));
        assert_eq!(left_out, LeftOut { others: 1, unknown: 1 });
        assert!(left_out.to_string().contains("1 connection of other senders, and 1 of senders"));
    }
}
