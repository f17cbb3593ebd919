//! Connections: from the facts of the kernel to one record each.

mod assemble;
mod decrypted;
mod ending;
mod greeting_host;
mod join;
mod kept_turns;
mod messages;
mod owners;
mod record;
mod refusals;
mod replies;
mod table;
mod turns;

pub use kept_turns::{TURNS_KEPT, TurnSpan, TurnSpans};
pub use record::{
    Connection, EndCause, EndDuring, EndSuspect, Family, Kind, Owner, SCHEMA, SeenFrom, Tls,
    TransactionsMethod,
};
pub use refusals::Refusal;
pub use table::{Clock, Context, Table};
