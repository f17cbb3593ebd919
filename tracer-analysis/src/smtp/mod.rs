//! SMTP as the server speaks it.

mod prelude;
mod reply;
mod status;

pub use prelude::Prelude;
pub use reply::{Reply, ReplyParser, Step, are_reply_lines};
pub use status::{EnhancedCode, NoEnhancedCode};
