//! Probes on the read side of TLS libraries (`--tls-probes`).
//!
//! A probe belongs to a file, not to a process: it fires in every process that maps the file, also in
//! those that start later. So each library file is attached to once, when a process that opens or holds
//! a traced connection is first seen to map it.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf,
    maps::ProgramArray,
    programs::{
        ProgramError, UProbe,
        uprobe::{UProbeError, UProbeScope},
    },
};
use tracer_analysis::recording::{HookState, HookStatus};

use super::{
    attach::cause,
    tls_libraries::{Candidate, used_by},
};

/// Name of the hook that stands for the programs. Each library has a further one, named by its file.
pub(crate) const HOOK: &str = "tls_probes";

const FACT: &str = "messages under TLS, exactly";
const INSTEAD: &str = "instead: inferred from the lengths of turns";

/// The programs in the BPF object.
pub(crate) const PROGRAMS: [&str; 6] =
    ["tls_read", "tls_read_ex", "tls_control", "tls_return", NEXT, "tls_free"];

/// The program among them that hands over the next piece of a long read. It is called by itself and by
/// `tls_return`, and attached to nothing.
const NEXT: &str = "tls_next";

/// Libraries at most; each takes up to 11 descriptors.
const LIBRARIES: usize = 64;

/// Files remembered that are no TLS library.
const OTHERS: usize = 4096;

/// A process is looked at again after this time: it may be another one of the same id, or may have loaded
/// a library since.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A function to probe.
#[derive(Debug)]
struct Function {
    symbol: &'static str,
    /// Program at its entry.
    entry: &'static str,
    /// Whether its return is of interest.
    returns: bool,
    /// Whether a library without it is of no use.
    required: bool,
}

/// A TLS library, by what is probed of it.
#[derive(Debug)]
struct Library {
    name: &'static str,
    functions: &'static [Function],
}

const fn function(symbol: &'static str, entry: &'static str, required: bool) -> Function {
    Function { symbol, entry, returns: true, required }
}

const fn free(symbol: &'static str) -> Function {
    Function { symbol, entry: "tls_free", returns: false, required: true }
}

/// The read function comes first: a library without it is another one.
const KINDS: [Library; 2] = [
    Library {
        name: "OpenSSL",
        functions: &[
            function("SSL_read", "tls_read", true),
            function("SSL_read_ex", "tls_read_ex", false), // since 1.1.1
            function("SSL_do_handshake", "tls_control", true),
            function("SSL_connect", "tls_control", true),
            function("SSL_shutdown", "tls_control", true),
            free("SSL_free"),
        ],
    },
    Library {
        name: "GnuTLS",
        functions: &[
            function("gnutls_record_recv", "tls_read", true),
            function("gnutls_handshake", "tls_control", true),
            function("gnutls_bye", "tls_control", true),
            free("gnutls_deinit"),
        ],
    },
];

/// The probes of one trace.
#[derive(Debug, Default)]
pub(crate) struct TlsProbes {
    /// Libraries that are attached to, and those that could not be.
    libraries: HashSet<(u64, u64)>,
    /// Files that are no TLS library.
    others: HashSet<(u64, u64)>,
    /// Processes looked at, and when.
    processes: HashMap<u32, Instant>,
    full: bool,
}

impl TlsProbes {
    /// Loads the programs and attaches them to the libraries that the user names. The first status is
    /// that of the programs. Without programs there are no probes, but the trace goes on.
    pub(crate) fn start(
        ebpf: &mut Ebpf,
        libraries: &[PathBuf],
    ) -> Result<(Option<Self>, Vec<HookStatus>)> {
        let mut hook = HookStatus::attached(HOOK, FACT);
        for name in PROGRAMS {
            if let Err(error) = program(ebpf, name).and_then(UProbe::load) {
                hook.state = HookState::Unavailable;
                hook.reason = Some(format!("uprobe: {}; {INSTEAD}", cause(&error)));
                return Ok((None, vec![hook]));
            }
        }
        link_next(ebpf).context("lets `tls_return` call `tls_next`")?;
        hook.program = Some("uprobe".into());
        let mut probes = Self::default();
        let mut statuses = vec![hook];
        for path in libraries {
            let option = || format!("--tls-library {}", path.display());
            let candidate = Candidate::open(path).with_context(option)?;
            if !probes.libraries.insert(candidate.identity) {
                continue;
            }
            let status = attach(ebpf, &candidate).with_context(option)?;
            if status.state == HookState::Unavailable {
                bail!("{}: {}", option(), status.reason.unwrap_or_default());
            }
            statuses.push(status);
        }
        if let ([hook], true) = (&mut statuses[..], probes.libraries.is_empty()) {
            hook.state = HookState::Fallback;
            hook.reason = Some(format!(
                "no process with a traced connection was seen to map OpenSSL or GnuTLS; {INSTEAD}"
            ));
        }
        Ok((Some(probes), statuses))
    }

