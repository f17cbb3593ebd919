//! SMTP as the server speaks it.

mod reply;
mod status;

pub use reply::{Reply, ReplyParser, Step, are_reply_lines};
pub use status::{EnhancedCode, NoEnhancedCode};
