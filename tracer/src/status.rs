//! The exit status.

use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use tracer_analysis::report::Report;

use crate::{
    check,
    cli::FailOn,
    diagnostics::{Level, say},
};

/// A threshold was crossed.
pub(crate) const CROSSED: u8 = 1;
/// Wrong usage, and errors at run time; clap uses the same.
pub(crate) const FAILED: u8 = 2;

/// How a command that did its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Nothing more to say.
    Done,
    /// A threshold was crossed.
    Crossed,
}

impl FailOn {
    /// Whether any verdict could cross it.
    pub(crate) fn is_given(self) -> bool {
        self.fail_on.is_some()
    }

    /// What `--fail-on` makes of the verdicts of a report.
    pub(crate) fn status(self, report: &Report) -> Status {
        let bad = self.fail_on.is_some_and(|severity| {
            report.verdicts.iter().any(|verdict| verdict.severity >= severity.into())
        });
        if bad { Status::Crossed } else { Status::Done }
    }
}

/// The code of a command; an error is said on stderr.
pub(crate) fn exit_code(result: Result<Status>) -> ExitCode {
    match result {
        Ok(Status::Done) => ExitCode::SUCCESS,
        Ok(Status::Crossed) => ExitCode::from(CROSSED),
        Err(error) => {
            say(Level::Error, &format!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

/// The code of arguments that could not be understood, or that ask for help, after saying so. A plugin
/// that is called wrongly must not look critical to the one who watches the server.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // Nothing sensible can be done if nobody reads it.
    let _ = error.print();
    if help {
        ExitCode::SUCCESS
    } else if std::env::args_os().any(|argument| argument == "--nagios") {
        check::unknown("wrong usage; see the help of smtptrace check")
    } else {
        ExitCode::from(FAILED)
    }
}
