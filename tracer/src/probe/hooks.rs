//! The facts that smtptrace records and the hooks that can record each, best first.

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FEntry, KProbe, ProgramError},
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
}

impl Kind {
    /// Its name in the kernel's documentation.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
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

use Kind::{Fentry, Kprobe, TpBtf};

/// Every fact. The order is that of attaching: destroy before anything that makes entries.
pub(super) const FACTS: [Fact; 10] = [
    Fact {
        hook: "tcp_destroy_sock",
        records: "end of the record",
        programs: &[(TpBtf, "tcp_destroy_sock")],
        otherwise: Otherwise::Fatal,
    },
    Fact {
        hook: "tcp_probe",
        records: "first byte, turns, replies",
        programs: &[(TpBtf, "tcp_probe")],
        otherwise: Otherwise::Lost("banner, greeting, turns, idle gaps"),
    },
    Fact {
        hook: "tcp_sendmsg_locked",
        records: "time of client writes",
        programs: &[
            (TpBtf, "tcp_sendmsg_locked"),
            (Fentry, "tcp_sendmsg_locked_fentry"),
            (Kprobe, "tcp_sendmsg_locked_kprobe"),
        ],
        otherwise: Otherwise::Coarser(
            "time of the last segment sent before a reply, from tcp_probe",
        ),
    },
    Fact {
        hook: "tcp_rcv_space_adjust",
        records: "owner of the connection",
        programs: &[(TpBtf, "tcp_rcv_space_adjust")],
        otherwise: Otherwise::Coarser("processes that write or close, not those that only read"),
    },
    Fact {
        hook: "tcp_receive_reset",
        records: "reset received",
        programs: &[(TpBtf, "tcp_receive_reset")],
        otherwise: Otherwise::Coarser("ECONNRESET at the state CLOSE"),
    },
    Fact {
        hook: "tcp_send_reset",
        records: "reset sent",
        programs: &[(TpBtf, "tcp_send_reset")],
        otherwise: Otherwise::Coarser("a CLOSE without FIN and error"),
    },
    Fact {
        hook: "tcp_retransmit_skb",
        records: "time of retransmissions",
        programs: &[(TpBtf, "tcp_retransmit_skb")],
        otherwise: Otherwise::Coarser("the number only, read at the state CLOSE"),
    },
    Fact {
        hook: "inet_sk_error_report",
        records: "socket errors",
        programs: &[(TpBtf, "inet_sk_error_report")],
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
        programs: &[(TpBtf, "inet_sock_set_state")],
        otherwise: Otherwise::Fatal,
    },
];

/// Loads and attaches one program.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    btf: &Btf,
    kind: Kind,
    program: &str,
    symbol: &str,
) -> Result<(), ProgramError> {
    let found = ebpf.program_mut(program).ok_or(ProgramError::NotLoaded)?;
    match kind {
        TpBtf => {
            let hook: &mut BtfTracePoint = found.try_into()?;
            hook.load(symbol, btf)?;
            hook.attach()?;
        }
        Fentry => {
            let hook: &mut FEntry = found.try_into()?;
            hook.load(symbol, btf)?;
            hook.attach()?;
        }
        Kprobe => {
            let hook: &mut KProbe = found.try_into()?;
            hook.load()?;
            hook.attach(symbol, 0)?;
        }
    }
    Ok(())
}
