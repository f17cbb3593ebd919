//! What the traffic feels: throughput with and without each tool, in pairs.

use std::fmt::Write as _;

use anyhow::Result;
use tests::lab::Lab;

use crate::{
    command_line::CommandLine,
    statistics::Rounds,
    tool::Tool,
    traffic::{Flood, Untraced},
};

const METHOD: &str = "\
Method: the same traffic without and with a tool, in turns; each pair gives one ratio, and the median of
the ratios is shown with its range. A loss is above 0. `none` is no tool against no tool: what the machine's
own noise looks like. The tools that capture packets do so in the sender's namespace, with the port as
filter.";

pub(crate) fn measure(options: &CommandLine) -> Result<String> {
    let mut text = format!("{METHOD}\n");
    let flood = Flood::up()?;
    let messages = options.scaled(8_000);
    let title = format!(
        "messages per second, smtp-source to smtp-sink, {messages} messages of 2 kB, each over a connection \
         of its own, ten at a time"
    );
    table(&mut text, options, &title, &flood.lab, || flood.messages_per_second(messages))?;
    drop(flood);

    let untraced = Untraced::up()?;
    let requests = options.scaled(60_000);
    let title = format!("requests per second on a port that is not traced, {requests} of one byte");
    table(&mut text, options, &title, &untraced.lab, || untraced.requests_per_second(requests))?;
    let megabytes = options.scaled(6_000);
    let title = format!("megabytes per second on a port that is not traced, {megabytes} MB");
    table(&mut text, options, &title, &untraced.lab, || untraced.megabytes_per_second(megabytes))?;
    Ok(text)
}

fn table(
    text: &mut String,
    options: &CommandLine,
    title: &str,
    lab: &Lab,
    rate: impl Fn() -> Result<f64>,
) -> Result<()> {
    eprintln!("{title}");
    rate()?; // whatever is set up once
    writeln!(text, "\n**{title}**\n\n| tool | rate with it | loss, % |\n|---|---|---|")?;
    for tool in [Tool::None].into_iter().chain(Tool::PEERS) {
        match pairs(options, tool, lab, &rate) {
            Ok((with, loss)) => writeln!(text, "| {} | {with:.0} | {loss:.1} |", tool.name())?,
            Err(error) => writeln!(text, "| {} | not here: {error:#} | |", tool.name())?,
        }
    }
    Ok(())
}

/// Rates with `tool`, and the losses by it in percent.
fn pairs(
    options: &CommandLine,
    tool: Tool,
    lab: &Lab,
    rate: &impl Fn() -> Result<f64>,
) -> Result<(Rounds, Rounds)> {
    let (mut rates, mut losses) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let with = || -> Result<f64> {
            let _running = tool.start(lab, lab.port())?;
            rate()
        };
        // Who goes first takes turns: a machine grows warm, or slow.
        let (without, with) = if round % 2 == 0 {
            let without = rate()?;
            (without, with()?)
        } else {
            let with = with()?;
            (rate()?, with)
        };
        rates.push(with);
        losses.push(100.0 * (1.0 - with / without));
    }
    Ok((Rounds::new(rates), Rounds::new(losses)))
}
