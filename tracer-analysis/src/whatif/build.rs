//! From the demand to the answer.

use super::{
    AsItRan, Bridged, CurvePoint, Demand, Destination, Limits, Messages, Observed, Outcome,
    PathSummary, Policy, PolicyOutcome, SCHEMA, SetUp, WhatIf, WhatIfKind, demand::Cell, ran,
    replay,
};
use crate::{
    destination::Grouping,
    recording::Trust,
    report::{TOTAL, Window},
    utc::Utc,
};

/// Cache times of the curve, in seconds.
pub const CURVE_S: [f64; 16] =
    [0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0];

/// What to replay, and what the answer says besides.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// Hosts that were traced.
    pub hosts: Vec<String>,
    /// Version of smtptrace.
    pub version: String,
    /// When tracing began.
    pub start: Utc,
    /// When tracing ended.
    pub end: Utc,
    /// What was lost in tracing.
    pub trust: Trust,
    /// Cache times to try, in microseconds.
    pub cache_times_us: Vec<u64>,
    /// Messages of one connection at most.
    pub max_messages: Option<u32>,
    /// Age, in microseconds, from which on a connection is not kept.
    pub max_age_us: Option<u64>,
}

impl WhatIf {
    /// Replays `demand`.
    pub fn new(demand: &Demand, by: impl Into<Grouping>, context: Context) -> Self {
        let by = by.into();
        let groups = demand.groups(by);
        let mut destinations: Vec<Destination> =
            groups.into_iter().map(|(key, cells)| destination(key, &cells, &context)).collect();
        let mut totals = total(&destinations, &context);
        destinations.iter_mut().chain([&mut totals]).for_each(Destination::keep_what_fits);
        destinations.sort_by_cached_key(|one| {
            let best = one.policies.iter().map(|it| it.if_path_survives.saved_connections).max();
            (std::cmp::Reverse(best), std::cmp::Reverse(one.messages.replayed), one.key.clone())
        });
        Self {
            kind: WhatIfKind::WhatIf,
            schema: SCHEMA,
            version: context.version,
            hosts: context.hosts,
            window: Window::new(context.start, context.end),
            trust: context.trust,
            group_by: by.by,
            prefixes: by.used_prefixes(),
            limits: Limits {
                max_messages: context.max_messages,
                max_age_s: context.max_age_us.map(seconds),
            },
            totals,
            destinations,
        }
    }
}

impl Destination {
    /// Predicts nothing where the model does not even reproduce what ran.
    fn keep_what_fits(&mut self) {
        if self.as_it_ran.is_some_and(|ran| !ran.reproduces) {
            self.policies.clear();
            self.curve.clear();
        }
    }
}

/// The messages of one destination in the order in which they came, and what else is known of it.
struct Replayed {
    cell: Cell,
    observed: Observed,
    limits: Policy,
}

fn destination(key: String, cells: &[&Cell], context: &Context) -> Destination {
    let mut cell = Cell::default();
    for part in cells {
        cell.merge_counts(part);
        cell.messages.extend_from_slice(&part.messages);
    }
    cell.messages.sort_unstable();
    let observed = Observed {
        connections: cell.carrying,
        tls_handshakes: cell.encrypted,
        unused_connections: cell.unused,
    };
    let limits = Policy {
        cache_time_us: 0,
        max_messages: context.max_messages,
        max_age_us: context.max_age_us,
    };
    let of = Replayed { cell, observed, limits };
    let replayed = of.cell.messages.len() as u64;
    Destination {
        key,
        messages: Messages {
            replayed,
            counted: replayed + of.cell.left_out,
            uncounted_connections: of.cell.uncounted,
        },
        observed,
        as_it_ran: of.as_it_ran(),
        set_up: of.set_up(),
        path: Some(of.path()),
        policies: context.cache_times_us.iter().map(|&us| of.outcome(us)).collect(),
        curve: CURVE_S.iter().map(|&s| of.point(s)).collect(),
    }
}

impl Replayed {
    fn replay(&self, cache_time_us: u64, bridged_us: u64) -> Outcome {
        let policy = Policy { cache_time_us, ..self.limits };
        replay(&self.cell.messages, &policy, bridged_us, |_| true)
    }

    /// With the gaps that are known to be survived, and with all that are not known to end connections.
    fn both(&self, cache_time_us: u64) -> [Outcome; 2] {
        let path = &self.cell.path;
        let known = self.replay(cache_time_us, path.bridged_us());
        [known, self.replay(cache_time_us, path.end_us().saturating_sub(1))]
    }

    fn outcome(&self, cache_time_us: u64) -> PolicyOutcome {
        let [known, if_path_survives] =
            self.both(cache_time_us).map(|outcome| self.bridged(&outcome));
        PolicyOutcome { cache_time_s: seconds(cache_time_us), known, if_path_survives }
    }

    fn point(&self, cache_time_s: f64) -> CurvePoint {
        let [known, possible] =
            self.both(micros(cache_time_s)).map(|outcome| self.bridged(&outcome));
        CurvePoint {
            cache_time_s,
            connections: known.connections,
            connections_if_path_survives: possible.connections,
            saved_s: known.saved_s,
            saved_s_if_path_survives: possible.saved_s,
        }
    }

    fn bridged(&self, outcome: &Outcome) -> Bridged {
        let saved = less(self.observed.connections, outcome.connections);
        let set_up_us = self.cell.set_up_us.quantile(0.5);
        Bridged {
            connections: outcome.connections,
            saved_connections: saved,
            tls_handshakes: outcome.tls_handshakes,
            saved_tls_handshakes: less(self.observed.tls_handshakes, outcome.tls_handshakes),
            saved_s: set_up_us.map(|us| saved as f64 * seconds(us)),
            unpriced_connections: if set_up_us.is_none() { saved } else { 0 },
            peak_open: outcome.peak_open,
        }
    }

