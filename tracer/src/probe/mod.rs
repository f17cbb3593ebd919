//! The kernel side as user space sees it: is this machine fit, where are the fields, load, attach.

mod attach;
mod hooks;
mod load;
mod offsets;
pub(crate) mod preflight;
mod tls_libraries;
pub(crate) mod tls_probes;

pub(crate) use attach::attach;
pub(crate) use load::{Settings, load};
pub(crate) use tls_probes::TlsProbes;
