//! What a trace needs once it has begun, and that everything else is given up.

use std::{fs::File, os::fd::AsFd as _, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    cli::TraceArgs,
    diagnostics::{Level, say},
    kernel::Kernel,
    outlets::Outlets,
    privilege::{self, Needs, Reach, User},
};

/// From here on nothing needs more than what is open. No thread may have been started.
pub(super) fn give_up_privileges(
    args: &TraceArgs,
    kernel: &Kernel,
    outlets: &Outlets,
) -> Result<()> {
    let map_access = !kernel.is_readable_without_capabilities();
    let paths = outlets.directories();
    let mut user = User::to_become(args.user.as_ref());
    if user.is_some() && !paths.is_empty() {
        say(Level::Info, "goes on as root, without its rights, because files are made later");
        user = None;
    }
    let open = |path: &PathBuf| {
        File::open(path).with_context(|| format!("cannot open {}", path.display()))
    };
    let directories: Vec<File> = paths.iter().map(open).collect::<Result<_>>()?;
    let reach = Reach {
        write: directories.iter().map(File::as_fd).collect(),
        read_all: true,
        terminal: true,
        connect: args.metrics.otlp.is_some() || args.output.resolve,
        ..Reach::default()
    };
    let privileges = privilege::give_up(&Needs { map_access, user, reach })?;
    for path in &paths {
        privilege::check(path)?;
    }
    if map_access {
        say(Level::Info, &privileges.to_string());
    }
    Ok(())
}
