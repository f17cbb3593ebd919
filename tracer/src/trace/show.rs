//! What the live view is told.

use std::time::Instant;

use anyhow::Result;

use super::{Trace, own_cpu_us};
use crate::{
    cli::TraceArgs,
    clock,
    live::{self, Asked, LOOKED_AT, Seen},
};

impl Trace {
    /// Has the live view look at the trace, if there is one and it is time to. Says whether the trace goes
    /// on: it does not if the terminal is gone.
    pub(super) fn show(&mut self, args: &TraceArgs) -> Result<Asked> {
        let Some(mut live) = self.takers.live.take() else { return Ok(Asked::Nothing) };
        for (id, turns) in self.table.take_ended_turns() {
            live.turns(&id, turns);
        }
        if live.wants_report() {
            let begin = Instant::now();
            live.report(self.report_so_far(args)?, begin);
        }
        let mut shown = Ok(());
        if live.wants_look() {
            let begin = Instant::now();
            let (held, held_all) = self.kernel.held_at_most(LOOKED_AT);
            let seen = Seen {
                now_ns: clock::boot_ns()?,
                table: &self.table,
                fold: &self.takers.fold,
                held: &held,
                held_all,
                own_cpu_us: own_cpu_us().map(|us| us.saturating_sub(self.start_cpu_us)),
            };
            shown = live.look(&seen, begin);
        }
        self.takers.live = Some(live);
        Ok(match shown {
            Ok(()) => Asked::Nothing,
            Err(error) => live::give_up(&mut self.takers.live, &error),
        })
    }
}
