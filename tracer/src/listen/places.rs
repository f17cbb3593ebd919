//! The connections that are served. Their number is bounded; the one that is longest without progress makes room.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::task::AbortHandle;

/// Expositions that clients are taking at a time. Each keeps its text in memory, whoever takes it.
const PAGES: usize = 4;

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its request is not complete.
    Asks,
    /// The trace owes it an exposition: that nothing moves is not its fault.
    Waits,
    /// It takes the exposition of that time.
    Takes(Instant),
}

#[derive(Debug)]
struct Held {
    progress: Instant,
    stage: Stage,
    task: Option<AbortHandle>,
}

#[derive(Debug, Default)]
struct All {
    next: u64,
    held: BTreeMap<u64, Held>,
    /// Connections closed to make room.
    closed: u64,
}

/// The places for connections.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    all: Mutex<All>,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    places: Arc<Places>,
}

impl Places {
    /// `limit` places.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, all: Mutex::default() }
    }

    /// A place for a connection that has just come. If all are taken, one is closed: see [`All::close`].
    pub(super) fn take(self: &Arc<Self>) -> Place {
        let mut all = self.all();
        if all.held.len() >= self.limit {
            // Those that wait come last: all of them are served within moments.
            let progress = |held: &Held| (held.stage == Stage::Waits, held.progress);
            let slowest = all.held.iter().min_by_key(|(_, held)| progress(held));
            if let Some(number) = slowest.map(|(number, _)| *number) {
                all.close(number);
            }
        }
        let number = all.next;
        all.next += 1;
        all.held.insert(number, Held { progress: Instant::now(), stage: Stage::Asks, task: None });
        Place { number, places: Arc::clone(self) }
    }

    /// Has `task` serve the connection with that number; it is aborted to make room.
    pub(super) fn served_by(&self, number: u64, task: AbortHandle) {
        match self.all().held.get_mut(&number) {
            Some(held) => held.task = Some(task),
            None => task.abort(),
        }
    }

    /// Connections closed so far to make room.
    pub(super) fn closed(&self) -> u64 {
        self.all().closed
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn close(&mut self, number: u64) {
        let Some(closed) = self.held.remove(&number) else { return };
        self.closed += 1;
        if let Some(task) = closed.task {
            task.abort();
        }
    }

    /// Closes who still takes the oldest expositions, beyond [`PAGES`] of them.
    fn bound_pages(&mut self) {
        let page = |held: &Held| match held.stage {
            Stage::Takes(page) => Some(page),
            _ => None,
        };
        let pages: BTreeSet<Instant> = self.held.values().filter_map(page).collect();
        let Some(oldest) = pages.into_iter().rev().nth(PAGES - 1) else { return };
        let late = |held: &Held| page(held).is_some_and(|page| page < oldest);
        let late: Vec<u64> =
            self.held.iter().filter(|(_, it)| late(it)).map(|(number, _)| *number).collect();
        for number in late {
            self.close(number);
        }
    }
}

impl Place {
    /// Its number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Something was read or written.
    pub(super) fn progressed(&self) {
        if let Some(held) = self.places.all().held.get_mut(&self.number) {
            held.progress = Instant::now();
        }
    }

    /// The request is complete, and waits for its answer.
    pub(super) fn waits(&self) {
        self.enter(Stage::Waits);
    }

    /// The answer is being written: the exposition of the time `page`.
    pub(super) fn takes(&self, page: Instant) {
        self.enter(Stage::Takes(page));
        self.places.all().bound_pages();
    }

    fn enter(&self, stage: Stage) {
        if let Some(held) = self.places.all().held.get_mut(&self.number) {
            (held.stage, held.progress) = (stage, Instant::now());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.all().held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn numbers(places: &Places) -> Vec<u64> {
        places.all().held.keys().copied().collect()
    }

    #[test]
    fn the_one_longest_without_progress_makes_room() {
        let places = Arc::new(Places::new(3));
        let held: Vec<Place> = (0..3).map(|_| places.take()).collect();
        held[0].progressed();
        let _fourth = places.take();
        assert_eq!((numbers(&places), places.closed()), (vec![0, 2, 3], 1));
        // Who waits for the trace stays, however long.
        held[2].waits();
        held[0].progressed();
        let _fifth = places.take();
        assert_eq!(numbers(&places), [0, 2, 4]);
        drop(held);
        assert_eq!((numbers(&places), places.closed()), (vec![4], 2));
    }

    #[test]
    fn among_those_that_wait_the_first_makes_room() {
        let places = Arc::new(Places::new(2));
        let held: Vec<Place> = (0..2).map(|_| places.take()).collect();
        held.iter().for_each(Place::waits);
        let _third = places.take();
        assert_eq!(numbers(&places), [1, 2]);
    }

    #[test]
    fn few_expositions_are_kept_for_those_that_do_not_take_them() {
        let places = Arc::new(Places::new(100));
        let start = Instant::now();
        let held: Vec<Place> = (0..10).map(|_| places.take()).collect();
        for (n, place) in (0..).zip(&held) {
            place.takes(start + Duration::from_secs(n / 2));
        }
        assert_eq!((numbers(&places), places.closed()), ((2..10).collect(), 2));
    }
}
