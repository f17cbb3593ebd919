//! The families with a label `destination`.

use std::{collections::BTreeMap, sync::Arc};

use tracer_analysis::{
    connection::Family as AddressFamily,
    destination::{Aggregate, FAILURE_NAMES, GREETING_CODES, IdleGaps, OTHER, Reception, Steady},
};

use super::family::{Description, Family, Label, counter, gauge};
use crate::sink::json::word;

/// A family and where its samples come from.
type Source = (Description, fn(&One<'_>, &mut Family));

/// One destination.
pub(super) struct One<'a> {
    name: Arc<str>,
    steady: &'a Steady<'a>,
}

impl<'a> One<'a> {
    pub(super) fn new(name: Arc<str>, steady: &'a Steady<'a>) -> Self {
        Self { name, steady }
    }

    /// Its label and `others`.
    fn labels<const N: usize>(&self, others: [Label; N]) -> Vec<Label> {
        [("destination", Arc::clone(&self.name))].into_iter().chain(others).collect()
    }

    fn all(&self) -> &Aggregate {
        &self.steady.group.all
    }

    fn idle(&self) -> Option<&IdleGaps> {
        self.all().idle.as_deref()
    }

    /// By address family, as far as there were connections.
    fn families(&self) -> impl Iterator<Item = (Label, &Aggregate)> {
        let group = &self.steady.group;
        let families =
            [(AddressFamily::Ipv4, &group.ipv4), (AddressFamily::Ipv6, &group.ipv6)].into_iter();
        families.filter_map(|(family, of)| Some((("family", word(family)), of.as_ref()?)))
    }

    /// The sum of a count over the address families. That of `all` has a bound of its own.
    fn by_code(&self) -> BTreeMap<u16, u64> {
        let mut codes = BTreeMap::new();
        for (_, of) in self.families() {
            for (code, n) in of.greeting_codes.iter() {
                *codes.entry(*code).or_default() += n;
            }
        }
        codes
    }
}

const NONE: [Label; 0] = [];

/// All of them, but for histograms and verdicts.
pub(super) const SOURCES: &[Source] = &[
    (
        counter(
            "smtptrace_connections",
            "Connections that ended, also those that were never established.",
        ).times(2),
        |one, family| {
            for (label, of) in one.families() {
                family.count(one.labels([label]), of.connections);
            }
        },
    ),
    (
        counter(
            "smtptrace_connect_failures",
            "Connections that were never established, by error; gave_up if the application closed first.",
        ).times(2 * (FAILURE_NAMES + 1)),
        |one, family| {
            for (label, of) in one.families() {
                for (error, n) in of.failures.iter() {
                    let error = ("error", Arc::from(error.as_str()));
                    family.count(one.labels([label.clone(), error]), *n);
                }
            }
        },
    ),
    (
        counter(
            "smtptrace_endings",
            "Connections by what ended them and when: in connect, greeting, dialogue, idle or reuse.",
        ).times(8 * 6),
        |one, family| {
            for ((cause, during), n) in &one.steady.tallies.endings {
                let labels = [("cause", word(cause)), ("during", word(during))];
                family.count(one.labels(labels), *n);
            }
        },
    ),
    (
        counter(
            "smtptrace_died",
            "Established connections that ended in a reset, in a timeout or without an answer.",
        ),
        |one, family| family.count(one.labels(NONE), one.all().died),
    ),
    (
        counter(
            "smtptrace_receptions",
            "Connections by how the server received them: accepted, refused, connect_refused, unanswered.",
        ).times(5),
        |one, family| {
            for (reception, n) in &one.steady.tallies.receptions {
                let labels = [("reception", Arc::from(reception_word(*reception)))];
                family.count(one.labels(labels), *n);
            }
        },
    ),
    (
        counter("smtptrace_greetings", "Greetings by reply code; 0 is all beyond the first 32 codes.").times(2 * GREETING_CODES + 1),
        |one, family| {
            for (code, n) in one.by_code() {
                family.count(one.labels([("code", code.to_string().into())]), n);
            }
        },
    ),
    (
        counter(
            "smtptrace_messages",
            "Messages handed over, by how they were counted and whether that is exact.",
        ).times(6),
        |one, family| by_method(one, family, |carried| carried.messages),
    ),
    (
        counter(
            "smtptrace_connections_counted",
            "Established connections whose messages could be counted.",
        ).times(6),
        |one, family| by_method(one, family, |carried| carried.connections),
    ),
    (
        counter("smtptrace_connections_with_message", "Those of them that carried a message.").times(6),
        |one, family| by_method(one, family, |carried| carried.carrying),
    ),
    (
        counter("smtptrace_connections_unused", "Those of them that ended without a message."),
        |one, family| family.count(one.labels(NONE), one.all().messages.unused),
    ),
    (
        gauge(
            "smtptrace_reuse_missed",
            "Connections opened although a usable one was there, among those that could be judged.",
        ),
        |one, family| {
            // Of the others it cannot be said: they are not one destination.
            if &*one.name != OTHER {
                let missed = one.all().arrivals.missed_reuse();
                let known = (missed.judged > 0).then_some(missed.missed as f64);
                family.number(one.labels(NONE), known);
            }
        },
    ),
    (
        counter(
            "smtptrace_connections_midlife",
            "Connections that were open before tracing began; of unknown age.",
        ),
        |one, family| family.count(one.labels(NONE), one.all().midlife),
    ),
    (
        counter("smtptrace_sent_bytes", "Payload bytes sent, retransmissions included.")
            .measured_in("bytes"),
        |one, family| known(one, family, one.all().bytes_sent),
    ),
    (
        counter("smtptrace_received_bytes", "Payload bytes received.").measured_in("bytes"),
        |one, family| known(one, family, one.all().bytes_received),
    ),
    (
        counter("smtptrace_retransmits", "Segments retransmitted."),
        |one, family| known(one, family, one.all().retransmits),
    ),
    (
        counter(
            "smtptrace_dead_on_reuse",
            "Sessions that were dead when they were used again after 1 s or more.",
        ),
        |one, family| known(one, family, one.idle().map(|idle| idle.dead_on_reuse)),
    ),
    (
        counter("smtptrace_dead_on_reuse_cost_seconds", "Time lost on them.").measured_in("seconds"),
        |one, family| {
            let cost = one.idle().map(|idle| seconds(idle.dead_on_reuse_us));
            family.number(one.labels(NONE), cost);
        },
    ),
    (
        counter(
            "smtptrace_idle_gaps",
            "Idle gaps by what became of them: survived, closed_by_server, untested or died.",
        ).times(4),
        |one, family| {
            for (outcome, n) in one.idle().into_iter().flat_map(outcomes) {
                family.count(one.labels([("outcome", outcome.into())]), n);
            }
        },
    ),
    (
        counter(
            "smtptrace_idle_deaths",
            "Gaps of 1 s or more at whose end the session was dead, by manner and suspect.",
        ).times(9),
        |one, family| {
            for ((manner, killer), gaps) in one.idle().into_iter().flat_map(|idle| idle.deaths.iter()) {
                let labels =
                    [("manner", manner.as_str().into()), ("suspect", killer.as_str().into())];
                family.count(one.labels(labels), gaps.count());
            }
        },
    ),
    (
        gauge(
            "smtptrace_idle_survived_seconds",
            "Longest idle gap after which sessions were alive; below the limit, if there is one.",
        )
        .measured_in("seconds"),
        |one, family| {
            let survived = one.idle().and_then(|idle| match idle.limit() {
                Some(limit) => limit.alive_us,
                None => idle.longest_alive_us(),
            });
            family.number(one.labels(NONE), survived.map(seconds));
        },
    ),
    (
        gauge(
            "smtptrace_idle_limit_seconds",
            "Idle gap from which on sessions were dead; absent if there is no such limit.",
        )
        .measured_in("seconds"),
        |one, family| {
            let limit = one.idle().and_then(IdleGaps::limit);
            family.number(one.labels(NONE), limit.map(|limit| seconds(limit.dead_us)));
        },
    ),
];

fn by_method(
    one: &One<'_>,
    family: &mut Family,
    count: fn(&tracer_analysis::destination::Carried) -> u64,
) {
    for ((method, exact), carried) in &one.steady.tallies.carried {
        let exact = if *exact { "true" } else { "false" };
        let labels = [("method", word(method)), ("exact", exact.into())];
        family.count(one.labels(labels), count(carried));
    }
}

/// A count without further labels; nothing if it is not known.
fn known(one: &One<'_>, family: &mut Family, count: Option<u64>) {
    if let Some(count) = count {
        family.count(one.labels(NONE), count);
    }
}

fn outcomes(idle: &IdleGaps) -> [(&'static str, u64); 4] {
    [
        ("survived", idle.survived.count()),
        ("closed_by_server", idle.closed_by_server.count()),
        ("untested", idle.untested.count()),
        ("died", idle.deaths.values().map(tracer_analysis::destination::Distribution::count).sum()),
    ]
}

fn reception_word(reception: Reception) -> &'static str {
    match reception {
        Reception::Accepted => "accepted",
        Reception::Refused => "refused",
        Reception::ConnectRefused => "connect_refused",
        Reception::Unanswered => "unanswered",
        Reception::Unknown => "unknown",
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
