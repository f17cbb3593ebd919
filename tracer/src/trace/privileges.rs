//! What a trace needs once it has begun, and that everything else is given up.

use std::{
    fs::File,
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::PathBuf,
};

use anyhow::Result;
use nix::libc::O_PATH;

use crate::{
    cli::TraceArgs,
    diagnostics::{Level, say},
    kernel::Kernel,
    outlets::Outlets,
    privilege::{self, Needs, Reach, User},
    probe::Attacher,
};

/// What goes on with a privilege beside the trace.
pub(super) struct Beside {
    /// As whom the trace goes on; `None` for as it is.
    pub(super) user: Option<User>,
    /// Attaches to TLS libraries.
    pub(super) attacher: Option<Attacher>,
}

/// Starts the processes that keep what the trace gives up. No thread may have been started, and they have a copy of
/// what is in memory now.
pub(super) fn start_beside(args: &TraceArgs, outlets: &mut Outlets) -> Result<Beside> {
    let mut user = User::to_become(args.user.as_ref());
    if user.is_some() && outlets.makes_files_at_the_end() {
        say(
            Level::Info,
            "goes on as root, without its capabilities: --format hgrm makes files at the end",
        );
        user = None;
    }
    outlets.hand_over()?;
    Ok(Beside { user, attacher: args.tls_probes.then(Attacher::start).transpose()? })
}

/// From here on nothing needs more than what is open. No thread may have been started.
pub(super) fn give_up_privileges(
    args: &TraceArgs,
    kernel: &Kernel,
    outlets: &Outlets,
    user: Option<User>,
) -> Result<()> {
    let map_access = !kernel.is_readable_without_capabilities();
    // The recording is another process's.
    let find = |path: &PathBuf| File::options().read(true).custom_flags(O_PATH).open(path);
    let directories = outlets.directories();
    let open: Vec<File> = directories.iter().filter_map(|path| find(path).ok()).collect();
    let reach = Reach {
        write: open.iter().map(File::as_fd).collect(),
        read_all: true,
        terminal: true,
        connect: args.metrics.otlp.is_some() || args.output.resolve,
        ..Reach::default()
    };
    let privileges = privilege::give_up(&Needs { map_access, user, reach })?;
    directories.iter().try_for_each(|path| privilege::check(path))?;
    if map_access {
        say(Level::Info, &privileges.to_string());
    }
    Ok(())
}
