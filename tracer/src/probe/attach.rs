//! Attaches hook by hook, taking the next best where one cannot be had.

use std::{error::Error, fmt::Write as _, io};

use anyhow::{Result, bail};
use aya::{Btf, BtfError, Ebpf, programs::ProgramError};
use nix::errno::Errno;
use tracer_analysis::recording::{HookState, HookStatus};

use super::{
    Tier,
    hooks::{AttachError, FACTS, Fact, Kind, Otherwise, attach as attach_program},
};

/// Attaches a hook for every fact and says how each went. Fails if tracing is impossible, or not with the
/// hooks that `tier` forces. `btf`: the kernel's own.
pub(crate) fn attach(ebpf: &mut Ebpf, btf: Option<&Btf>, tier: Tier) -> Result<Vec<HookStatus>> {
    FACTS.iter().map(|fact| attach_fact(ebpf, btf, tier, fact)).collect()
}

fn attach_fact(ebpf: &mut Ebpf, btf: Option<&Btf>, tier: Tier, fact: &Fact) -> Result<HookStatus> {
    let mut status = HookStatus::attached(fact.hook, fact.records);
    let mut reasons = Vec::new();
    for (kind, program) in fact.programs.iter().filter(|(kind, _)| tier.allows(*kind, fact)) {
        match attach_program(ebpf, btf, *kind, program, fact.hook) {
            Ok(()) => {
                status.program = Some(kind.name().into());
                reasons.extend(fact.shortfall(*kind).map(str::to_owned));
                if !reasons.is_empty() {
                    status.state = HookState::Fallback;
                    status.reason = Some(reasons.join("; "));
                }
                return Ok(status);
            }
            Err(error) if tier != Tier::Auto && !is_unknown_tracepoint(*kind, &error) => bail!(
                "cannot attach to {} ({}) by {}, which --hooks {} demands: {}\n\
                 `--hooks auto` takes the best hook that this kernel has; `smtptrace doctor` shows which",
                fact.hook,
                fact.records,
                kind.name(),
                tier.name(),
                why(&error)
            ),
            Err(error) => reasons.push(format!("{}: {}", kind.name(), why(&error))),
        }
    }
    if reasons.is_empty() {
        reasons.push(format!("--hooks {} has no hook for it", tier.name()));
    }
    let reasons = reasons.join("; ");
    match fact.otherwise {
        Otherwise::Fatal => bail!(
            "cannot attach to {} ({}): {reasons}\nWithout it nothing can be traced; \
             `smtptrace doctor` says more about this machine",
            fact.hook,
            fact.records
        ),
        Otherwise::Lost(fields) => {
            status.state = HookState::Unavailable;
            status.reason = Some(format!("{reasons}; not recorded: {fields}"));
        }
        Otherwise::Coarser(instead) => {
            status.state = HookState::Fallback;
            status.reason = Some(format!("{reasons}; instead: {instead}"));
        }
    }
    Ok(status)
}

/// Whether the kernel does not have the tracepoint at all. Then it is the kernel that lacks a fact, and not
/// a tier.
fn is_unknown_tracepoint(kind: Kind, error: &AttachError) -> bool {
    match (kind, error) {
        (Kind::TpBtf, AttachError::Program(error)) => {
            matches!(error, ProgramError::Btf(BtfError::UnknownBtfTypeName { .. }))
        }
        (Kind::RawTp, AttachError::Program(ProgramError::SyscallError(error))) => {
            error.io_error.raw_os_error() == Some(Errno::ENOENT as i32)
        }
        _ => false,
    }
}

/// Why a hook could not be had, on one line.
fn why(error: &AttachError) -> String {
    match error {
        AttachError::NoBtf => error.to_string(),
        AttachError::Program(error) => cause(error),
    }
}

/// Why a program could not be loaded or attached, on one line: the last line of the verifier's log, or
/// the innermost error.
pub(super) fn cause(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let mut text = format!("refused by the kernel ({})", io_error.kind());
        if let Some(complaint) = complaint(&log) {
            let _ = write!(text, ": {complaint}");
        }
        return text;
    }
    innermost(error)
}

/// The last line of the verifier's `log` that is none of its statistics.
fn complaint(log: &str) -> Option<&str> {
    /// `print_verification_stats` in `kernel/bpf/verifier.c`.
    const STATISTICS: [&str; 3] = ["verification time", "stack depth ", "processed "];
    let mut lines = log.lines().map(str::trim).rev();
    lines.find(|line| !line.is_empty() && !STATISTICS.iter().any(|it| line.starts_with(it)))
}

/// The innermost error, on one line.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    /// `include/linux/errno.h`: of the kernel only, so libc has no words for it.
    const ENOTSUPP: i32 = 524;
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let number = innermost.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    if number == Some(ENOTSUPP) {
        return "this kernel does not support it on this processor (ENOTSUPP)".into();
    }
    innermost.to_string().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_is_quoted_without_its_statistics() {
        let log = "12: (85) call unknown#162\ninvalid func unknown#162\nverification time 45 usec\n\
                   stack depth 0+0\nprocessed 12 insns (limit 1000000)\n\n";
        assert_eq!(complaint(log), Some("invalid func unknown#162"));
        assert_eq!(complaint("processed 0 insns\n"), None);
    }

    #[test]
    fn errors_that_only_the_kernel_knows_have_words() {
        let unknown = innermost(&io::Error::from_raw_os_error(524));
        assert!(unknown.ends_with("(ENOTSUPP)"), "{unknown}");
        let known = innermost(&io::Error::from_raw_os_error(2));
        assert_eq!(known, "No such file or directory (os error 2)");
    }
}
