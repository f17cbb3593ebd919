//! When connections arrived at a server, how it received them, and when they stood idle.

use std::hash::{DefaultHasher, Hasher as _};

use crate::{
    connection::{Connection, EndCause, Family, SeenFrom},
    destination::{
        fold::family,
        lane::Lane,
        packed::{unzigzag, zigzag},
        reception::{Reception, refusal},
    },
};

/// Longest time after the end of a connection at which it still matters here: the sliding minute.
const AFTER_S: i64 = 60;

/// One connection, as the server saw it. Durations are in steps of [`STEP_US`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrival {
    /// When it was established, or tried, in microseconds since 1970, above [`FACT_BITS`] of facts.
    at_and_facts: i64,
    /// How long it existed after that.
    held: u32,
    /// When it began to stand idle after its last message, after `at`; [`NEVER`] if it did not.
    idle_from: u32,
}

/// Precision of durations, in microseconds: 32 bits of them are 19 hours.
const STEP_US: u64 = 16;
/// Bits of [`Facts`].
const FACT_BITS: u32 = 8;
const NEVER: u32 = u32::MAX;

/// What else is known of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) reception: Reception,
    /// Whether it carried a message, if that is known.
    pub(super) carried: Option<bool>,
    /// Carried messages, but when it stood idle is not known.
    pub(super) rests_unknown: bool,
    /// It was open before tracing began.
    pub(super) midlife: bool,
    /// We ended it in good health, and could have kept it.
    keepable: bool,
}

impl Facts {
    fn pack(self) -> i64 {
        let carried = match self.carried {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        };
        let flags = [self.rests_unknown, self.midlife, self.keepable];
        let flags = flags.iter().fold(0, |bits, flag| bits << 1 | i64::from(*flag));
        flags << 5 | carried << 3 | self.reception as i64
    }

    const fn unpack(bits: i64) -> Self {
        Self {
            reception: match bits & 7 {
                0 => Reception::Accepted,
                1 => Reception::Refused,
                2 => Reception::ConnectRefused,
                3 => Reception::Unanswered,
                _ => Reception::Unknown,
            },
            carried: match bits >> 3 & 3 {
                1 => Some(false),
                2 => Some(true),
                _ => None,
            },
            rests_unknown: bits & 1 << 7 != 0,
            midlife: bits & 1 << 6 != 0,
            keepable: bits & 1 << 5 != 0,
        }
    }
}

impl Arrival {
    #[cfg(test)]
    pub(super) const fn sample((at_and_facts, held, idle_from): (i64, u32, u32)) -> Self {
        Self { at_and_facts, held, idle_from }
    }

    fn new(connection: &Connection) -> Self {
        let connect_us = connection.connect_us.unwrap_or(0);
        let at = connection.start.plus_micros(connect_us);
        let facts = Facts {
            reception: Reception::of(connection),
            carried: connection.transactions.map(|messages| messages > 0),
            rests_unknown: spans(connection).is_none(),
            midlife: connection.seen_from == SeenFrom::Midlife,
            keepable: ended_by_us(connection),
        };
        let last = usable_spans(connection, facts.reception).last().filter(|_| !connection.died());
        Self {
            at_and_facts: at.micros().clamp(i64::MIN >> FACT_BITS, i64::MAX >> FACT_BITS)
                << FACT_BITS
                | facts.pack(),
            held: steps(connection.end().micros_since(at)),
            // As late as the connect of a new connection: see `rests`.
            idle_from: last.map_or(NEVER, |[_, end]| steps(*end).min(NEVER - 1)),
        }
    }

    /// As it is kept: the end of most rests is close to that of the connection.
    pub(super) fn packed(&self) -> (i64, [u64; 2]) {
        let before_end = i64::from(self.held) - i64::from(self.idle_from);
        let idle = if self.idle_from == NEVER { 0 } else { zigzag(before_end) + 1 };
        (self.at_and_facts, [self.held.into(), idle])
    }

    /// What was packed so.
    pub(super) fn unpacked((at_and_facts, [held, idle]): (i64, [u64; 2])) -> Self {
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        let idle_from = idle.checked_sub(1).map_or(NEVER, |before_end| {
            u32::try_from(i64::from(held) - unzigzag(before_end)).unwrap_or(NEVER)
        });
        Self { at_and_facts, held, idle_from }
    }