    fn as_it_ran(&self) -> Option<AsItRan> {
        let messages = &self.cell.messages;
        let policy = ran::policy(&self.cell);
        let connections = replay(messages, &policy, u64::MAX, |message| message.kept).connections;
        let kept = messages.iter().filter(|message| message.kept).count() as u64;
        let cache_time_s = Some(seconds(policy.cache_time_us));
        check(cache_time_s, (kept, messages.len() as u64), connections, self.observed.connections)
    }

    fn set_up(&self) -> SetUp {
        let cell = &self.cell;
        SetUp {
            measured_connections: cell.set_up_us.count(),
            total_us: cell.set_up_us.quantile(0.5),
            connect_us: cell.connect_us.quantile(0.5),
            greeting_us: cell.greeting_us.quantile(0.5),
            tls_handshake_us: cell.tls_handshake_us.quantile(0.5),
        }
    }

    fn path(&self) -> PathSummary {
        let path = &self.cell.path;
        PathSummary {
            survived_s: path.survived_us().map(seconds),
            died_s: path.died_us().map(seconds),
            closed_by_server_s: path.closed_by_server_us().map(seconds),
            bridged_s: seconds(path.bridged_us()),
        }
    }
}

/// `kept`: of how many messages.
fn check(
    cache_time_s: Option<f64>,
    (kept, messages): (u64, u64),
    connections: u64,
    observed: u64,
) -> Option<AsItRan> {
    if observed == 0 || messages == 0 {
        return None;
    }
    let difference = connections as f64 / observed as f64 - 1.0;
    Some(AsItRan {
        cache_time_s,
        kept_share: kept as f64 / messages as f64,
        connections,
        difference,
        reproduces: difference.abs() <= AsItRan::TOLERANCE,
    })
}

/// All destinations together.
fn total(destinations: &[Destination], context: &Context) -> Destination {
    let sum = |of: fn(&Destination) -> u64| destinations.iter().map(of).sum::<u64>();
    let messages = Messages {
        replayed: sum(|one| one.messages.replayed),
        counted: sum(|one| one.messages.counted),
        uncounted_connections: sum(|one| one.messages.uncounted_connections),
    };
    let observed = Observed {
        connections: sum(|one| one.observed.connections),
        tls_handshakes: sum(|one| one.observed.tls_handshakes),
        unused_connections: sum(|one| one.observed.unused_connections),
    };
    let ran = destinations.iter().filter_map(|one| one.as_it_ran.map(|ran| (ran, one)));
    let (mut connections, mut kept) = (0, 0.0);
    for (ran, one) in ran {
        connections += ran.connections;
        kept += ran.kept_share * one.messages.replayed as f64;
    }
    let mut as_it_ran = check(None, (0, messages.replayed), connections, observed.connections);
    if let Some(ran) = &mut as_it_ran {
        ran.kept_share = kept / messages.replayed as f64;
    }
    let times = context.cache_times_us.iter().enumerate();
    let points = CURVE_S.iter().enumerate();
    Destination {
        key: TOTAL.to_owned(),
        messages,
        observed,
        as_it_ran,
        set_up: SetUp {
            measured_connections: sum(|one| one.set_up.measured_connections),
            ..SetUp::default()
        },
        path: None,
        policies: times.map(|(i, &us)| total_outcome(destinations, i, us)).collect(),
        curve: points.map(|(i, &s)| total_point(destinations, i, s)).collect(),
    }
}

fn total_outcome(destinations: &[Destination], i: usize, cache_time_us: u64) -> PolicyOutcome {
    let all = |of: fn(&PolicyOutcome) -> &Bridged| {
        let parts = destinations.iter().filter_map(|one| one.policies.get(i)).map(of);
        parts.fold(Bridged::default(), |sum, one| Bridged {
            connections: sum.connections + one.connections,
            saved_connections: sum.saved_connections + one.saved_connections,
            tls_handshakes: sum.tls_handshakes + one.tls_handshakes,
            saved_tls_handshakes: sum.saved_tls_handshakes + one.saved_tls_handshakes,
            saved_s: sum_of_known(sum.saved_s, one.saved_s),
            unpriced_connections: sum.unpriced_connections + one.unpriced_connections,
            peak_open: sum.peak_open + one.peak_open,
        })
    };
    PolicyOutcome {
        cache_time_s: seconds(cache_time_us),
        known: all(|it| &it.known),
        if_path_survives: all(|it| &it.if_path_survives),
    }
}

fn total_point(destinations: &[Destination], i: usize, cache_time_s: f64) -> CurvePoint {
    let points = destinations.iter().filter_map(|one| one.curve.get(i));
    let none = CurvePoint { cache_time_s, ..CurvePoint::default() };
    points.fold(none, |sum, one| CurvePoint {
        connections: sum.connections + one.connections,
        connections_if_path_survives: sum.connections_if_path_survives
            + one.connections_if_path_survives,
        saved_s: sum_of_known(sum.saved_s, one.saved_s),
        saved_s_if_path_survives: sum_of_known(
            sum.saved_s_if_path_survives,
            one.saved_s_if_path_survives,
        ),
        ..sum
    })
}

/// The sum; unknown only if both are.
fn sum_of_known(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

fn less(observed: u64, needed: u64) -> i64 {
    i64::try_from(observed).unwrap_or(i64::MAX) - i64::try_from(needed).unwrap_or(i64::MAX)
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive and far below the range; float to integer saturates"
)]
fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}
