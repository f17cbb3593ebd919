//! Capabilities (capabilities(7)) of the calling thread: which are kept, and how the others go.

use anyhow::Result;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;

use super::{trial, user::User};

/// A right, and the capabilities that give it; the first that the process has is kept.
pub(super) type Right = &'static [Capability];

/// `bpf(2)` on maps, and links to programs.
const BPF: Right = &[Capability::CAP_BPF, Capability::CAP_SYS_ADMIN];
/// Uprobes.
const PERFMON: Right = &[Capability::CAP_PERFMON, Capability::CAP_SYS_ADMIN];
/// `/proc/PID/maps`, `exe` and `root` of processes of other users.
const PTRACE: Right = &[Capability::CAP_SYS_PTRACE];
/// `/proc/PID/map_files`, by which a library is found that was deleted or replaced; without it those in
/// place are found.
const MAP_FILES: Right = &[Capability::CAP_CHECKPOINT_RESTORE, Capability::CAP_SYS_ADMIN];

/// What reading open maps takes, where the kernel wants anything for it.
pub(super) const MAP_ACCESS: &[Right] = &[BPF];

/// What attaching to libraries as they are found takes on this kernel.
pub(super) fn attaching() -> &'static [Right] {
    probing(trial::perfmon_is_enough_for_uprobes())
}

/// What attaching to libraries takes. `CAP_SYS_ADMIN` gives all but the sight of other processes.
fn probing(perfmon_is_enough: bool) -> &'static [Right] {
    if perfmon_is_enough {
        &[PERFMON, PTRACE, MAP_FILES]
    } else {
        &[&[Capability::CAP_SYS_ADMIN], PTRACE]
    }
}

/// Drops every capability of the calling thread that none of `rights` takes, from all sets, and lets it and
/// its children have no new ones; then it becomes `user`. Returns those that are left.
pub(super) fn keep_only(rights: &[Right], user: Option<User>) -> Result<Vec<Capability>> {
    prctl::set_no_new_privs()?;
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept = chosen(rights, &permitted);
    // While CAP_SETPCAP is there. Without it the bounding set stays, of no use to a process that may not
    // gain anything by execve(2).
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::all() {
            // A capability that this kernel does not know cannot be dropped.
            let _ = caps::drop(None, CapSet::Bounding, capability);
        }
    }
    if let Some(user) = user {
        user.become_it(!kept.is_empty())?;
    }
    // No ambient set before Linux 4.3; it is part of the inheritable one.
    let _ = caps::clear(None, CapSet::Ambient);
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    let mut kept: Vec<_> = kept.into_iter().collect();
    kept.sort_by_key(Capability::index);
    Ok(kept)
}

/// Of each right the first capability that is permitted.
fn chosen(rights: &[Right], permitted: &CapsHashSet) -> CapsHashSet {
    rights
        .iter()
        .filter_map(|right| right.iter().find(|it| permitted.contains(it)))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_narrowest_capability_is_kept() {
        let all = caps::all();
        let names = |set: CapsHashSet| {
            let mut names: Vec<String> = set.iter().map(ToString::to_string).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(
            names(chosen(probing(true), &all)),
            "CAP_CHECKPOINT_RESTORE CAP_PERFMON CAP_SYS_PTRACE"
        );
        assert_eq!(names(chosen(probing(false), &all)), "CAP_SYS_ADMIN CAP_SYS_PTRACE");
        let old = [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_RAW].into_iter().collect();
        assert_eq!(names(chosen(probing(true), &old)), "CAP_SYS_ADMIN");
        assert_eq!(names(chosen(MAP_ACCESS, &all)), "CAP_BPF");
        assert_eq!(names(chosen(&[], &all)), "");
    }

    #[test]
    fn every_set_is_empty_afterwards() {
        let left = thread::spawn(|| {
            let had = caps::read(None, CapSet::Permitted).unwrap();
            let kept = keep_only(&[], None).unwrap();
            let mut sets =
                vec![CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient];
            if had.contains(&Capability::CAP_SETPCAP) {
                sets.push(CapSet::Bounding);
            }
            let left: Vec<_> =
                sets.iter().map(|set| caps::read(None, *set).unwrap().len()).collect();
            (kept.len(), left.iter().sum::<usize>())
        });
        assert_eq!(left.join().unwrap(), (0, 0));
    }
}
