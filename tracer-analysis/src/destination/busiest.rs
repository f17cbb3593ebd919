//! Which of many keys have a place where places are few: the busiest, not those that came first.

use std::{cmp::Ordering, collections::BTreeMap};

use crate::utc::Utc;

/// Time after which what was counted weighs half.
const HALF_LIFE_US: f64 = 86_400e6;

/// Half-lives after which all scores are made small again.
const RESCALED: f64 = 256.0;

/// Keys without a place whose scores are kept.
const CANDIDATES: usize = 1024;

/// How much busier a key must be than the one whose place it takes: this many times, and [`MARGIN`] connections.
/// So places change hands seldom.
const FACTOR: f64 = 2.0;
/// See [`FACTOR`].
const MARGIN: f64 = 8.0;

/// Keys that have a place. Each has a score, the sum of its weights; older weights count less.
///
/// A key that is new takes a place that is free. Where none is, or its owner has its share of them, it takes that
/// of the least busy one (of that owner) as soon as it is much busier. So nobody who shows many keys, however
/// early, keeps others from theirs for long, and with more owners than one never takes all.
#[derive(Debug, Clone)]
pub(super) struct Busiest<K, O> {
    limit: usize,
    share: usize,
    /// When a weight of 1 is a score of 1.
    epoch: Option<Utc>,
    /// The latest time so far. Earlier ones weigh like it: after the clock was set back, nothing new would count.
    latest: Utc,
    /// In the order of the keys.
    kept: Vec<Kept<K, O>>,
    owned: BTreeMap<O, usize>,
    /// In the order of the keys, with their scores.
    candidates: Vec<(K, f64)>,
    /// No score of `kept` is below.
    floor: f64,
}

#[derive(Debug, Clone)]
struct Kept<K, O> {
    key: K,
    owner: Option<O>,
    score: f64,
}

/// Where something counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<K> {
    /// Its key has a place.
    Own,
    /// Its key has the place that this one had, which is to be added to the others.
    Instead(K),
    /// With the others.
    Others,
}

impl<K, O: Ord + Clone> Busiest<K, O> {
    /// `limit` places; one owner has at most `share` of them.
    pub(super) fn new(limit: usize, share: usize) -> Self {
        Self {
            limit,
            share,
            epoch: None,
            latest: Utc::from_micros(i64::MIN),
            kept: Vec::new(),
            owned: BTreeMap::new(),
            candidates: Vec::new(),
            floor: 0.0,
        }
    }

    /// Gives `weight` of the time `at` to the key that `find` compares with others and `make` makes. Keys without
    /// an owner have no share. A weight of 0 takes no place but a free one.
    pub(super) fn place(
        &mut self,
        find: impl Fn(&K) -> Ordering,
        make: impl Fn() -> K,
        owner: Option<O>,
        weight: u64,
        at: Utc,
    ) -> Place<K> {
        let one = self.score_of_one(at);
        let score = one * weight as f64;
        let Err(to) = self.kept.binary_search_by(|kept| find(&kept.key)).map(|at| {
            self.kept[at].score += score;
        }) else {
            return Place::Own;
        };
        let is_over = owner.as_ref().is_some_and(|owner| self.owned_by(owner) >= self.share);
        if !is_over && self.kept.len() < self.limit {
            self.floor = self.floor.min(score);
            self.keep(to, Kept { key: make(), owner, score });
            return Place::Own;
        }
        if weight == 0 || self.limit == 0 {
            return Place::Others;
        }
        let candidate = self.candidate(&find, &make, score);
        let score = self.candidates[candidate].1;
        let most = (score - MARGIN * one) / FACTOR;
        if most <= 0.0 || !is_over && most <= self.floor {
            return Place::Others;
        }
        let may_go = |kept: &&Kept<K, O>| !is_over || kept.owner == owner;
        let scores = self.kept.iter().filter(may_go).map(|kept| kept.score);
        let least = scores.min_by(f64::total_cmp).unwrap_or(f64::INFINITY);
        if !is_over {
            self.floor = least;
        }
        let goes = |kept: &Kept<K, O>| may_go(&kept) && kept.score <= least;
        let Some(gone) = self.kept.iter().position(goes).filter(|_| least < most) else {
            return Place::Others;
        };
        let gone = self.remove(gone);
        let (key, _) = self.candidates.remove(candidate);
        let to = self.kept.partition_point(|kept| find(&kept.key) == Ordering::Less);
        self.keep(to, Kept { key, owner, score });
        Place::Instead(gone)
    }