    pub(super) const fn at(&self) -> i64 {
        self.at_and_facts >> FACT_BITS
    }

    pub(super) const fn facts(&self) -> Facts {
        Facts::unpack(self.at_and_facts)
    }

    /// When it was gone, in microseconds since 1970.
    pub(super) fn end(&self) -> i64 {
        self.at().saturating_add(micros(self.held))
    }

    /// When it could have taken another message after its last one: until it ended, and for a while after
    /// we ended it ourselves.
    pub(super) fn last_rest(&self) -> Option<Rest> {
        let from =
            self.at().saturating_add(micros(Some(self.idle_from).filter(|it| *it != NEVER)?));
        let kept = if self.facts().keepable { Arrivals::KEEPABLE_S * 1_000_000 } else { 0 };
        let length = self.end().saturating_add(kept).checked_sub(from)?;
        let length = u64::try_from(length).ok().filter(|it| *it >= Arrivals::SHORTEST_REST_US)?;
        Some(Rest { from, length: steps(length) })
    }
}

/// A time in which a connection could have taken another message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rest {
    /// Begin, in microseconds since 1970.
    pub(super) from: i64,
    length: u32,
}

impl Rest {
    /// As it is kept.
    pub(super) fn packed(&self) -> (i64, [u64; 1]) {
        (self.from, [self.length.into()])
    }

    /// What was packed so.
    pub(super) fn unpacked((from, [length]): (i64, [u64; 1])) -> Self {
        Self { from, length: u32::try_from(length).unwrap_or(u32::MAX) }
    }

    pub(super) fn until(&self) -> i64 {
        self.from.saturating_add(micros(self.length))
    }
}

fn steps(micros: u64) -> u32 {
    u32::try_from(micros.div_ceil(STEP_US)).unwrap_or(u32::MAX)
}

fn micros(steps: u32) -> i64 {
    i64::from(steps) * STEP_US.cast_signed()
}

/// Spans of all messages of a connection; `None` if it carried some at times that are not known.
fn spans(connection: &Connection) -> Option<&[[u64; 2]]> {
    match (connection.transactions, connection.transaction_spans_us.as_deref()) {
        (Some(0), _) => Some(&[]),
        (Some(_), Some(spans)) if connection.transaction_spans_omitted == 0 => Some(spans),
        _ => None,
    }
}

/// The arrivals of a set of connections, in bounded memory.
///
/// Up to [`Self::KEPT`] connections and rests are kept. Beyond that only those of some minutes are: at
/// level `n`, of one minute in 2^n, drawn by a hash of the minute. Such a minute is complete, with all
/// that was open in it or was opened in the minute before, so what is computed for it is exact. The level
/// depends on the set only, not on the order in which it was added.
#[derive(Debug, Clone, Default)]
pub struct Arrivals {
    pub(super) lanes: Vec<Lane>,
    level: u32,
    count: usize,
    established: u64,
}

impl Arrivals {
    /// Connections and rests that are kept before minutes are drawn.
    pub const KEPT: usize = 4096;
    /// Shortest gap between two messages in which another one would have had room: 0.1 s.
    const SHORTEST_REST_US: u64 = 100_000;
    /// Time after our own close in which a connection could still have been there, had we kept it:
    /// as long as `OpenSMTPD` keeps its own, and much shorter than any server's patience (RFC 5321
    /// section 4.5.3.2.7: 5 minutes).
    pub const KEEPABLE_S: i64 = 10;

    /// Adds a connection.
    pub fn add(&mut self, connection: &Connection) {
        let arrival = Arrival::new(connection);
        let facts = arrival.facts();
        self.established += u64::from(facts.reception == Reception::Accepted);
        let rests = rests(connection, &arrival);
        let level = self.level;
        let lane = self.lane(lane_of(connection));
        let mut added = 0;
        if is_kept(arrival.at(), arrival.end(), level) {
            lane.add_arrival(arrival);
            added += 1;
        }
        for rest in rests.filter(|rest| is_kept(rest.from, rest.until(), level)) {
            lane.add_rest(rest);
            added += 1;
        }
        self.count += added;
        self.thin();
    }

