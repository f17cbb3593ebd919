//! What the demo consists of: each destination with its server, the path to it, the sender, and the
//! verdicts that a report on it must have.

use std::{net::Ipv4Addr, time::Duration};

use tracer_analysis::verdict::Code;

use super::{
    middlebox::{Manner, Memory},
    sender::Habit,
    server::Limits,
};

/// Port of all servers. Not 25, so that a trace of this host's mail does not see the demo.
pub(super) const PORT: u16 = 2525;

/// Address of the client.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A mail server, how it is reached, and who sends there.
#[derive(Debug)]
pub(super) struct Destination {
    /// What its greeting calls it.
    pub(super) host: &'static str,
    pub(super) address: Ipv4Addr,
    /// In words.
    pub(super) is: &'static str,
    pub(super) limits: Limits,
    /// What the box on the path forgets; `None` if it only forwards.
    pub(super) memory: Option<Memory>,
    pub(super) habit: Habit,
    pub(super) expected: &'static [Expected],
}

/// A verdict that must come, and what must be among its evidence.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) code: Code,
    pub(super) because: &'static [Fact],
}

/// A piece of evidence, and what it must be.
#[derive(Debug)]
pub(super) enum Fact {
    Equals(&'static str, f64),
    Between(&'static str, f64, f64),
    Says(&'static str, &'static str),
}

/// How long the box remembers a session, and the server of `mx.timeout.example` waits for a command.
const PATIENCE: Duration = Duration::from_secs(3);
/// Gaps that a session survives, twice, and one that it does not. They are far from the limit, because a
/// busy machine makes them longer; two short ones are below it as well, because the pool gives out the
/// connection that came back last, and another one misses its turn.
const GAPS: &[Duration] =
    &[Duration::from_millis(1200), Duration::from_millis(1200), Duration::from_secs(5)];
/// The limit lies between the survived and the deadly gap.
const ALIVE: Fact = Fact::Between("survived_s", 1.1, 3.1);
const DEAD: Fact = Fact::Between("died_s", 2.9, 20.0);
/// Connections that the server of `mx.limit.example` allows at a time.
const AT_A_TIME: u64 = 3;

const IDLING: Habit =
    Habit::Pool { workers: 5, gaps: GAPS, times: 2, gives_up_after: Duration::from_millis(1500) };

const NO_LIMITS: Limits = Limits { greets_after: Duration::ZERO, idle_time: None, at_a_time: None };

/// All destinations.
pub(super) const DESTINATIONS: &[Destination] = &[
    Destination {
        host: "mx.reuse.example",
        address: Ipv4Addr::new(192, 0, 2, 11),
        is: "a pool of 2 connections, used again and again",
        limits: NO_LIMITS,
        memory: None,
        habit: Habit::Pool {
            workers: 2,
            gaps: &[Duration::from_millis(250)],
            times: 60,
            gives_up_after: Duration::from_secs(10),
        },
        expected: &[Expected { code: Code::CachingWorks, because: &[] }],
    },
    Destination {
        host: "mx.single.example",
        address: Ipv4Addr::new(192, 0, 2, 12),
        is: "a new connection for each message, to a server that greets after 1.2 s",
        limits: Limits { greets_after: Duration::from_millis(1200), ..NO_LIMITS },
        memory: None,
        habit: Habit::OneEach { messages: 16, pause: Duration::from_millis(100) },
        expected: &[
            Expected {
                code: Code::CachingIneffective,
                because: &[Fact::Equals("reuse_ratio", 0.0), Fact::Equals("missed", 15.0)],
            },
            Expected { code: Code::GreetingSlow, because: &[] },
        ],
    },
    Destination {
        host: "mx.silence.example",
        address: Ipv4Addr::new(192, 0, 2, 13),
        is: "behind a box that forgets sessions after 3 s, and drops what it does not know",
        limits: NO_LIMITS,
        memory: Some(Memory { time: PATIENCE, manner: Manner::Silent }),
        habit: IDLING,
        expected: &[
            Expected {
                code: Code::IdleKilledByMiddlebox,
                because: &[ALIVE, DEAD, Fact::Says("manner", "silent")],
            },
            Expected { code: Code::DeadOnReuse, because: &[] },
        ],
    },
    Destination {
        host: "mx.reset.example",
        address: Ipv4Addr::new(192, 0, 2, 14),
        is: "behind a box that forgets sessions after 3 s, and answers with a reset",
        limits: NO_LIMITS,
        memory: Some(Memory { time: PATIENCE, manner: Manner::Reset }),
        habit: IDLING,
        expected: &[
            Expected {
                code: Code::IdleKilledByMiddlebox,
                because: &[
                    ALIVE,
                    DEAD,
                    Fact::Says("manner", "reset_on_reuse"),
                    Fact::Says("suspect", "middlebox"),
                ],
            },
            Expected { code: Code::DeadOnReuse, because: &[] },
        ],
    },
    Destination {
        host: "mx.timeout.example",
        address: Ipv4Addr::new(192, 0, 2, 15),
        is: "a server that itself closes sessions that idle for 3 s",
        limits: Limits { idle_time: Some(PATIENCE), ..NO_LIMITS },
        memory: None,
        habit: IDLING,
        expected: &[Expected {
            code: Code::IdleClosedByServer,
            because: &[Fact::Between("closed_s", 2.9, 5.0)],
        }],
    },
    Destination {
        host: "mx.limit.example",
        address: Ipv4Addr::new(192, 0, 2, 16),
        is: "a server that allows 3 connections at a time; 5 are tried at once",
        limits: Limits { at_a_time: Some(AT_A_TIME), ..NO_LIMITS },
        memory: None,
        habit: Habit::Bursts {
            bursts: 6,
            connections: 5,
            messages: 4,
            pause: Duration::from_millis(2500),
        },
        expected: &[Expected {
            code: Code::ConcurrencyLimited,
            because: &[Fact::Equals("limit", AT_A_TIME as f64)],
        }],
    },
];
