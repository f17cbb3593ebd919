//! Messages and the connections that carried them.

use serde::{Deserialize, Serialize};

use crate::{
    connection::{Connection, EndCause, TransactionsMethod},
    destination::{Distribution, Few},
};

/// What was counted in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Counted {
    /// Connections.
    pub connections: u64,
    /// Those of them whose count is exact.
    pub exact_connections: u64,
    /// Their messages.
    pub transactions: u64,
}

/// How many messages the connections of one set carried. Only connections whose count is known are in
/// it.
#[derive(Debug, Clone, Default)]
pub struct Messages {
    /// Established connections whose count is known.
    pub counted: u64,
    /// Those of them whose count is exact, not inferred.
    pub exact: u64,
    /// Those that carried a message.
    pub carrying: u64,
    /// Those that ended without having carried one.
    pub unused: u64,
    /// Messages handed over.
    pub transactions: u64,
    /// The same by how it was counted.
    pub by_method: Few<TransactionsMethod, Counted>,
    /// Messages of each connection that ended.
    pub per_connection: Distribution,
}

impl Counted {
    fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.exact_connections += other.exact_connections;
        self.transactions += other.transactions;
    }
}

impl Messages {
    /// Adds one connection.
    pub fn add(&mut self, connection: &Connection) {
        let Some(transactions) = connection.messages() else { return };
        self.counted += 1;
        self.exact += u64::from(connection.transactions_exact);
        self.carrying += u64::from(transactions > 0);
        self.transactions += u64::from(transactions);
        if let Some(method) = connection.transactions_method {
            let one = Counted {
                connections: 1,
                exact_connections: u64::from(connection.transactions_exact),
                transactions: u64::from(transactions),
            };
            self.by_method.of(&method).add(one);
        }
        if connection.end_cause != EndCause::Open {
            self.unused += u64::from(transactions == 0);
            self.per_connection.record(u64::from(transactions));
        }
    }

    /// Adds all connections of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.counted += other.counted;
        self.exact += other.exact;
        self.carrying += other.carrying;
        self.unused += other.unused;
        self.transactions += other.transactions;
        for (method, counted) in other.by_method.iter() {
            self.by_method.of(method).add(*counted);
        }
        self.per_connection.merge(&other.per_connection);
    }

    /// Share of messages that needed no new connection: 1 - connections that carried a message /
    /// messages, 0 to 1. `None` without messages.
    pub fn reuse_ratio(&self) -> Option<f64> {
        reuse_ratio(self.carrying, self.transactions)
    }
}

/// [`Messages::reuse_ratio`] of so many messages, which so many connections carried.
pub(crate) fn reuse_ratio(carrying: u64, transactions: u64) -> Option<f64> {
    (transactions > 0).then(|| 1.0 - carrying as f64 / transactions as f64)
}
