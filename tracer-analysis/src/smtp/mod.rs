//! SMTP as the server speaks it.

mod reply;
mod status;

pub use reply::{Reply, ReplyParser, Step};
pub use status::{EnhancedCode, NoEnhancedCode};