    /// Lets only the `limit` busiest keep their places. Returns the others.
    pub(super) fn shrink_to(&mut self, limit: usize) -> Vec<K> {
        self.limit = limit;
        let mut gone = Vec::new();
        while self.kept.len() > limit {
            let scores = self.kept.iter().map(|kept| kept.score).enumerate();
            let Some((at, _)) = scores.min_by(|(_, a), (_, b)| a.total_cmp(b)) else { break };
            gone.push(self.remove(at));
        }
        gone
    }

    /// There are `limit` places from now on, no fewer than before.
    pub(super) fn grow_to(&mut self, limit: usize) {
        self.limit = self.limit.max(limit);
    }

    /// Frees the places of all keys that `is_gone` names.
    pub(super) fn forget(&mut self, is_gone: impl Fn(&K) -> bool) {
        while let Some(at) = self.kept.iter().position(|kept| is_gone(&kept.key)) {
            self.remove(at);
        }
    }

    fn owned_by(&self, owner: &O) -> usize {
        self.owned.get(owner).copied().unwrap_or(0)
    }

    fn keep(&mut self, to: usize, kept: Kept<K, O>) {
        if let Some(owner) = &kept.owner {
            *self.owned.entry(owner.clone()).or_default() += 1;
        }
        self.kept.insert(to, kept);
    }

    fn remove(&mut self, at: usize) -> K {
        let Kept { key, owner, .. } = self.kept.remove(at);
        if let Some(owner) = owner
            && let Some(owned) = self.owned.get_mut(&owner)
        {
            *owned -= 1;
            if *owned == 0 {
                self.owned.remove(&owner);
            }
        }
        key
    }

