//! Whose connections are wanted.

use clap::Args;
use tracer_analysis::selection::{ContainerPattern, Selection, UnitPattern};

/// Units and containers.
#[derive(Debug, Args)]
pub(crate) struct SenderArgs {
    /// Only connections from this systemd unit, or from below it: postfix@-.service,
    /// 'postfix*'; what a user's systemd manager runs: user@1000.service/NAME
    /// (repeatable). It may start later. A trace leaves out the others when they
    /// end, so --cgroup costs less
    #[arg(long, value_name = "NAME")]
    pub(crate) unit: Vec<UnitPattern>,
    /// Only connections from this container: a name, a pattern, or twelve digits or
    /// more of an id (repeatable); as with --unit
    #[arg(long, value_name = "CONTAINER")]
    pub(crate) container: Vec<ContainerPattern>,
}

impl SenderArgs {
    /// The senders that are wanted.
    pub(crate) fn selection(&self) -> Selection {
        Selection { units: self.unit.clone(), containers: self.container.clone() }
    }
}
