//! Messages per connection, as the receiving server counted them, against the records.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};

use crate::{postfix::Delivery, recording::Record};

/// What a server counted on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The client's end: tells the connection.
    pub client: SocketAddr,
    /// Messages whose body got a final reply, a refusal included.
    pub messages: u32,
}

/// How the count of a record must have been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// From the replies: it must be there, and be exact.
    Replies,
    /// From the replies, but `null` is accepted, and a count that is right without being called exact: what was
    /// sent may have held what nobody reads.
    RepliesOrUnknown,
    /// From lengths: it may be `null`, but not wrong, and not called exact.
    Lengths,
}

/// How many of the records had a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// The count was the server's.
    pub right: u32,
    /// `null`.
    pub unknown: u32,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} right, {} unknown", self.right, self.unknown)
    }
}

/// Pairs each record with what the server counted on that connection, by the client's port. Fails if
/// one is left over on either side.
pub fn pair<'a>(
    records: &'a [Record],
    served: &'a [Served],
) -> Result<Vec<(&'a Record, &'a Served)>> {
    ensure!(
        records.len() == served.len(),
        "{} records, but the server had {} connections: {served:?}",
        records.len(),
        served.len()
    );
    let by_client: BTreeMap<_, _> = served.iter().map(|served| (served.client, served)).collect();
    ensure!(by_client.len() == served.len(), "a client port came twice: {served:?}");
    let paired = records.iter().map(|record| {
        let client = record.client()?;
        let served = by_client.get(&client).with_context(|| format!("{client} is not known"))?;
        Ok((record, *served))
    });
    paired.collect()
}

/// Fails if the count of `record` is not `messages`, made by `method`. Returns whether it was known.
pub fn ensure_count(record: &Record, messages: u32, method: Method) -> Result<bool> {
    let count = record.number("transactions")?;
    let (name, exact) = match method {
        Method::Replies | Method::RepliesOrUnknown => ("replies", true),
        Method::Lengths => ("tls-lengths", false),
    };
    if count.is_none() && method != Method::Replies {
        return Ok(false);
    }
    ensure!(
        count == Some(messages.into()),
        "transactions is {count:?}, the server had {messages}: {}",
        record.json()
    );
    ensure!(
        record.text("transactions_method")? == Some(name)
            && (method == Method::RepliesOrUnknown
                || *record.field("transactions_exact")? == exact),
        "expected {name}, exact: {exact}: {}",
        record.json()
    );
    if method == Method::Lengths {
        let spans = record.field("transaction_spans_us")?.as_array().map(Vec::len);
        ensure!(spans == usize::try_from(messages).ok(), "{spans:?} spans: {}", record.json());
    }
    Ok(true)
}

/// [`ensure_count`] of every record; says how many counts were known.
pub fn ensure_counts_agree(records: &[Record], served: &[Served], method: Method) -> Result<Tally> {
    let mut tally = Tally::default();
    for (record, served) in pair(records, served)? {
        let known = ensure_count(record, served.messages, method)?;
        *if known { &mut tally.right } else { &mut tally.unknown } += 1;
    }
    let messages: Vec<u32> = served.iter().map(|served| served.messages).collect();
    println!("messages per connection: {messages:?}: {tally}");
    Ok(tally)
}

/// Fails unless `conn_use=` in the log of the sending Postfix fits what the server counted: as many
/// deliveries were the n-th of their connection as connections carried n messages or more.
pub fn ensure_conn_use_agrees(deliveries: &[Delivery], served: &[Served]) -> Result<()> {
    let most = served.iter().map(|served| served.messages).max().unwrap_or(0);
    for nth in 1..=most {
        let logged = deliveries.iter().filter(|it| it.conn_use.unwrap_or(1) == nth).count();
        let carried = served.iter().filter(|it| it.messages >= nth).count();
        ensure!(logged == carried, "conn_use={nth}: {deliveries:?} {served:?}");
    }
    let total: u32 = served.iter().map(|served| served.messages).sum();
    ensure!(usize::try_from(total)? == deliveries.len(), "{deliveries:?} {served:?}");
    Ok(())
}
