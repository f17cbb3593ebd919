//! The kernel side as user space sees it: is this machine fit, where are the fields, load, attach.

mod attach;
mod hooks;
mod load;
mod offsets;
pub(crate) mod preflight;

pub(crate) use attach::attach;
pub(crate) use load::{Settings, load};
