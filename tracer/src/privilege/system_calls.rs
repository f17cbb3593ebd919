//! The filter of system calls (seccomp(2)): refuses, with EPERM, those by which a process that was taken over
//! would start programs, read other processes, load code into the kernel or gain rights in new namespaces.
//!
//! It names what is refused, not what is allowed: which harmless calls the C library, the resolver and the
//! terminal need differs between versions, and a tracer that fails in production because of such a call helps
//! nobody. `docs/decisions.md` has the reasons. The processes beside it that keep a privilege do one thing each, with
//! calls that are known: for them the filter names what is allowed.

use std::{collections::BTreeMap, env::consts::ARCH};

use nix::libc::{self, c_long};
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op,
    SeccompCondition, SeccompFilter, SeccompRule, sock_filter,
};

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

/// Requests of ioctl(2) by which a process puts what it likes into the input of the shell that comes after:
/// `TIOCSTI`, and `TIOCLINUX`, which pastes on a console. Of the argument the kernel takes 32 bits, as the filter
/// does.
const FAKE_INPUT: [u64; 2] = [0x5412, 0x541c];

/// What makes or uses a socket; reading and writing one that is open does not go through these.
const NETWORK: &[c_long] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
];

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
}

/// What a process beside the one that traces does: it waits for a packet, opens and answers, and ends.
const PLAIN: &[c_long] = &[
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fcntl,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_write,
];

/// And to make and remove files.
const FILES: &[c_long] = &[
    libc::SYS_unlinkat,
    libc::SYS_geteuid,
    libc::SYS_getegid,
    libc::SYS_getuid,
    libc::SYS_getgid,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
];

/// And to start another process.
const STARTING: &[c_long] = &[
    libc::SYS_clone,
    libc::SYS_wait4,
    libc::SYS_clock_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_set_robust_list,
    libc::SYS_getppid,
    libc::SYS_prctl,
    libc::SYS_setsid,
    libc::SYS_dup3,
    libc::SYS_close_range,
];

/// And to confine that one further.
const CONFINING: &[c_long] = &[
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
    libc::SYS_seccomp,
];

/// And to look at processes, each by a process of its own, and to attach.
const ATTACHING: &[c_long] = &[
    libc::SYS_openat2,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_lseek,
    libc::SYS_fstatfs,
    libc::SYS_perf_event_open,
    libc::SYS_setsockopt,
    libc::SYS_setitimer,
];

/// Of this architecture: the older calls by which the C library does some of these.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[libc::SYS_readlink, libc::SYS_alarm, libc::SYS_dup2, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// Programs for the kernel; a call is refused if one of them refuses it.
pub(super) struct Filter(Vec<BpfProgram>);

impl Filter {
    /// The filter for a process that traces; or, without `network`, for one that reads files.
    pub(super) fn refusing(network: bool) -> Result<Self, Error> {
        let mut refused: BTreeMap<c_long, Vec<SeccompRule>> =
            REFUSED.iter().chain(REFUSED_HERE).map(|call| (*call, Vec::new())).collect();
        if !network {
            refused.extend(NETWORK.iter().map(|call| (*call, Vec::new())));
        }
        refused.insert(libc::SYS_clone, namespaces()?);
        refused.insert(libc::SYS_bpf, vec![other_bpf_commands()?]);
        let requests = FAKE_INPUT.map(|request| rule([(1, Op::Eq, request)]));
        refused.insert(libc::SYS_ioctl, requests.into_iter().collect::<Result<_, _>>()?);
        refused.insert(libc::SYS_perf_event_open, Vec::new());
        // Its flags lie in memory, where no filter sees them. C libraries then take `clone`.
        let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        let refuse = errno(libc::EPERM);
        Ok(Self::of(vec![
            program(refused, SeccompAction::Allow, refuse)?,
            program(clone3, SeccompAction::Allow, errno(libc::ENOSYS))?,
        ]))
    }

    /// The filter for the process that makes and removes files.
    pub(super) fn for_files() -> Result<Self, Error> {
        Self::allowing(PLAIN.iter().chain(FILES))
    }

    /// The filter for the process that attaches to libraries, and those that it starts.
    pub(super) fn for_attaching() -> Result<Self, Error> {
        Self::allowing(PLAIN.iter().chain(STARTING).chain(ATTACHING).chain(OLDER))
    }

    /// The filter for the process that starts the one that makes files.
    pub(super) fn for_starting_again() -> Result<Self, Error> {
        let calls = PLAIN.iter().chain(STARTING).chain(OLDER);
        Self::allowing(calls.chain(FILES).chain(CONFINING))
    }