    /// Adds to the score of a key without a place. Returns where it is; the least busy one goes for it.
    fn candidate(
        &mut self,
        find: &impl Fn(&K) -> Ordering,
        make: &impl Fn() -> K,
        score: f64,
    ) -> usize {
        let search = |all: &[(K, f64)]| all.binary_search_by(|(key, _)| find(key));
        if let Ok(at) = search(&self.candidates) {
            self.candidates[at].1 += score;
            return at;
        }
        if self.candidates.len() >= CANDIDATES {
            let scores = self.candidates.iter().map(|(_, score)| *score).enumerate();
            let least = scores.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at);
            least.map(|at| self.candidates.remove(at));
        }
        let at = search(&self.candidates).unwrap_or_else(|at| at);
        self.candidates.insert(at, (make(), score));
        at
    }

    /// The score that a weight of 1 has at `at`. Instead of all others becoming smaller, it becomes larger.
    fn score_of_one(&mut self, at: Utc) -> f64 {
        self.latest = self.latest.max(at);
        let at = self.latest;
        let epoch = *self.epoch.get_or_insert(at);
        let half_lives = at.micros().saturating_sub(epoch.micros()) as f64 / HALF_LIFE_US;
        if half_lives < RESCALED {
            return half_lives.exp2();
        }
        let scale = (-half_lives).exp2();
        self.kept.iter_mut().for_each(|kept| kept.score *= scale);
        self.candidates.iter_mut().for_each(|(_, score)| *score *= scale);
        (self.floor, self.epoch) = (self.floor * scale, Some(at));
        1.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn place(of: &mut Busiest<u32, u8>, key: u32, owner: u8, at: i64) -> Place<u32> {
        of.place(|it| it.cmp(&key), || key, Some(owner), 1, Utc::from_micros(at))
    }

    fn keys(of: &Busiest<u32, u8>) -> Vec<u32> {
        of.kept.iter().map(|kept| kept.key).collect()
    }

    #[test]
    fn one_owner_does_not_take_all_places() {
        let mut busiest = Busiest::new(8, 2);
        for key in 0..100 {
            place(&mut busiest, key, 1, 0);
        }
        assert_eq!(keys(&busiest), [0, 1]);
        for (owner, key) in (2..).zip(200..206) {
            assert_eq!(place(&mut busiest, key, owner, 0), Place::Own);
        }
        // It may have other ones instead, never more.
        let ends: Vec<_> = (0..12).map(|_| place(&mut busiest, 50, 1, 0)).collect();
        assert_eq!(ends.last(), Some(&Place::Own));
        assert!(ends.contains(&Place::Instead(0)), "{ends:?}");
        assert_eq!(keys(&busiest), [1, 50, 200, 201, 202, 203, 204, 205]);
    }

    #[test]
    fn those_that_came_first_make_room_for_busier_ones() {
        let mut busiest = Busiest::new(100, 100);
        for key in 0..100 {
            assert_eq!(place(&mut busiest, key, 1, 0), Place::Own);
        }
        // A flood of others, each once, takes nobody's place and not the memory of who is busy.
        let mut flood = 1_000..;
        let mut changed = 0;
        for _ in 0..20 {
            changed += u32::from(matches!(place(&mut busiest, 500, 2, 0), Place::Instead(_)));
            for key in flood.by_ref().take(1_000) {
                assert_eq!(place(&mut busiest, key, 3, 0), Place::Others);
            }
        }
        assert_eq!((changed, busiest.kept.len()), (1, 100));
        assert!(keys(&busiest).contains(&500) && busiest.candidates.len() <= CANDIDATES);
    }

    #[test]
    fn what_was_busy_long_ago_makes_room() {
        let mut busiest = Busiest::new(1, 1);
        for _ in 0..1_000 {
            place(&mut busiest, 1, 1, 0);
        }
        let mut gone = |key, at| {
            let mut attempts = (0..40).map(|_| place(&mut busiest, key, 2, at));
            attempts.find(|it| *it != Place::Others)
        };
        assert_eq!(gone(2, DAY), None);
        assert_eq!(gone(3, 14 * DAY), Some(Place::Instead(1)));
        // Also when all scores were made small again, and when the clock goes back.
        assert_eq!(gone(4, 3_000 * DAY), Some(Place::Instead(3)));
        assert_eq!(gone(5, 2_999 * DAY), Some(Place::Instead(4)));
        assert_eq!(gone(6, 0), None, "not yet busier than the one before");
        assert_eq!(gone(6, 0), Some(Place::Instead(5)));
        assert_eq!(keys(&busiest), [6]);
    }

    proptest! {
        #[test]
        fn bounds_hold_and_places_are_accounted_for(
            given in prop::collection::vec((0..40_u32, 0..4_u8, 0..600 * DAY), 0..400),
            limit in 0..8_usize,
            share in 1..4_usize,
        ) {
            let mut busiest = Busiest::new(limit, share);
            let mut mine = std::collections::BTreeSet::new();
            for (key, owner, at) in given {
                match place(&mut busiest, key, owner, at) {
                    Place::Own => { mine.insert(key); }
                    Place::Instead(gone) => {
                        prop_assert!(mine.remove(&gone) && mine.insert(key));
                    }
                    Place::Others => prop_assert!(!mine.contains(&key)),
                }
                prop_assert!(busiest.kept.len() <= limit);
                prop_assert!(busiest.owned.values().all(|n| *n <= share));
                prop_assert!(busiest.kept.iter().all(|it| it.score >= busiest.floor));
            }
            prop_assert_eq!(keys(&busiest), mine.into_iter().collect::<Vec<_>>());
        }
    }
}
