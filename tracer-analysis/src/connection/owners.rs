//! The processes that held a connection, one after the other.

use tracer_common::record::{ConnectionState, OwnerChange};

use super::Owner;

/// Changes kept per connection. A pooled connection may go to and fro for hours.
const CHANGES: usize = 64;

/// Changes of owner, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Owners {
    changes: Vec<OwnerChange>,
}

impl Owners {
    /// Takes the next change.
    pub(super) fn change(&mut self, change: &OwnerChange) {
        if self.changes.len() < CHANGES {
            self.changes.push(*change);
        }
    }

    /// The chain, the process that connected first, or that held it when it was first seen.
    pub(super) fn chain(&self, state: &ConnectionState) -> Vec<Owner> {
        let first = Owner { pid: state.pid, comm: comm(&state.batch.comm), first_us: 0 };
        let later = self.changes.iter().map(|change| Owner {
            pid: change.pid,
            comm: comm(&change.comm),
            first_us: change.time_ns.saturating_sub(state.start_ns) / 1_000,
        });
        std::iter::once(first).filter(|_| state.pid != 0).chain(later).collect()
    }
}

/// A command name, which any process may choose for itself.
pub(super) fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    #[test]
    fn chain_begins_with_the_process_that_connected() {
        let mut owners = Owners::default();
        let mut scache = *b"scache\0xxxxxxxxx";
        scache[15] = 0;
        let change = OwnerChange { pid: 8, time_ns: 5_000_000, comm: scache, ..Zeroable::zeroed() };
        owners.change(&change);
        let mut state = ConnectionState { pid: 7, start_ns: 1_000_000, ..Zeroable::zeroed() };
        let chain = owners.chain(&state);
        assert_eq!((chain[0].pid, chain[0].first_us), (7, 0));
        assert_eq!((chain[1].comm.as_str(), chain[1].first_us), ("scache", 4_000));
        state.pid = 0; // not found
        assert_eq!(owners.chain(&state)[0].pid, 8);
    }

    #[test]
    fn memory_is_bounded() {
        let mut owners = Owners::default();
        for pid in 0..1_000 {
            owners.change(&OwnerChange { pid, ..Zeroable::zeroed() });
        }
        let state = ConnectionState { pid: 7, ..Zeroable::zeroed() };
        assert_eq!(owners.chain(&state).len(), CHANGES + 1);
    }
}
