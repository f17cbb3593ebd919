//! What stands around the process and limits it: namespaces, containers, system settings.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use nix::{
    libc,
    sys::resource::{RLIM_INFINITY, Resource, getrlimit},
};

use super::{Finding, Severity, good};
use crate::privilege;

/// Numbers of the initial namespaces (`include/uapi/linux/nsfs.h`; before that, `proc_ns.h`).
mod initial {
    pub(super) const CGROUP: u64 = 0xefff_fffb;
    pub(super) const PID: u64 = 0xefff_fffc;
    pub(super) const USER: u64 = 0xefff_fffd;
}

/// The subject of the finding on `RLIMIT_MEMLOCK`.
pub(super) const LOCKED_MEMORY: &str = "locked memory";

/// The first kernel that charges maps to the memory cgroup and no more to `RLIMIT_MEMLOCK`.
const MEMORY_CGROUP: (u32, u32) = (5, 11);

/// The first kernel on which open maps can be read without `CAP_BPF`.
const OPEN_MAPS: (u32, u32) = (5, 19);

/// The facts. `None`: cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// Inode number of `/proc/self/ns/user`.
    pub(crate) user_namespace: Option<u64>,
    /// Inode number of `/proc/self/ns/pid`.
    pub(crate) pid_namespace: Option<u64>,
    /// Inode number of `/proc/self/ns/cgroup`.
    pub(crate) cgroup_namespace: Option<u64>,
    /// Whether cgroups of version 2 can be seen.
    pub(crate) has_cgroups: bool,
    /// What bpf(2) says to an innocent request with a wrong descriptor: EBADFD, unless something keeps it
    /// from getting that far.
    pub(crate) bpf_errno: i32,
    /// Whether a filter of system calls is in force.
    pub(crate) filtered: bool,
    /// `kernel.unprivileged_bpf_disabled`
    pub(crate) unprivileged_bpf_disabled: Option<u8>,
    /// `kernel.perf_event_paranoid`
    pub(crate) perf_event_paranoid: Option<i32>,
    /// Bytes of `RLIMIT_MEMLOCK`; `None` if there is no limit.
    pub(crate) memlock: Option<u64>,
    /// Whether the kernel has Landlock, and it is in force.
    pub(crate) has_landlock: bool,
    /// `/proc/self/attr/current`: the profile of `AppArmor`, or the context of `SELinux`.
    pub(crate) confinement: Option<String>,
}

/// On a host, with nothing in the way.
impl Default for Surroundings {
    fn default() -> Self {
        Self {
            user_namespace: Some(initial::USER),
            pid_namespace: Some(initial::PID),
            cgroup_namespace: Some(initial::CGROUP),
            has_cgroups: true,
            bpf_errno: libc::EBADFD,
            filtered: false,
            unprivileged_bpf_disabled: Some(2),
            perf_event_paranoid: Some(2),
            memlock: None,
            has_landlock: true,
            confinement: None,
        }
    }
}

/// Whether this process is in the host's pid namespace, from which the kernel counts processes; so it is taken where
/// that cannot be seen.
pub(crate) fn is_in_pid_namespace_of_host() -> bool {
    fs::metadata("/proc/self/ns/pid").map_or(true, |it| it.ino() == initial::PID)
}

impl Surroundings {
    /// Those of this process, with its `/proc/self/status`.
    pub(super) fn read(status: &str) -> Self {
        let namespace =
            |name| fs::metadata(format!("/proc/self/ns/{name}")).ok().map(|it| it.ino());
        let line = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let hierarchy = |root: &&str| Path::new(root).join("cgroup.controllers").exists();
        let (memlock, _) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap_or((RLIM_INFINITY, 0));
        Self {
            user_namespace: namespace("user"),
            pid_namespace: namespace("pid"),
            cgroup_namespace: namespace("cgroup"),
            has_cgroups: ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().any(hierarchy),
            bpf_errno: bpf_errno(),
            filtered: status
                .lines()
                .any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2")),
            unprivileged_bpf_disabled: line("/proc/sys/kernel/unprivileged_bpf_disabled")
                .and_then(|text| text.parse().ok()),
            perf_event_paranoid: line("/proc/sys/kernel/perf_event_paranoid")
                .and_then(|text| text.parse().ok()),
            memlock: (memlock != RLIM_INFINITY).then_some(memlock),
            has_landlock: privilege::has_landlock(),
            confinement: line("/proc/self/attr/current")
                .map(|text| text.trim_end_matches('\0').to_owned())
                .filter(|text| !text.is_empty()),
        }
    }

    /// What they mean on a kernel of this version, for a process with `has(capability)`.
    pub(super) fn findings(
        &self,
        version: Option<(u32, u32)>,
        has: impl Fn(u32) -> bool,
    ) -> Vec<Finding> {
        vec![
            self.user_namespace(),
            self.bpf_call(),
            self.pid_namespace(),
            self.cgroups(),
            self.unprivileged_bpf(version),
            self.perf_events(&has),
            self.locked_memory(version, &has),
            self.landlock(),
            self.confinement(),
        ]
    }

