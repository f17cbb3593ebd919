//! The SMTP dialogue of a connection: from turns to messages.

pub mod lengths;
pub(crate) mod replies;
