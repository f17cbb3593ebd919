//! The facts that smtptrace records and the hooks that can record each, best first.

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FEntry, KProbe, ProgramError, RawTracePoint},
};

/// A kind of hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Tracepoint with arguments typed by BTF.
    TpBtf,
    /// Entry of a kernel function, through a trampoline.
    Fentry,
    /// Entry of a kernel function, through a breakpoint.
    Kprobe,
    /// Tracepoint with bare arguments: needs no BTF of the kernel's own.
    RawTp,
}

impl Kind {
    /// Its name in the kernel's documentation.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::RawTp => "raw_tp",
        }
    }
}

/// What happens when no hook for a fact can be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// Tracing is impossible.
    Fatal,
    /// The fact is missing from the records; says which fields.
    Lost(&'static str),
    /// Another hook records it less exactly; says how.
    Coarser(&'static str),
}

/// A fact and the programs that can record it.
#[derive(Debug)]
pub(super) struct Fact {
    /// Kernel symbol or tracepoint.
    pub(super) hook: &'static str,
    /// What is recorded.
    pub(super) records: &'static str,
    /// Kind and name of each program, best first.
    pub(super) programs: &'static [(Kind, &'static str)],
    /// If none can be attached.
    pub(super) otherwise: Otherwise,
}

impl Fact {
    /// What a hook of this kind leaves out.
    pub(super) fn shortfall(&self, kind: Kind) -> Option<&'static str> {
        let hands_over = ["tcp_probe", "skb_copy_datagram_iovec"].contains(&self.hook);
        (hands_over && kind == RawTp).then_some(
            "replies only as far as they stand in the linear part of a packet: with many network cards all, \
             on loopback and veth none; where they are missing, codes and messages are unknown",
        )
    }

    /// Whether a hook of this kind can record it.
    pub(super) fn has(&self, kind: Kind) -> bool {
        self.programs.iter().any(|(other, _)| *other == kind)
    }
}

use Kind::{Fentry, Kprobe, RawTp, TpBtf};

/// Every fact. The order is that of attaching: destroy before anything that makes entries.
pub(super) const FACTS: [Fact; 11] = [
    Fact {
        hook: "tcp_destroy_sock",
        records: "end of the record",
        programs: &[(TpBtf, "tcp_destroy_sock"), (RawTp, "tcp_destroy_sock_raw")],
        otherwise: Otherwise::Fatal,
    },
    Fact {
        hook: "tcp_probe",
        records: "first byte, turns, replies",
        programs: &[(TpBtf, "tcp_probe"), (RawTp, "tcp_probe_raw")],
        otherwise: Otherwise::Lost("banner, greeting, turns, idle gaps"),
    },
    Fact {
        hook: "tcp_sendmsg_locked",
        records: "time of client writes",
        programs: &[
            (TpBtf, "tcp_sendmsg_locked"),
            (Fentry, "tcp_sendmsg_locked_fentry"),
            (RawTp, "tcp_sendmsg_locked_raw"),
            (Kprobe, "tcp_sendmsg_locked_kprobe"),
        ],
        otherwise: Otherwise::Coarser(
            "time of the last segment sent before a reply, from tcp_probe",
        ),
    },
    Fact {
        hook: "tcp_rcv_space_adjust",
        records: "owner of the connection",
        programs: &[(TpBtf, "tcp_rcv_space_adjust"), (RawTp, "tcp_rcv_space_adjust_raw")],
        otherwise: Otherwise::Coarser("processes that write or close, not those that only read"),
    },
    Fact {
        hook: "skb_copy_datagram_iovec",
        records: "replies after our FIN",
        programs: &[(TpBtf, "skb_copy_datagram_iovec"), (RawTp, "skb_copy_datagram_iovec_raw")],
        otherwise: Otherwise::Coarser("their bytes, counted at the next change of state"),
    },
    Fact {
        hook: "tcp_receive_reset",
        records: "reset received",
        programs: &[(TpBtf, "tcp_receive_reset"), (RawTp, "tcp_receive_reset_raw")],
        otherwise: Otherwise::Coarser("ECONNRESET at the state CLOSE"),
    },
    Fact {
        hook: "tcp_send_reset",
        records: "reset sent",
        programs: &[(TpBtf, "tcp_send_reset"), (RawTp, "tcp_send_reset_raw")],
        otherwise: Otherwise::Coarser("a CLOSE without FIN and error"),
    },
    Fact {
        hook: "tcp_retransmit_skb",
        records: "time of retransmissions",
        programs: &[(TpBtf, "tcp_retransmit_skb"), (RawTp, "tcp_retransmit_skb_raw")],
        otherwise: Otherwise::Coarser("the number only, read at the state CLOSE"),
    },
    Fact {
        hook: "inet_sk_error_report",
        records: "socket errors",
        programs: &[(TpBtf, "inet_sk_error_report"), (RawTp, "inet_sk_error_report_raw")],
        otherwise: Otherwise::Coarser("sk_err at the state CLOSE"),
    },
    Fact {
        hook: "tcp_connect",
        records: "SYN sent",
        programs: &[(Fentry, "tcp_connect_fentry"), (Kprobe, "tcp_connect_kprobe")],
        otherwise: Otherwise::Coarser(
            "the state SYN_SENT, set before the kernel looks for a free source port",
        ),
    },
    Fact {
        hook: "inet_sock_set_state",
        records: "opened, established, closed",
        programs: &[(TpBtf, "inet_sock_set_state"), (RawTp, "inet_sock_set_state_raw")],
        otherwise: Otherwise::Fatal,
    },
];