    fn landlock(&self) -> Finding {
        let subject = "landlock";
        if self.has_landlock {
            return good(subject, "puts files out of reach while smtptrace runs");
        }
        Finding {
            subject,
            severity: Severity::Note,
            found: "not in force: a process that was taken over could write the files of its user"
                .into(),
            remedy: "boot a kernel with CONFIG_SECURITY_LANDLOCK=y (5.13 or newer) and landlock in lsm=",
        }
    }

    fn user_namespace(&self) -> Finding {
        let subject = "user ns";
        if self.user_namespace.is_none_or(|it| it == initial::USER) {
            return good(subject, "that of the host");
        }
        Finding {
            subject,
            severity: Severity::Fatal,
            found:
                "in a user namespace of its own (a rootless container?), whose capabilities do not \
                    count for tracing"
                    .into(),
            remedy: "run it on the host, or in a container without a user namespace",
        }
    }

    fn bpf_call(&self) -> Finding {
        let subject = "bpf(2)";
        let (found, remedy) = match self.bpf_errno {
            libc::ENOSYS => (
                "is not in this kernel, or refused by a filter of system calls (seccomp)",
                "boot a kernel with CONFIG_BPF_SYSCALL=y; in a container, let its seccomp profile allow \
                 bpf and perf_event_open",
            ),
            libc::EPERM | libc::EACCES if self.filtered => (
                "is refused, and a filter of system calls (seccomp) is in force, as containers have",
                "let the seccomp profile of the container allow bpf and perf_event_open (docker: \
                 --cap-add BPF --cap-add PERFMON, or --security-opt seccomp=unconfined)",
            ),
            libc::EPERM | libc::EACCES => (
                "is refused: without CAP_BPF, or by a security module",
                "run it with sudo, or give it CAP_BPF and CAP_PERFMON; if it has them, look in the audit \
                 log for a denial by SELinux or AppArmor",
            ),
            _ => return good(subject, "may be called"),
        };
        Finding { subject, severity: Severity::Fatal, found: found.into(), remedy }
    }

    fn pid_namespace(&self) -> Finding {
        let subject = "pid ns";
        if self.pid_namespace.is_none_or(|it| it == initial::PID) {
            return good(subject, "that of the host");
        }
        Finding {
            subject,
            severity: Severity::Note,
            found: "in a container without the host's processes: process ids in records are those of the \
                    host, and /proc does not have them; --tls-probes finds no library by itself, and \
                    --pid is refused"
                .into(),
            remedy: "start the container with --pid=host (Kubernetes: hostPID: true), or name libraries with \
                     --tls-library",
        }
    }

    fn cgroups(&self) -> Finding {
        let subject = "cgroups";
        let (found, remedy) = if !self.has_cgroups {
            (
                "no cgroups of version 2 can be seen: container and unit of connections stay unknown",
                "mount cgroup2 at /sys/fs/cgroup; in a container, bring in that of the host",
            )
        } else if self.cgroup_namespace.is_some_and(|it| it != initial::CGROUP) {
            (
                "in a cgroup namespace of its own: only containers and units below its own cgroup have \
                 names",
                "start the container with --cgroupns=host",
            )
        } else {
            return good(subject, "version 2, all of them");
        };
        Finding { subject, severity: Severity::Note, found: found.into(), remedy }
    }

    fn unprivileged_bpf(&self, version: Option<(u32, u32)>) -> Finding {
        let subject = "unpriv. bpf";
        let found = match self.unprivileged_bpf_disabled {
            None => return good(subject, "kernel.unprivileged_bpf_disabled is not there"),
            Some(value) => format!("kernel.unprivileged_bpf_disabled = {value}"),
        };
        if self.unprivileged_bpf_disabled == Some(0) {
            return Finding {
                subject,
                severity: Severity::Note,
                found: format!("{found}: every user may load BPF programs"),
                remedy: "not needed for tracing: sysctl kernel.unprivileged_bpf_disabled=2",
            };
        }
        if version.is_some_and(|version| version < OPEN_MAPS) {
            return Finding {
                subject,
                severity: Severity::Note,
                found: format!(
                    "{found}: maps are read with CAP_BPF only, which is kept while tracing"
                ),
                remedy: "Linux 5.19 and newer do without",
            };
        }
        good(subject, &found)
    }

    fn perf_events(&self, has: impl Fn(u32) -> bool) -> Finding {
        const SYS_ADMIN: u32 = 21;
        let subject = "perf events";
        match self.perf_event_paranoid {
            Some(value) if value > 2 && !has(SYS_ADMIN) => Finding {
                subject,
                severity: Severity::Note,
                found: format!(
                    "kernel.perf_event_paranoid = {value}: with it, kernels of some distributions open \
                     them with CAP_SYS_ADMIN only"
                ),
                remedy: "if replies or --tls-probes cannot be had: sysctl kernel.perf_event_paranoid=2, or \
                         --no-replies",
            },
            Some(value) => good(subject, &format!("kernel.perf_event_paranoid = {value}")),
            None => good(subject, "kernel.perf_event_paranoid is not there"),
        }
    }

