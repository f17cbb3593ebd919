//! The connections that are served. Their number is bounded; the one that is longest without progress makes room.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

/// Expositions that clients are taking at a time, beyond which those that take nothing are closed. Each exposition
/// keeps its text in memory, whoever takes it.
const PAGES: usize = 4;

/// Expositions that clients are taking at a time at most.
const MOST_PAGES: usize = 16;

/// Time without progress after which a client takes nothing. The kernel takes an answer in pieces of some 80 kB.
const STALLED: Duration = Duration::from_secs(5);

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its request is not complete.
    Asks,
    /// The trace owes it an exposition: that nothing moves is not its fault.
    Waits,
    /// It takes the exposition of that time, or an answer without one.
    Takes(Option<Instant>),
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

    /// The expositions that clients are taking.
    fn pages(&self) -> BTreeSet<Instant> {
        self.held.values().filter_map(Held::page).collect()
    }

    /// Closes who takes none of the newest [`PAGES`] expositions and has [`STALLED`]. A slow client that goes on
    /// taking its own stays: only beyond [`MOST_PAGES`] the one that is longest without progress is closed.
    fn bound_pages(&mut self, now: Instant) {
        let Some(oldest) = self.pages().into_iter().rev().nth(PAGES - 1) else { return };
        let is_late = |held: &Held| held.page().is_some_and(|page| page < oldest);
        let is_stalled = |held: &Held| now.saturating_duration_since(held.progress) >= STALLED;
        let stalled = self.held.iter().filter(|(_, held)| is_late(held) && is_stalled(held));
        let stalled: Vec<u64> = stalled.map(|(number, _)| *number).collect();
        for number in stalled {
            self.close(number);
        }
        while self.pages().len() > MOST_PAGES {
            let takers = self.held.iter().filter(|(_, held)| held.page().is_some());
            let slowest = takers.min_by_key(|(_, held)| held.progress);
            let Some(number) = slowest.map(|(number, _)| *number) else { return };
            self.close(number);
        }
    }
}

impl Held {
    /// The exposition that it takes.
    fn page(&self) -> Option<Instant> {
        match self.stage {
            Stage::Takes(page) => page,
            Stage::Asks | Stage::Waits => None,
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

    /// The answer is being written: the exposition of the time `page`, or one without an exposition.
    pub(super) fn takes(&self, page: Option<Instant>) {
        self.enter(Stage::Takes(page));
        self.places.all().bound_pages(Instant::now());
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
            place.takes(Some(start + Duration::from_secs(n / 2)));
        }
        assert_eq!(places.closed(), 0, "all have just begun");
        let later = Instant::now() + STALLED;
        places.all().held.get_mut(&1).unwrap().progress = later;
        places.all().bound_pages(later);
        assert_eq!((numbers(&places), places.closed()), ((1..10).collect(), 1));
    }

    #[test]
    fn those_that_are_slow_stay_while_the_number_of_expositions_allows_it() {
        let places = Arc::new(Places::new(100));
        let start = Instant::now();
        let held: Vec<Place> = (0..20).map(|_| places.take()).collect();
        for (n, place) in (0..).zip(&held) {
            if n == MOST_PAGES as u64 {
                assert_eq!(places.closed(), 0);
                held[0].progressed();
            }
            place.takes(Some(start + Duration::from_secs(n)));
        }
        let left: Vec<u64> = [0].into_iter().chain(5..20).collect();
        assert_eq!((numbers(&places), places.closed()), (left, 4));
        // Other answers keep no exposition, and cost nobody theirs.
        let wrong: Vec<Place> = (0..20).map(|_| places.take()).collect();
        for place in &wrong {
            place.takes(None);
        }
        assert_eq!((numbers(&places).len(), places.closed()), (36, 4));
    }
}
