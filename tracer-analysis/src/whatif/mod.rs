//! What if connections were kept longer: the messages of a recording, replayed under other policies.
//!
//! [`Demand`] takes connections one by one and keeps when each message wanted a connection and when it
//! was done with it. [`replay`] hands those messages, in order, to the connections that a [`Policy`]
//! would have left open. [`WhatIf`] does so for each destination and several policies, for the policy
//! that really ran as well: how near that comes to the connections observed says how far the rest can be
//! trusted.
//!
//! The rules are those of Postfix's scache(8): of several idle connections the one that was stored first
//! is taken (`scache_multi.c`: sessions are added at the end of the ring and taken from its front), and a
//! limit on messages or age is applied when a connection is about to be stored, not while it lies in the
//! cache (`smtp.h`, `THIS_SESSION_IS_EXPIRED`). Without such a limit no other rule opens fewer
//! connections: the connection stored first is the one that expires first.
//!
//! Three things are taken as they were: when each message came, how long it took (a message that opened
//! a connection holds it from the SYN), and what the path does to idle connections. A gap longer than
//! the path is known to survive is never bridged.

mod build;
mod demand;
mod model;
mod path;
mod policy;
mod ran;
mod replay;

pub use build::{CURVE_S, Context};
pub use demand::Demand;
pub use model::{
    AsItRan, Bridged, CurvePoint, Destination, Limits, Messages, Observed, PathSummary,
    PolicyOutcome, SCHEMA, SetUp, WhatIf, WhatIfKind,
};
pub use path::Path;
pub use policy::Policy;
pub use replay::{Message, Outcome, replay};

#[cfg(test)]
mod tests;
