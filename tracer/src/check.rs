//! `smtptrace check FILE...`: thresholds, as a command or as a monitoring plugin.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use tracer_analysis::check::{Check, Scope, State, Thresholds, check};

use crate::{
    cli::CheckArgs,
    diagnostics::{Level, say},
    input::{Input, confine, report_on},
    output::closed_pipe_is_fine,
    sink::check_text,
    status::{CROSSED, FAILED},
};

/// Exit status of a plugin that cannot tell.
const PLUGIN_UNKNOWN: u8 = 3;

/// Runs the command. Of a plugin, errors too are told on stdout.
pub(crate) fn run(args: &CheckArgs) -> ExitCode {
    match outcome(args) {
        Ok(state) => ExitCode::from(code(state, args.nagios)),
        Err(error) if args.nagios => unknown(&format!("{error:#}")),
        Err(error) => {
            say(Level::Error, &format!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

fn outcome(args: &CheckArgs) -> Result<State> {
    let by = args.prefixes.chosen(args.group_by)?;
    let inputs = Input::open_all(&args.files)?;
    let mut memory = confine(None, false)?;
    let report = report_on(&inputs, by, args.max_destinations, false, &mut memory)?;
    let thresholds = Thresholds {
        min_reuse: args.min_reuse.map(|it| it.0),
        max_dead_on_reuse: args.max_dead_on_reuse.map(|it| it.0),
        max_greeting_p99_us: args.max_greeting_p99.map(|it| it.0),
        fail_on: args.fail_on.map(Into::into),
    };
    let scope = match (&args.destination, args.each) {
        (Some(key), _) => Scope::One(key.clone()),
        (None, true) => Scope::Each(args.min_connections),
        (None, false) => Scope::Total,
    };
    let found = check(&report, &thresholds, &scope)?;
    print(&found)?;
    Ok(found.state)
}

fn print(found: &Check) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = check_text::write(found, &mut out).and_then(|()| out.flush());
    closed_pipe_is_fine(written).context("cannot write to stdout")
}

/// Says on stdout that a plugin cannot tell, and why.
pub(crate) fn unknown(why: &str) -> ExitCode {
    // Nothing sensible can be done if nobody reads it.
    let _ = io::stdout().write_all(check_text::unknown(why).as_bytes());
    ExitCode::from(PLUGIN_UNKNOWN)
}

const fn code(state: State, nagios: bool) -> u8 {
    match (state, nagios) {
        (State::Ok, _) => 0,
        (State::Warning | State::Critical, false) => CROSSED,
        (State::Unknown, false) => FAILED,
        (State::Warning, true) => 1,
        (State::Critical, true) => 2,
        (State::Unknown, true) => PLUGIN_UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_command_and_of_the_plugin() {
        let states = [State::Ok, State::Warning, State::Critical, State::Unknown];
        assert_eq!(states.map(|state| code(state, false)), [0, 1, 1, 2]);
        assert_eq!(states.map(|state| code(state, true)), [0, 1, 2, 3]);
    }
}