    fn locked_memory(&self, version: Option<(u32, u32)>, has: impl Fn(u32) -> bool) -> Finding {
        const SYS_RESOURCE: u32 = 24;
        let subject = LOCKED_MEMORY;
        match (self.memlock, version) {
            (Some(limit), Some(version)) if version < MEMORY_CGROUP && !has(SYS_RESOURCE) => {
                Finding {
                    subject,
                    severity: Severity::Note,
                    found: format!(
                        "at most {} kB; maps count as such before Linux 5.11",
                        limit / 1024
                    ),
                    remedy: "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity), or CAP_SYS_RESOURCE",
                }
            }
            _ => good(subject, "no limit that matters"),
        }
    }

    fn confinement(&self) -> Finding {
        let subject = "confinement";
        match self.confinement.as_deref() {
            Some(profile) if profile.ends_with("(enforce)") => Finding {
                subject,
                severity: Severity::Note,
                found: format!("confined by the AppArmor profile {}", profile.escape_debug()),
                remedy: "if something is refused: docker run --security-opt apparmor=unconfined",
            },
            Some(context) => good(subject, &context.escape_debug().to_string()),
            None => good(subject, "by no security module"),
        }
    }
}

/// Asks the kernel about an object that is none.
fn bpf_errno() -> i32 {
    /// `enum bpf_cmd`
    const OBJ_GET_INFO_BY_FD: i32 = 15;
    // `union bpf_attr`: descriptor, length and place of the answer.
    let attributes: [u32; 4] = [u32::MAX, 0, 0, 0];
    // SAFETY: the attributes are readable for the length that is given; the kernel writes nothing, because
    // there is no such descriptor.
    unsafe {
        libc::syscall(
            libc::SYS_bpf,
            OBJ_GET_INFO_BY_FD,
            attributes.as_ptr(),
            size_of_val(&attributes),
        );
    }
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Option<(u32, u32)> = Some((6, 1));

    /// The only finding that is not good.
    fn bad(of: &Surroundings, version: Option<(u32, u32)>, capabilities: u64) -> Finding {
        let mut findings = of.findings(version, |bit| capabilities >> bit & 1 == 1);
        findings.retain(|finding| finding.severity != Severity::Good);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(!findings[0].remedy.is_empty());
        findings.remove(0)
    }

    #[test]
    fn a_host_has_only_good_findings() {
        let findings = Surroundings::default().findings(NEW, |_| false);
        assert!(findings.iter().all(|it| it.severity == Severity::Good), "{findings:?}");
    }

    #[test]
    fn what_makes_tracing_impossible() {
        let host = Surroundings::default;
        for (facts, part) in [
            (Surroundings { user_namespace: Some(4_026_532_000), ..host() }, "user namespace"),
            (Surroundings { bpf_errno: libc::EPERM, filtered: true, ..host() }, "seccomp"),
            (Surroundings { bpf_errno: libc::EPERM, ..host() }, "security module"),
            (Surroundings { bpf_errno: libc::ENOSYS, ..host() }, "not in this kernel"),
        ] {
            let finding = bad(&facts, NEW, u64::MAX);
            assert_eq!(finding.severity, Severity::Fatal);
            assert!(finding.found.contains(part), "{finding:?}");
        }
    }

    #[test]
    fn what_makes_it_poorer() {
        let host = Surroundings::default;
        let confined = Some("docker-default (enforce)".to_owned());
        for (facts, version, part) in [
            (Surroundings { pid_namespace: Some(1), ..host() }, NEW, "host's processes"),
            (Surroundings { cgroup_namespace: Some(1), ..host() }, NEW, "cgroup namespace"),
            (Surroundings { has_cgroups: false, ..host() }, NEW, "version 2"),
            (Surroundings { unprivileged_bpf_disabled: Some(0), ..host() }, NEW, "every user"),
            (host(), Some((5, 10)), "CAP_BPF only"),
            (
                Surroundings { perf_event_paranoid: Some(4), ..host() },
                NEW,
                "perf_event_paranoid = 4",
            ),
            (Surroundings { confinement: confined, ..host() }, NEW, "docker-default"),
        ] {
            let finding = bad(&facts, version, 0);
            assert_eq!(finding.severity, Severity::Note);
            assert!(finding.found.contains(part), "{finding:?}");
        }
        let old = Surroundings { memlock: Some(65_536), unprivileged_bpf_disabled: None, ..host() };
        assert!(bad(&old, Some((5, 10)), 0).found.contains("64 kB"));
        assert!(
            old.findings(Some((5, 10)), |_| true).iter().all(|it| it.severity == Severity::Good)
        );
    }

    #[test]
    fn the_facts_of_this_process_are_read() {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let read = Surroundings::read(&status);
        assert!(read.pid_namespace.is_some() && read.user_namespace.is_some());
        assert_ne!(read.bpf_errno, 0);
    }
}
