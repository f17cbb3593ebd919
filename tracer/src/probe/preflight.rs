//! Is this machine fit for tracing? Each finding says what is wrong and what to do about it.

mod surroundings;

use std::{
    fs,
    path::{Path, PathBuf},
};

use surroundings::Surroundings;
pub(crate) use surroundings::is_in_pid_namespace_of_host;

/// Where the kernel shows its own types.
pub(crate) const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Oldest kernel with ring buffer, BTF tracepoints and `bpf_skc_to_tcp_sock`.
const OLDEST: (u32, u32) = (5, 10);

/// The first kernel whose ring buffer has a lock that does not sleep with `PREEMPT_RT` (`raw_spinlock_t`).
const RAW_RING_LOCK: (u32, u32) = (6, 12);

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Fine.
    Good,
    /// Tracing works, with a loss that the text tells.
    Note,
    /// Tracing does not work.
    Fatal,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) subject: &'static str,
    /// How bad.
    pub(crate) severity: Severity,
    /// What was found.
    pub(crate) found: String,
    /// What to do; empty if nothing.
    pub(crate) remedy: &'static str,
}

/// The facts that the findings are drawn from, apart so that tests need no such machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    /// `/proc/sys/kernel/osrelease`
    pub(crate) release: String,
    /// Effective capabilities, a bit each.
    pub(crate) capabilities: u64,
    /// Whether the kernel's BTF is there.
    pub(crate) has_btf: bool,
    /// A file that has it instead (`--btf`).
    pub(crate) btf_file: Option<PathBuf>,
    /// `/sys/kernel/security/lockdown`, if it can be read.
    pub(crate) lockdown: Option<String>,
    /// Whether tracefs is mounted.
    pub(crate) has_tracefs: bool,
    /// Whether it is a real-time kernel (`PREEMPT_RT`).
    pub(crate) is_realtime: bool,
    /// Namespaces, containers, settings.
    pub(crate) surroundings: Surroundings,
}

/// The limit of locked memory, and how it is raised, if maps count as such and may reach it.
pub(crate) fn locked_memory() -> Option<String> {
    let mut findings = Machine::read(None).findings().into_iter();
    let limit = findings.find(|it| it.subject == surroundings::LOCKED_MEMORY)?;
    let matters = limit.severity != Severity::Good;
    matters.then(|| format!("{}: {}: {}", limit.subject, limit.found, limit.remedy))
}

impl Machine {
    /// This machine. `btf`: a file with the types of its kernel.
    pub(crate) fn read(btf: Option<&Path>) -> Self {
        let line = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
        let status = line("/proc/self/status").unwrap_or_default();
        let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Self {
            release: kernel_release(),
            capabilities: capabilities
                .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
                .unwrap_or(0),
            has_btf: Path::new(KERNEL_BTF).exists(),
            btf_file: btf.map(Path::to_owned),
            lockdown: line("/sys/kernel/security/lockdown").ok(),
            has_tracefs: ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"]
                .iter()
                .any(|path| Path::new(path).exists()),
            is_realtime: line("/sys/kernel/realtime").is_ok_and(|value| value == "1"),
            surroundings: Surroundings::read(&status),
        }
    }