    /// Adds all connections of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.established += other.established;
        let level = self.level.max(other.level);
        self.raise_to(level);
        for theirs in &other.lanes {
            let lane = self.lane(theirs.id());
            let before = lane.len();
            lane.merge(theirs, |from, until| is_kept(from, until, level));
            self.count += lane.len() - before;
        }
        self.thin();
    }

    /// Whether these are only some of the minutes.
    pub const fn is_sample(&self) -> bool {
        self.level > 0
    }

    /// Share of the minutes that are kept.
    pub fn share_kept(&self) -> f64 {
        0.5_f64.powi(self.level.cast_signed())
    }

    /// Whether what happened at `at` is judged: its minute is kept.
    pub(super) fn is_judged(&self, at: i64) -> bool {
        minute_is_kept(at.div_euclid(MINUTE_US), self.level)
    }

    fn lane(&mut self, id: u64) -> &mut Lane {
        let at = match self.lanes.binary_search_by_key(&id, Lane::id) {
            Ok(at) => at,
            Err(at) => {
                self.lanes.reserve_exact(1);
                self.lanes.insert(at, Lane::new(id));
                at
            }
        };
        &mut self.lanes[at]
    }

    fn thin(&mut self) {
        while self.count > Self::KEPT {
            self.raise_to(self.level + 1);
        }
    }

    fn raise_to(&mut self, level: u32) {
        if level <= self.level {
            return;
        }
        self.level = level;
        for lane in &mut self.lanes {
            let all = std::mem::replace(lane, Lane::new(lane.id()));
            lane.merge(&all, |from, until| is_kept(from, until, level));
        }
        self.lanes.retain(|lane| lane.len() > 0);
        self.count = self.lanes.iter().map(Lane::len).sum();
    }
}

const MINUTE_US: i64 = 60_000_000;
/// Level at which nothing is kept.
const LAST_LEVEL: u32 = 40;
/// Minutes looked at for one connection: two weeks.
const LONGEST: i64 = 14 * 24 * 60;

/// Whether something that lasted from `from` to `until` is kept.
fn is_kept(from: i64, until: i64, level: u32) -> bool {
    if level == 0 {
        return true;
    }
    let first = from.div_euclid(MINUTE_US);
    let last = until.saturating_add(AFTER_S * 1_000_000).div_euclid(MINUTE_US);
    (first..=last.min(first + LONGEST)).any(|minute| minute_is_kept(minute, level))
}

fn minute_is_kept(minute: i64, level: u32) -> bool {
    level < LAST_LEVEL && hash_of(&minute).trailing_zeros() >= level
}

fn hash_of(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn lane_of(connection: &Connection) -> u64 {
    let hash = hash_of(&(&connection.host, connection.netns, connection.src, connection.dport));
    hash & !1 | u64::from(family(connection.src.to_canonical()) == Family::Ipv6)
}

/// When `connection` could have taken another message between two of its own.
///
/// All is shifted by the time that the connect took: a new connection arrives that much later than the
/// moment at which it was wanted.
fn rests(connection: &Connection, arrival: &Arrival) -> impl Iterator<Item = Rest> {
    let at = arrival.at();
    let spans = usable_spans(connection, arrival.facts().reception);
    spans.windows(2).filter_map(move |pair| {
        let ([_, from], [until, _]) = (pair[0], pair[1]);
        let length = until.saturating_sub(from);
        let from = at.saturating_add_unsigned(from);
        (length >= Arrivals::SHORTEST_REST_US).then(|| Rest { from, length: steps(length) })
    })
}

/// Spans of the messages of a connection in good health, if they are known.
fn usable_spans(connection: &Connection, reception: Reception) -> &[[u64; 2]] {
    let healthy = reception == Reception::Accepted
        && refusal(connection).is_none()
        && connection.seen_from == SeenFrom::Connect;
    spans(connection).filter(|_| healthy).unwrap_or_default()
}

/// Whether we ended a connection in good health: by our close, or by a QUIT, whatever followed it.
fn ended_by_us(connection: &Connection) -> bool {
    matches!(connection.end_cause, EndCause::LocalFin | EndCause::RstSent)
        || connection.ended_by_quit()
}
