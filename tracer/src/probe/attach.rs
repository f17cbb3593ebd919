//! Attaches hook by hook, taking the next best where one cannot be had.

use std::{error::Error, fmt::Write as _};

use anyhow::{Result, bail};
use aya::{Btf, Ebpf, programs::ProgramError};
use tracer_analysis::recording::{HookState, HookStatus};

use super::hooks::{FACTS, Fact, Otherwise, attach as attach_program};

/// Attaches a hook for every fact and says how each went. Fails only if tracing is impossible.
pub(crate) fn attach(ebpf: &mut Ebpf, btf: &Btf) -> Result<Vec<HookStatus>> {
    FACTS.iter().map(|fact| attach_fact(ebpf, btf, fact)).collect()
}

fn attach_fact(ebpf: &mut Ebpf, btf: &Btf, fact: &Fact) -> Result<HookStatus> {
    let mut status = HookStatus::attached(fact.hook, fact.records);
    let mut reasons = Vec::new();
    for (kind, program) in fact.programs {
        match attach_program(ebpf, btf, *kind, program, fact.hook) {
            Ok(()) => {
                status.program = Some(kind.name().into());
                if !reasons.is_empty() {
                    status.state = HookState::Fallback;
                    status.reason = Some(reasons.join("; "));
                }
                return Ok(status);
            }
            Err(error) => reasons.push(format!("{}: {}", kind.name(), cause(&error))),
        }
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

/// Why a program could not be loaded or attached, on one line: the last line of the verifier's log, or
/// the innermost error.
pub(super) fn cause(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let complaint = log.lines().rev().find(|line| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with("processed ") && !line.starts_with("verification")
        });
        let mut text = format!("refused by the kernel ({})", io_error.kind());
        if let Some(complaint) = complaint {
            let _ = write!(text, ": {}", complaint.trim());
        }
        return text;
    }
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string().replace('\n', " ")
}
