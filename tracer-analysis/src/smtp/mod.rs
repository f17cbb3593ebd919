//! SMTP as the server speaks it.

mod reply;

pub use reply::{Reply, ReplyParser, Step};
