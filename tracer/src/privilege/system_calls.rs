//! The filter of system calls (seccomp(2)): refuses, with EPERM, those by which a process that was taken over
//! would start programs, read other processes, load code into the kernel or gain rights in new namespaces.
//!
//! It names what is refused, not what is allowed: which harmless calls the C library, the resolver and the
//! terminal need differs between versions, and a tracer that fails in production because of such a call helps
//! nobody. `docs/decisions.md` has the reasons.

use std::{collections::BTreeMap, env::consts::ARCH};

use nix::libc::{self, c_long};
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op,
    SeccompCondition, SeccompFilter, SeccompRule, sock_filter,
};

use super::Needs;

/// Refused whatever their arguments.
const REFUSED: &[c_long] = &[
    // other programs
    libc::SYS_execve,
    libc::SYS_execveat,
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // code in the kernel
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    // other namespaces and file systems
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_by_handle_at,
    // the machine
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_personality,
    // large parts of the kernel that are of no use here
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Of this architecture: access to the ports of x86; `kexec_file_load`, which `libc` does not name everywhere.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] = &[320, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[294];

/// `TIOCSTI`: puts what it likes into the input of the shell that comes after.
const FAKE_INPUT: u64 = 0x5412;

/// Namespaces that `clone` may not make.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Commands of bpf(2) (`enum bpf_cmd`) on what is open already.
mod bpf {
    /// Look up, update, delete, next key.
    pub(super) const MAP: [u64; 4] = [1, 2, 3, 4];
    pub(super) const OBJ_GET_INFO_BY_FD: u64 = 15;
    /// Look up and delete; the same and the others in batches.
    pub(super) const MAP_LATER: [u64; 5] = [21, 24, 25, 26, 27];
    /// Attaches a program that is loaded.
    pub(super) const LINK_CREATE: u64 = 28;
}

/// Programs for the kernel; a call is refused if one of them refuses it.
pub(super) struct Filter(Vec<BpfProgram>);

impl Filter {
    /// The filter for what goes on to be done.
    pub(super) fn new(needs: Needs) -> Result<Self, Error> {
        let mut refused: BTreeMap<c_long, Vec<SeccompRule>> =
            REFUSED.iter().chain(REFUSED_HERE).map(|call| (*call, Vec::new())).collect();
        refused.insert(libc::SYS_clone, namespaces()?);
        refused.insert(libc::SYS_bpf, vec![other_bpf_commands(needs)?]);
        refused.insert(libc::SYS_ioctl, vec![rule([(1, Op::Eq, FAKE_INPUT)])?]);
        if !needs.tls_probes {
            refused.insert(libc::SYS_perf_event_open, Vec::new());
        }
        // Its flags lie in memory, where no filter sees them. C libraries then take `clone`.
        let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        let mut programs = vec![program(refused, libc::EPERM)?, program(clone3, libc::ENOSYS)?];
        if cfg!(target_arch = "x86_64") {
            programs.push(x32_refused());
        }
        Ok(Self(programs))
    }

    /// Puts the filter in force, for all threads there are and all to come, for good; with it
    /// `no_new_privs`.
    pub(super) fn install_everywhere(&self) -> Result<(), Error> {
        self.0.iter().try_for_each(|program| seccompiler::apply_filter_all_threads(program))
    }
}

fn program(rules: BTreeMap<c_long, Vec<SeccompRule>>, errno: i32) -> Result<BpfProgram, Error> {
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// A rule that holds if all conditions on arguments (number, operator, value) do.
fn rule<T: Into<u64>>(
    conditions: impl IntoIterator<Item = (u8, Op, T)>,
) -> Result<SeccompRule, Error> {
    let condition = |(argument, operator, value): (u8, Op, T)| {
        SeccompCondition::new(argument, Len::Dword, operator, value.into())
    };
    let conditions: Result<Vec<_>, _> = conditions.into_iter().map(condition).collect();
    Ok(SeccompRule::new(conditions?)?)
}

fn namespaces() -> Result<Vec<SeccompRule>, Error> {
    let flags = NAMESPACES.map(|flag| u64::from(flag.unsigned_abs()));
    flags.into_iter().map(|flag| rule([(0, Op::MaskedEq(flag), flag)])).collect()
}

/// Every command that is not one of those needed.
fn other_bpf_commands(needs: Needs) -> Result<SeccompRule, Error> {
    let link = needs.tls_probes.then_some(bpf::LINK_CREATE);
    let allowed =
        bpf::MAP.into_iter().chain(bpf::MAP_LATER).chain([bpf::OBJ_GET_INFO_BY_FD]).chain(link);
    rule(allowed.map(|command| (0, Op::Ne, command)))
}

/// The x32 calls of x86-64 have numbers of their own, which the other programs do not know.
fn x32_refused() -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    /// Where `struct seccomp_data` has the number of the call.
    const NUMBER: u32 = 0;
    let step = |code: u32, jump_if_less: u8, k: u32| sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt: 0,
        jf: jump_if_less,
        k,
    };
    let errno = libc::EPERM.unsigned_abs();
    vec![
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, NUMBER),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, X32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | errno),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use std::{
        fs, io,
        process::{self, Command},
        thread,
    };

    use nix::{
        errno::Errno,
        sched::{CloneFlags, unshare},
    };

    use super::*;

    /// What `attempt` gives on a thread under the filter.
    fn under<T: Send + 'static>(needs: Needs, attempt: impl FnOnce() -> T + Send + 'static) -> T {
        let filter = Filter::new(needs).unwrap();
        let thread = thread::spawn(move || {
            filter.0.iter().for_each(|program| seccompiler::apply_filter(program).unwrap());
            attempt()
        });
        thread.join().unwrap()
    }

    fn raw(call: c_long, arguments: [u64; 4]) -> io::Error {
        let [a, b, c, d] = arguments;
        // SAFETY: the pointers among the arguments are null, and the calls are refused or fail.
        let result = unsafe { libc::syscall(call, a, b, c, d) };
        assert_eq!(result, -1, "call {call} worked");
        io::Error::last_os_error()
    }

    #[test]
    fn no_program_can_be_started() {
        let error = under(Needs::default(), || Command::new("true").status().unwrap_err());
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    }

    #[test]
    fn no_namespace_can_be_made() {
        let user = || unshare(CloneFlags::CLONE_NEWUSER);
        assert_eq!(under(Needs::default(), user), Err(Errno::EPERM));
        let flags = u64::from((libc::CLONE_NEWUSER | libc::SIGCHLD).unsigned_abs());
        let error = under(Needs::default(), move || raw(libc::SYS_clone, [flags, 0, 0, 0]));
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    }

    #[test]
    fn bpf_and_perf_only_as_far_as_needed() {
        let no_such = |call, arguments| move || raw(call, arguments).raw_os_error().unwrap();
        let (load, link) = (5, bpf::LINK_CREATE);
        let probes = Needs { tls_probes: true, ..Needs::default() };
        assert_eq!(under(probes, no_such(libc::SYS_bpf, [load, 0, 0, 0])), libc::EPERM);
        assert_eq!(under(Needs::default(), no_such(libc::SYS_bpf, [link, 0, 0, 0])), libc::EPERM);
        let perf = [0, 0, u64::MAX, 0];
        assert_eq!(under(Needs::default(), no_such(libc::SYS_perf_event_open, perf)), libc::EPERM);
        // Let through, and wrong in itself.
        assert_ne!(under(probes, no_such(libc::SYS_perf_event_open, perf)), libc::EPERM);
    }

    #[test]
    fn what_tracing_does_still_works() {
        under(Needs::default(), || {
            let path = std::env::temp_dir().join(format!("smtptrace-filter-{}", process::id()));
            fs::write(&path, "x").unwrap();
            fs::remove_file(&path).unwrap();
            // `clone3` is said not to be there: the C library then takes `clone`.
            thread::spawn(|| dns_lookup::lookup_host("127.0.0.1").unwrap().count()).join().unwrap();
        });
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_other_numbers_of_x32_are_refused() {
        let error = under(Needs::default(), || raw(0x4000_0000 | libc::SYS_getpid, [0; 4]));
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    }
}
