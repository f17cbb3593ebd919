//! Connections that ended not long ago, in bounded memory. Those that failed or died are kept longer.

use std::{collections::VecDeque, rc::Rc};

use tracer_analysis::connection::{Connection, TurnSpans};

/// Connections that are kept, whatever became of them.
const LAST: usize = 500;

/// Connections that failed or died.
const BAD: usize = 250;

/// A connection that ended.
#[derive(Debug, PartialEq)]
pub(super) struct Ended {
    pub(super) connection: Connection,
    /// Its turns, once they are known.
    pub(super) turns: TurnSpans,
}

/// The last connections.
#[derive(Debug, Default)]
pub(super) struct Recent {
    last: VecDeque<Rc<Ended>>,
    bad: VecDeque<Rc<Ended>>,
}

impl Recent {
    /// Takes a connection that ended.
    pub(super) fn add(&mut self, connection: &Connection) {
        let ended = Ended { connection: connection.clone(), turns: TurnSpans::default() };
        self.last.push_back(Rc::new(ended));
        if self.last.len() > LAST {
            self.fall_back();
        }
    }

    /// What leaves the last ones stays if it is bad.
    fn fall_back(&mut self) {
        let Some(oldest) = self.last.pop_front() else { return };
        if oldest.connection.failed() || oldest.connection.died() {
            self.bad.push_back(oldest);
            if self.bad.len() > BAD {
                self.bad.pop_front();
            }
        }
    }

    /// Takes the turns of a connection that ended, by its id.
    pub(super) fn turns(&mut self, id: &str, turns: TurnSpans) {
        let found = self.last.iter_mut().rev().find(|ended| ended.connection.id == id);
        if let Some(ended) = found {
            let connection = ended.connection.clone();
            *ended = Rc::new(Ended { connection, turns });
        }
    }

    /// Those that are kept, the newest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rc<Ended>> {
        self.last.iter().rev().chain(self.bad.iter().rev())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::tests::sample::connection;

    #[test]
    fn bad_ones_stay_longer_and_memory_is_bounded() {
        let mut recent = Recent::default();
        for number in 0..2_000 {
            let mut it = connection(number, "192.0.2.1");
            if number % 100 == 0 {
                it.end_cause = tracer_analysis::connection::EndCause::RstReceived;
            }
            recent.add(&it);
        }
        let kept: Vec<_> = recent.iter().collect();
        assert_eq!(kept.len(), LAST + 15, "of 1500 older ones every hundredth died");
        assert_eq!(kept[0].connection.id, format!("{:016x}", 1_999));
        assert_eq!(kept[LAST].connection.id, format!("{:016x}", 1_400));
    }

    #[test]
    fn turns_find_their_connection() {
        let mut recent = Recent::default();
        recent.add(&connection(7, "192.0.2.1"));
        let turns = TurnSpans { omitted: 3, ..TurnSpans::default() };
        recent.turns("0000000000000007", turns.clone());
        recent.turns("0000000000000008", turns.clone());
        assert_eq!(recent.iter().next().unwrap().turns, turns);
    }
}