/// Ends the name of a program that is there a second time: it runs where the kernel skips the first.
const SECOND: &str = "_again";

/// The hook that a program of the BPF object is for.
pub(crate) fn hook_of(program: &str) -> &str {
    let kind = ["_fentry", "_kprobe", "_raw"];
    let first = program.strip_suffix(SECOND).unwrap_or(program);
    kind.iter().find_map(|kind| first.strip_suffix(kind)).unwrap_or(first)
}

/// Whether a program of the BPF object is there for where the kernel skips another.
pub(crate) fn is_second(program: &str) -> bool {
    program.ends_with(SECOND)
}

/// Why a program is not attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachError {
    /// The kernel does not show its own types, so that arguments cannot be typed.
    #[error("the kernel shows no BTF of its own")]
    NoBtf,
    /// Refused.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// Loads and attaches a program, and its second if it has one. `btf`: the kernel's own.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    btf: Option<&Btf>,
    kind: Kind,
    program: &str,
    symbol: &str,
) -> Result<(), AttachError> {
    attach_one(ebpf, btf, kind, program, symbol)?;
    let second = format!("{program}{SECOND}");
    if ebpf.program(&second).is_none() {
        return Ok(());
    }
    attach_one(ebpf, btf, kind, &second, symbol)
}

fn attach_one(
    ebpf: &mut Ebpf,
    btf: Option<&Btf>,
    kind: Kind,
    program: &str,
    symbol: &str,
) -> Result<(), AttachError> {
    let typed = || btf.ok_or(AttachError::NoBtf);
    let found = ebpf.program_mut(program).ok_or(ProgramError::NotLoaded)?;
    match kind {
        TpBtf => {
            let hook: &mut BtfTracePoint = found.try_into()?;
            hook.load(symbol, typed()?)?;
            hook.attach()?;
        }
        Fentry => {
            let hook: &mut FEntry = found.try_into()?;
            hook.load(symbol, typed()?)?;
            hook.attach()?;
        }
        RawTp => {
            let hook: &mut RawTracePoint = found.try_into()?;
            hook.load()?;
            hook.attach(symbol)?;
        }
        Kprobe => {
            let hook: &mut KProbe = found.try_into()?;
            hook.load()?;
            hook.attach(symbol, 0)?;
        }
    }
    Ok(())
}