    fn allowing<'a>(calls: impl Iterator<Item = &'a c_long>) -> Result<Self, Error> {
        let mut allowed: BTreeMap<c_long, Vec<SeccompRule>> =
            calls.map(|call| (*call, Vec::new())).collect();
        if let Some(rules) = allowed.get_mut(&libc::SYS_clone) {
            let none = NAMESPACES.iter().fold(0, |all, flag| all | flag.unsigned_abs());
            rules.push(rule([(0, Op::MaskedEq(none.into()), 0_u64)])?);
        }
        // Not there, so that the C library takes an older call if one is let through.
        Ok(Self::of(vec![program(allowed, errno(libc::ENOSYS), SeccompAction::Allow)?]))
    }

    fn of(mut programs: Vec<BpfProgram>) -> Self {
        if cfg!(target_arch = "x86_64") {
            // First: the others may not let a further one be put in force.
            programs.insert(0, x32_refused());
        }
        Self(programs)
    }

    /// Puts the filter in force, for all threads there are and all to come, for good; with it
    /// `no_new_privs`.
    pub(super) fn install_everywhere(&self) -> Result<(), Error> {
        self.0.iter().try_for_each(|program| seccompiler::apply_filter_all_threads(program))
    }
}

/// A program that does `matched` with the calls of `rules`, and `otherwise` with all others.
fn program(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Error> {
    Ok(SeccompFilter::new(rules, otherwise, matched, ARCH.try_into()?)?.try_into()?)
}

fn errno(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.unsigned_abs())
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
fn other_bpf_commands() -> Result<SeccompRule, Error> {
    let allowed = bpf::MAP.into_iter().chain(bpf::MAP_LATER).chain([bpf::OBJ_GET_INFO_BY_FD]);
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
    fn under<T: Send + 'static>(filter: Filter, attempt: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = thread::spawn(move || {
            filter.0.iter().for_each(|program| seccompiler::apply_filter(program).unwrap());
            attempt()
        });
        thread.join().unwrap()
    }

    fn tracing() -> Filter {
        Filter::refusing(true).unwrap()
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
        let error = under(tracing(), || Command::new("true").status().unwrap_err());
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    }

    #[test]
    fn no_namespace_can_be_made() {
        let user = || unshare(CloneFlags::CLONE_NEWUSER);
        assert_eq!(under(tracing(), user), Err(Errno::EPERM));
        let flags = u64::from((libc::CLONE_NEWUSER | libc::SIGCHLD).unsigned_abs());
        let error = under(tracing(), move || raw(libc::SYS_clone, [flags, 0, 0, 0]));
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    }

    #[test]
    fn bpf_on_open_maps_only_and_no_perf_events() {
        let errno = |call, arguments| move || raw(call, arguments).raw_os_error().unwrap();
        let (lookup, load, link) = (1, 5, 28);
        for refused in [load, link] {
            assert_eq!(under(tracing(), errno(libc::SYS_bpf, [refused, 0, 0, 0])), libc::EPERM);
        }
        // Let through, and wrong in itself.
        let lookup = under(tracing(), errno(libc::SYS_bpf, [lookup, 0, 0, 0]));
        assert!([libc::EINVAL, libc::EFAULT, libc::EPERM].contains(&lookup), "{lookup}");
        let perf = [0, 0, u64::MAX, 0];
        assert_eq!(under(tracing(), errno(libc::SYS_perf_event_open, perf)), libc::EPERM);
        let attaching = Filter::for_attaching().unwrap();
        assert_ne!(under(attaching, errno(libc::SYS_perf_event_open, perf)), libc::ENOSYS);
    }

    #[test]
    fn nothing_is_put_into_the_terminal_however_the_request_is_written() {
        for request in [0x5412, 0x541c, 0x1_0000_5412, 0xffff_ffff_0000_541c] {
            let error = under(tracing(), move || raw(libc::SYS_ioctl, [u64::MAX, request, 0, 0]));
            assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{request:#x}");
        }
        // Any other reaches the descriptor, which there is none of.
        let error = under(tracing(), || raw(libc::SYS_ioctl, [u64::MAX, 0x5401, 0, 0]));
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn readers_have_no_network() {
        let reading = Filter::refusing(false).unwrap();
        let error = under(reading, || std::net::UdpSocket::bind("127.0.0.1:0").unwrap_err());
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    }

    #[test]
    fn a_process_that_does_one_thing_can_do_nothing_else() {
        for filter in [Filter::for_files, Filter::for_attaching, Filter::for_starting_again] {
            for call in [libc::SYS_socket, libc::SYS_bpf, libc::SYS_mount, libc::SYS_ptrace] {
                let error = under(filter().unwrap(), move || raw(call, [u64::MAX; 4]));
                assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "{call}");
            }
        }
        let flags = u64::from((libc::CLONE_NEWUSER | libc::SIGCHLD).unsigned_abs());
        let clone = move || raw(libc::SYS_clone, [flags, 0, 0, 0]);
        let error = under(Filter::for_attaching().unwrap(), clone);
        assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "{error}");
    }

    #[test]
    fn what_tracing_does_still_works() {
        under(tracing(), || {
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
        let error = under(tracing(), || raw(0x4000_0000 | libc::SYS_getpid, [0; 4]));
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    }
}
