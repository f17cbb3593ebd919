//! What a trace needs once it has begun, and that everything else is given up.

use anyhow::Result;

use crate::{
    cli::TraceArgs,
    diagnostics::{Level, say},
    kernel::Kernel,
    outlets::Outlets,
    privilege::{self, Needs},
};

/// From here on nothing needs more than what is open. No thread may have been started.
pub(super) fn give_up_privileges(
    args: &TraceArgs,
    kernel: &Kernel,
    outlets: &Outlets,
) -> Result<()> {
    let needs = Needs {
        map_access: !kernel.is_readable_without_capabilities(),
        tls_probes: args.tls_probes,
    };
    let privileges = privilege::give_up(needs, &outlets.directories())?;
    if needs != Needs::default() {
        say(Level::Info, &privileges.to_string());
    }
    Ok(())
}
