//! Arguments of the demo.

use std::path::PathBuf;

use clap::Args;

use super::Format;

const NOTES: &str = "\
Needs root and nothing else: no mail server, no configuration, no network. It
makes two network namespaces without a name and a link between them, sends mail
from one to the other for about half a minute, and traces it as `smtptrace` does.
Everything vanishes with it, also when it is killed. Then it checks the report:
by what the servers counted, and by the verdicts that must come.

Exit status:
  0  done; also when it was stopped before the end
  2  it could not run, or a finding is not as it must be; stderr says what";

/// Shows a trace of mail servers that it brings along, with the live view and the report.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct DemoArgs {
    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Write the report here instead of stdout; a directory for hgrm
    #[arg(long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Write a recording here too
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Be the process in which mail is sent
    #[arg(long, hide = true)]
    pub(crate) scene: bool,
}
