//! The kernel side as user space sees it: is this machine fit, where are the fields, load, attach.

mod attach;
mod btf_file;
mod holders;
mod hooks;
mod load;
mod namespaces;
mod offsets;
pub(crate) mod preflight;
mod reply_buffers;
pub(crate) mod seed;
mod skipped;
mod tier;
mod tls_attacher;
mod tls_libraries;
pub(crate) mod tls_probes;
mod types;
pub(crate) mod uprobe;

pub(crate) use attach::attach;
pub(crate) use hooks::{hook_of, is_second};
pub(crate) use load::{Settings, load};
pub(crate) use reply_buffers::ReplyBuffers;
pub(crate) use skipped::{Skipped, preempts_programs};
pub(crate) use tier::Tier;
pub(crate) use tls_attacher::Attacher;
pub(crate) use tls_probes::TlsProbes;
pub(crate) use types::{OwnTypes, is_shown as btf_is_shown};