    /// Everything that was looked at, good or bad.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings =
            vec![self.privilege(), self.kernel(), self.btf(), self.lockdown(), self.tracefs()];
        findings.extend(self.realtime());
        let has = |bit| self.capabilities >> bit & 1 == 1;
        findings.extend(self.surroundings.findings(version(&self.release), has));
        findings
    }

    fn privilege(&self) -> Finding {
        const SYS_ADMIN: u32 = 21;
        const NEEDED: [(u32, &str); 2] = [(38, "CAP_PERFMON"), (39, "CAP_BPF")];
        let has = |bit: u32| self.capabilities >> bit & 1 == 1;
        let missing: Vec<&str> =
            NEEDED.iter().filter(|(bit, _)| !has(*bit)).map(|(_, name)| *name).collect();
        let subject = "privilege";
        if has(SYS_ADMIN) || missing.is_empty() {
            return good(subject, "may load BPF programs");
        }
        Finding {
            subject,
            severity: Severity::Fatal,
            found: format!("not root, and without {}", missing.join(" and ")),
            remedy: "run it with sudo, or give it the capabilities CAP_BPF and CAP_PERFMON",
        }
    }

    fn kernel(&self) -> Finding {
        let subject = "kernel";
        let found = format!("Linux {}", self.release);
        match version(&self.release) {
            Some(version) if version >= OLDEST => good(subject, &found),
            Some(_) => Finding {
                subject,
                severity: Severity::Fatal,
                found: format!("{found}, too old"),
                remedy: "smtptrace needs Linux 5.10 or newer: boot a newer kernel",
            },
            None => Finding {
                subject,
                severity: Severity::Note,
                found: format!("release {:?} cannot be understood; 5.10 is needed", self.release),
                remedy: "",
            },
        }
    }

    /// Nothing on other kernels.
    fn realtime(&self) -> Option<Finding> {
        if !self.is_realtime {
            return None;
        }
        let subject = "real time";
        if version(&self.release).is_none_or(|version| version >= RAW_RING_LOCK) {
            return Some(good(subject, "PREEMPT_RT, with a ring buffer that is made for it"));
        }
        Some(Finding {
            subject,
            severity: Severity::Note,
            found: "PREEMPT_RT, and the ring buffer's lock may sleep where a hook may not (\"sleeping function \
                    called from invalid context\" in the kernel's log)"
                .into(),
            remedy: "boot Linux 6.12 or newer (commit 8b62645b09f8), or a kernel without PREEMPT_RT, before \
                     you trace in production",
        })
    }

    fn btf(&self) -> Finding {
        let subject = "kernel types";
        if let Some(file) = &self.btf_file {
            return good(subject, &format!("from {} (--btf)", file.display()));
        }
        if self.has_btf {
            return good(subject, &format!("BTF at {KERNEL_BTF}"));
        }
        Finding {
            subject,
            severity: Severity::Fatal,
            found: format!("no BTF: {KERNEL_BTF} does not exist"),
            remedy: "name a file with the types of this very kernel with --btf FILE (BTFHub has them for \
                     many), or boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (all current \
                     distribution kernels are); in a container, mount /sys of the host",
        }
    }

    fn lockdown(&self) -> Finding {
        let subject = "lockdown";
        match &self.lockdown {
            Some(modes) if modes.contains("[confidentiality]") => Finding {
                subject,
                severity: Severity::Fatal,
                found: "kernel lockdown is in confidentiality mode, which forbids BPF programs to \
                        read the kernel"
                    .into(),
                remedy: "boot with lockdown=integrity or without lockdown",
            },
            Some(modes) => good(subject, &format!("{modes}: allows tracing")),
            None => good(subject, "not in force, or securityfs is not mounted"),
        }
    }

    fn tracefs(&self) -> Finding {
        let subject = "tracefs";
        if self.has_tracefs {
            return good(subject, "mounted");
        }
        Finding {
            subject,
            severity: Severity::Note,
            found: "not mounted; not needed, the tracepoints are reached through BTF".into(),
            remedy: "for other tracers: mount -t tracefs tracefs /sys/kernel/tracing",
        }
    }
}

fn good(subject: &'static str, found: &str) -> Finding {
    Finding { subject, severity: Severity::Good, found: found.to_owned(), remedy: "" }
}

/// Release of the running kernel; empty if it cannot be read.
pub(crate) fn kernel_release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// The first two numbers of a kernel's release.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit() -> Machine {
        Machine {
            release: "6.1.0-18-amd64".into(),
            capabilities: u64::MAX,
            has_btf: true,
            btf_file: None,
            lockdown: Some("none [integrity] confidentiality".into()),
            has_tracefs: true,
            is_realtime: false,
            surroundings: Surroundings::default(),
        }
    }

    fn fatal(machine: &Machine) -> Vec<Finding> {
        let mut findings = machine.findings();
        findings.retain(|finding| finding.severity == Severity::Fatal);
        findings
    }

    #[test]
    fn fit_machine_has_only_good_findings() {
        assert!(fit().findings().iter().all(|finding| finding.severity == Severity::Good));
    }

    #[test]
    fn each_lack_has_its_own_message_and_remedy() {
        let lacks = [
            (Machine { capabilities: 1 << 39, ..fit() }, "CAP_PERFMON"),
            (Machine { release: "5.4.0-42-generic".into(), ..fit() }, "5.4.0-42-generic, too old"),
            (Machine { has_btf: false, ..fit() }, "no BTF"),
            (
                Machine { lockdown: Some("none integrity [confidentiality]".into()), ..fit() },
                "confidentiality",
            ),
        ];
        for (machine, part) in lacks {
            let fatal = fatal(&machine);
            assert_eq!(fatal.len(), 1, "{fatal:?}");
            assert!(fatal[0].found.contains(part), "{fatal:?}");
            assert!(!fatal[0].remedy.is_empty());
        }
    }

    #[test]
    fn file_takes_the_place_of_the_kernels_own_types() {
        let without = Machine { has_btf: false, ..fit() };
        assert!(fatal(&without)[0].remedy.contains("--btf FILE"));
        assert_eq!(fatal(&Machine { btf_file: Some("vmlinux.btf".into()), ..without }), []);
    }

    #[test]
    fn capabilities_without_root_are_enough() {
        let machine = Machine { capabilities: 1 << 38 | 1 << 39, ..fit() };
        assert_eq!(fatal(&machine), []);
    }

    #[test]
    fn a_realtime_kernel_with_the_old_ring_buffer_is_a_note() {
        let severity = |release: &str| {
            let machine = Machine { is_realtime: true, release: release.into(), ..fit() };
            let findings = machine.findings();
            findings.iter().find(|it| it.subject == "real time").map(|it| it.severity)
        };
        assert_eq!(severity("6.1.0-18-rt-amd64"), Some(Severity::Note));
        assert_eq!(severity("6.12.1-rt-amd64"), Some(Severity::Good));
    }

    #[test]
    fn missing_tracefs_is_only_a_note() {
        assert_eq!(fatal(&Machine { has_tracefs: false, ..fit() }), []);
    }
}
