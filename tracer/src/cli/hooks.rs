//! Which hooks are used.

use std::path::PathBuf;

use clap::Args;

use crate::probe::Tier;

/// How the kernel is looked into.
#[derive(Debug, Clone, Args)]
pub(crate) struct HookArgs {
    /// Hooks to use; all but auto force one kind, which is an error where this
    /// kernel refuses it (for comparisons and for finding faults)
    #[arg(long, value_enum, value_name = "KIND", default_value_t = Tier::Auto)]
    pub(crate) hooks: Tier,
    /// Types of this very kernel (BTF), where it does not show its own; `BTFHub` has
    /// many
    #[arg(long, value_name = "FILE")]
    pub(crate) btf: Option<PathBuf>,
}