    /// Attaches to the TLS libraries of process `pid` that are not yet known. Returns a status for each.
    pub(crate) fn look_at(&mut self, ebpf: &mut Ebpf, pid: u32) -> Vec<HookStatus> {
        if !self.is_due(pid) {
            return Vec::new();
        }
        used_by(pid).iter().filter_map(|candidate| self.candidate(ebpf, candidate)).collect()
    }

    fn is_due(&mut self, pid: u32) -> bool {
        let now = Instant::now();
        let recent = |then: &Instant| now.duration_since(*then) < LOOK_AGAIN;
        if self.processes.get(&pid).is_some_and(recent) {
            return false;
        }
        if self.processes.len() >= OTHERS {
            self.processes.retain(|_, then| recent(then));
        }
        if self.processes.len() < OTHERS {
            self.processes.insert(pid, now);
        }
        true
    }

    fn candidate(&mut self, ebpf: &mut Ebpf, candidate: &Candidate) -> Option<HookStatus> {
        let identity = candidate.identity;
        if self.libraries.contains(&identity) || self.others.contains(&identity) {
            return None;
        }
        if self.libraries.len() >= LIBRARIES {
            let mut status = HookStatus::attached("further TLS libraries", FACT);
            status.state = HookState::Unavailable;
            status.reason = Some(format!("{LIBRARIES} are attached to; {INSTEAD}"));
            return (!std::mem::replace(&mut self.full, true)).then_some(status);
        }
        if let Ok(status) = attach(ebpf, candidate) {
            self.libraries.insert(identity);
            return Some(status);
        }
        if self.others.len() >= OTHERS {
            self.others.clear();
        }
        self.others.insert(identity);
        None
    }
}

/// Puts [`NEXT`], which is loaded, where its callers look for it.
fn link_next(ebpf: &mut Ebpf) -> Result<()> {
    let next = program(ebpf, NEXT)?.fd()?.try_clone()?;
    let map = ebpf.map_mut("TLS_NEXT").context("no map TLS_NEXT")?;
    Ok(ProgramArray::try_from(map)?.set(0, &next, 0)?)
}

/// A file that has none of the functions.
#[derive(Debug, thiserror::Error)]
#[error(
    "neither SSL_read nor gnutls_record_recv is in it ({reason}); name the libssl.so or libgnutls.so that \
     the mail server maps (`grep -E 'ssl|tls' /proc/PID/maps` shows it)"
)]
struct NoTlsLibrary {
    reason: String,
}

/// Attaches to one file. The status says whether it worked; an error means that the file is no TLS
/// library.
fn attach(ebpf: &mut Ebpf, candidate: &Candidate) -> Result<HookStatus, NoTlsLibrary> {
    let mut reason = String::new();
    for library in &KINDS {
        match attach_library(ebpf, candidate, library) {
            Err(error) if is_first(library, &error) => reason = cause(&error),
            outcome => {
                let fact = format!("{FACT} ({})", library.name);
                let mut status = HookStatus::attached(&candidate.name, &fact);
                match outcome {
                    Ok(()) => status.program = Some("uprobe".into()),
                    Err(error) => {
                        status.state = HookState::Unavailable;
                        status.reason = Some(format!("uprobe: {}; {INSTEAD}", cause(&error)));
                    }
                }
                return Ok(status);
            }
        }
    }
    Err(NoTlsLibrary { reason })
}

/// Whether `error` says that the file has not even the first function of `library`.
fn is_first(library: &Library, error: &ProgramError) -> bool {
    let ProgramError::UProbeError(UProbeError::SymbolError { symbol, .. }) = error else {
        return false;
    };
    library.functions.first().is_some_and(|first| first.symbol == symbol)
}

fn attach_library(
    ebpf: &mut Ebpf,
    candidate: &Candidate,
    library: &Library,
) -> Result<(), ProgramError> {
    let path = candidate.path();
    for function in library.functions {
        let mut attach_program = |name| {
            program(ebpf, name)?.attach(function.symbol, &path, UProbeScope::AllProcesses).map(drop)
        };
        match attach_program(function.entry) {
            Err(ProgramError::UProbeError(UProbeError::SymbolError { .. }))
                if !function.required =>
            {
                continue;
            }
            attached => attached?,
        }
        if function.returns {
            attach_program("tls_return")?;
        }
    }
    Ok(())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut UProbe, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}
