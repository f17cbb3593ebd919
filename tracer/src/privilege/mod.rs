//! Least privilege: what is needed to attach is given up before anything from the network is read.
//!
//! Afterwards the process is an unprivileged user's, has no capability (`docs/privileges.md` names the one
//! exception), cannot get any (`no_new_privs`), reaches none of the file system but to read it (Landlock), and a
//! filter refuses the system calls by which a process that was taken over would go on. What goes on to take a
//! privilege is done by [processes beside it](process), each for one thing, with a narrow protocol.
//! Capabilities belong to threads: no other thread may run yet when they are given up.

mod capabilities;
mod channel;
mod file_system;
mod monitor;
mod process;
mod system_calls;
mod trial;
mod user;

use std::{fmt, os::fd::BorrowedFd, path::Path};

use anyhow::{Context as _, Result, bail};
use caps::Capability;
use nix::{
    fcntl::AtFlags,
    sys::prctl,
    unistd::{AccessFlags, faccessat},
};

use crate::diagnostics::{Level, say};
pub(crate) use channel::Channel;
pub(crate) use file_system::{Reach, has_landlock};
pub(crate) use monitor::{Files, Monitor};
pub(crate) use process::Process;
use system_calls::Filter;
pub(crate) use trial::works_with;
pub(crate) use user::{User, UserSelector};

/// What a process that traces goes on to need.
#[derive(Debug, Default)]
pub(crate) struct Needs<'a> {
    /// The kernel lets nobody without a capability read a map, not even by an open descriptor: before
    /// Linux 5.19, where `kernel.unprivileged_bpf_disabled` is not 0.
    pub(crate) map_access: bool,
    /// As whom it goes on; `None` for as it is.
    pub(crate) user: Option<User>,
    /// What it reaches of the file system and of the network.
    pub(crate) reach: Reach<'a>,
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

/// Gives up all privileges but those that `needs` name.
pub(crate) fn give_up(needs: &Needs<'_>) -> Result<Privileges> {
    let rights = if needs.map_access { capabilities::MAP_ACCESS } else { &[] };
    let kept = capabilities::keep_only(rights, needs.user)
        .context("cannot drop the capabilities of this process")?;
    shut(&needs.reach, &Filter::refusing(true).context(NO_FILTER)?)?;
    Ok(Privileges { kept })
}

/// Leaves this process, which is about to read files that may have been made by anybody, what that takes. With
/// `network` it may ask for names.
pub(crate) fn give_up_to_read(network: bool, user: Option<User>, reach: &Reach<'_>) -> Result<()> {
    capabilities::keep_only(&[], user).context("cannot drop the capabilities of this process")?;
    shut(reach, &Filter::refusing(network).context(NO_FILTER)?)
}

/// Leaves this process what attaching to libraries takes.
pub(crate) fn give_up_to_attach() -> Result<()> {
    capabilities::keep_only(capabilities::attaching(), None)?;
    // Landlock would keep it from looking at other processes.
    prctl::set_dumpable(false)?;
    install(&Filter::for_attaching().context(NO_FILTER)?);
    Ok(())
}

/// Leaves this process what making files in `directory` takes.
fn give_up_for_files(directory: Option<BorrowedFd<'_>>) -> Result<()> {
    let reach = Reach { write: directory.into_iter().collect(), ..Reach::default() };
    shut(&reach, &Filter::for_files().context(NO_FILTER)?)
}

/// Leaves this process what starting such a process again takes.
fn give_up_to_start_again() -> Result<()> {
    capabilities::keep_only(&[], None)?;
    prctl::set_dumpable(false)?;
    install(&Filter::for_starting_again().context(NO_FILTER)?);
    Ok(())
}

const NO_FILTER: &str = "cannot build the filter of system calls";

/// Keeps this process from what is neither within `reach` nor let through by `filter`, as far as the kernel can.
fn shut(reach: &Reach<'_>, filter: &Filter) -> Result<()> {
    // Nobody reads its memory, although it may now be the user who runs other things, too.
    prctl::set_dumpable(false).context("cannot close the memory of this process to others")?;
    file_system::confine(reach).context("cannot put the file system out of reach (landlock(7))")?;
    install(filter);
    Ok(())
}

/// Puts `filter` in force. A kernel without `CONFIG_SECCOMP_FILTER` can do no more than take the capabilities away. A
/// process beside the one that traces has nowhere to say so: that one does.
fn install(filter: &Filter) {
    if let Err(error) = filter.install_everywhere() {
        say(Level::Warning, &format!("no filter of system calls is in force: {error}"));
    }
}

/// Whether files can be made in `directory` by this process once it has no capabilities: an error if not.
pub(crate) fn check(directory: &Path) -> Result<()> {
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
