//! SMTP as the server speaks it.

mod prelude;
mod reason;
mod reply;
mod status;

pub use prelude::Prelude;
pub use reason::Reason;
pub use reply::{Reply, ReplyParser, Step, are_reply_lines};
pub use status::{EnhancedCode, NoEnhancedCode};
