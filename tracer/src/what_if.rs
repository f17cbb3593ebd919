//! `smtptrace what-if FILE...`: recordings replayed under other policies.

use anyhow::{Result, bail};
use tracer_analysis::{
    recording::Line,
    whatif::{Context, Demand, WhatIf},
};

use crate::{
    cli::{DocumentFormat, WhatIfArgs, micros},
    input::{Input, confine, saved_report},
    output::Output,
    report::Recordings,
    sink::{json, what_if_text},
};

/// Runs the command.
pub(crate) fn run(args: &WhatIfArgs) -> Result<()> {
    let by = args.prefixes.grouping(args.group_by)?;
    let output = Output::stream(args.document.output.as_deref())?;
    let inputs = Input::open_all(&args.files)?;
    confine(Some(&output), false)?;
    let mut demand = Demand::new(args.max_destinations);
    let mut recordings = Recordings::default();
    for input in &inputs {
        if saved_report(input)?.is_some() {
            bail!(
                "{} is a report, which does not say when each message was sent; give the recording \
                 (--record)",
                input.name()
            );
        }
        recordings.read(input, |line| {
            if let Line::Connection(connection) = line {
                demand.add(connection);
            }
        })?;
    }
    let about = recordings.context(false);
    let context = Context {
        hosts: about.hosts,
        version: about.version,
        trust: about.trust,
        start: about.start,
        end: about.end,
        cache_times_us: args.cache_time.iter().copied().map(micros).collect(),
        max_messages: args.max_messages,
        max_age_us: args.max_age.map(micros),
    };
    let answer = WhatIf::new(&demand, by, context);
    output.document(|out| match args.document.format {
        DocumentFormat::Json => json::write(&answer, out),
        DocumentFormat::Text => what_if_text::write(&answer, out, args.top),
    })
}
