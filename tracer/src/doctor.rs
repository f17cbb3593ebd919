//! `smtptrace doctor`: what works on this machine, and what to do about the rest.

use std::io::{self, Write};

use anyhow::{Result, bail};
use tracer_analysis::recording::{HookState, HookStatus};

use crate::{
    cli::HookArgs,
    kernel::Kernel,
    output::closed_pipe_is_fine,
    probe::{
        Settings,
        preflight::{Finding, Machine, Severity},
    },
    self_check,
};

/// Runs the command. An error if tracing does not work here.
pub(crate) fn run(args: &HookArgs) -> Result<()> {
    let findings = Machine::read(args.btf.as_deref()).findings();
    let fit = findings.iter().all(|finding| finding.severity != Severity::Fatal);
    let mut out = io::stdout().lock();
    closed_pipe_is_fine(write_findings(&mut out, &findings))?;
    if !fit {
        bail!("smtptrace cannot trace on this machine as it is; see above for what to do");
    }
    let trial = trial(args);
    self_check::check(&trial)?;
    let kernel = Kernel::start(&trial, false, None)?;
    closed_pipe_is_fine(write_hooks(&mut out, kernel.hooks()))?;
    Ok(())
}

/// Attaches everything and traces next to nothing: one port that nobody connects to.
fn trial(args: &HookArgs) -> Settings {
    Settings {
        tier: args.hooks,
        btf: args.btf.clone(),
        ports: vec![u16::MAX],
        replies: true,
        tls_probes: true,
        ring_size: 4096,
        max_connections: 1,
        ..Settings::default()
    }
}

fn write_findings(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    for finding in findings {
        let mark = match finding.severity {
            Severity::Good => "ok  ",
            Severity::Note => "note",
            Severity::Fatal => "BAD ",
        };
        writeln!(out, "{mark}  {:<13} {}", finding.subject, finding.found)?;
        if !finding.remedy.is_empty() {
            writeln!(out, "      {:<13} -> {}", "", finding.remedy)?;
        }
    }
    Ok(())
}

fn write_hooks(out: &mut impl Write, hooks: &[HookStatus]) -> io::Result<()> {
    writeln!(out, "\nhooks:")?;
    for hook in hooks {
        let mark = match hook.state {
            HookState::Attached => "ok  ",
            HookState::Fallback => "note",
            HookState::Unavailable => "BAD ",
        };
        let program = hook.program.as_deref().unwrap_or("-");
        writeln!(out, "{mark}  {:<21} {:<7} {}", hook.hook, program, hook.fact)?;
        if let Some(reason) = &hook.reason {
            writeln!(out, "      {reason}")?;
        }
    }
    writeln!(out, "\nTracing works.")
}
