//! Connections: the record that is kept of each.

mod record;

pub use record::{
    Connection, EndCause, EndDuring, EndSuspect, Family, Kind, Owner, SCHEMA, SeenFrom, Tls,
    TransactionsMethod,
};
