//! Least privilege: what is needed to attach is given up before anything from the network is read.
//!
//! Afterwards the process has no capability (`docs/privileges.md` names the two exceptions), cannot get any
//! (`no_new_privs`), and a filter refuses the system calls by which a process that was taken over would go on.
//! Capabilities belong to threads: no other thread may run yet when they are given up.

mod capabilities;
mod system_calls;
mod trial;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use caps::Capability;
use nix::{
    fcntl::AtFlags,
    unistd::{AccessFlags, faccessat},
};

use crate::diagnostics::{Level, say};
use system_calls::Filter;
pub(crate) use trial::works_with;

/// What goes on to be done while tracing and needs more than open descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    /// The kernel lets nobody without a capability read a map, not even by an open descriptor: before
    /// Linux 5.19, where `kernel.unprivileged_bpf_disabled` is not 0.
    pub(crate) map_access: bool,
    /// Probes are attached to TLS libraries as they are found.
    pub(crate) tls_probes: bool,
}

/// What this process has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Privileges {
    /// Capabilities that were kept.
    kept: Vec<Capability>,
}

impl fmt::Display for Privileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kept.is_empty() {
            return f.write_str("all capabilities are dropped");
        }
        let names: Vec<String> = self.kept.iter().map(ToString::to_string).collect();
        write!(f, "all capabilities are dropped but {}", names.join(", "))
    }
}

/// Gives up all privileges but those that `needs` name. Files are still to be made in `directories`: an
/// error if that would fail from now on.
pub(crate) fn give_up(needs: Needs, directories: &[PathBuf]) -> Result<Privileges> {
    let kept = capabilities::keep_only(&capabilities::needed(needs))
        .context("cannot drop the capabilities of this process")?;
    for directory in directories {
        check(directory)?;
    }
    let filter = Filter::new(needs).context("cannot build the filter of system calls")?;
    if let Err(error) = filter.install_everywhere() {
        // The capabilities are gone all the same; a kernel without CONFIG_SECCOMP_FILTER can do no more.
        say(Level::Warning, &format!("no filter of system calls is in force: {error}"));
    }
    Ok(Privileges { kept })
}

/// Whether files can be made in `directory` from now on.
fn check(directory: &Path) -> Result<()> {
    let flags = AccessFlags::W_OK | AccessFlags::X_OK;
    if let Err(error) = faccessat(nix::fcntl::AT_FDCWD, directory, flags, AtFlags::AT_EACCESS) {
        bail!(
            "no further files can be made in {} once privileges are dropped: {}\nroot has no right there \
             without CAP_DAC_OVERRIDE: name a directory that belongs to the user who runs smtptrace, or run \
             it as the owner of that directory with CAP_BPF and CAP_PERFMON",
            directory.display(),
            error.desc()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said() {
        let all = Privileges { kept: Vec::new() };
        assert_eq!(all.to_string(), "all capabilities are dropped");
        let some = Privileges { kept: vec![Capability::CAP_BPF] };
        assert_eq!(some.to_string(), "all capabilities are dropped but CAP_BPF");
    }

    #[test]
    fn a_directory_that_refuses_files_is_named() {
        check(&std::env::temp_dir()).unwrap();
        let error = check(Path::new("/proc/nowhere")).unwrap_err().to_string();
        assert!(error.contains("/proc/nowhere"), "{error}");
    }
}
