//! What the traffic feels: throughput with and without each tool, in pairs.

use std::fmt::Write as _;

use anyhow::Result;
use tests::lab::Lab;

use crate::{
    command_line::CommandLine,
    process::machine_cpu,
    statistics::Rounds,
    tool::Tool,
    traffic::{Flood, Untraced},
};

const METHOD: &str = "\
Method: the same traffic without and with a tool, in turns; each pair gives one ratio, and the median of
the ratios is shown with its range. A loss is above 0. `none` is no tool against no tool: what the machine's
own noise looks like. CPU is that of the whole machine for the same traffic (/proc/stat): where processors
are left over, it is all that a tool costs. The tools that capture packets do so in the sender's namespace,
with the port as filter.";

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
    writeln!(
        text,
        "\n**{title}**\n\n| tool | rate with it | loss, % | more CPU, % |\n|---|---|---|---|"
    )?;
    for tool in [Tool::None].into_iter().chain(Tool::PEERS) {
        match pairs(options, tool, lab, &rate) {
            Ok(Pairs { rates, losses, cpu }) => {
                writeln!(text, "| {} | {rates:.0} | {losses:.1} | {cpu:.1} |", tool.name())?;
            }
            Err(error) => writeln!(text, "| {} | not here: {error:#} | | |", tool.name())?,
        }
    }
    Ok(())
}

/// What all rounds with one tool gave.
struct Pairs {
    /// Rates with it.
    rates: Rounds,
    /// Losses of rate by it, in percent.
    losses: Rounds,
    /// How much more CPU time the machine spent, in percent.
    cpu: Rounds,
}

fn pairs(
    options: &CommandLine,
    tool: Tool,
    lab: &Lab,
    rate: &impl Fn() -> Result<f64>,
) -> Result<Pairs> {
    let measured = || -> Result<(f64, f64)> {
        let before = machine_cpu()?;
        let rate = rate()?;
        Ok((rate, machine_cpu()?.saturating_sub(before).as_secs_f64()))
    };
    let (mut rates, mut losses, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let with = || -> Result<(f64, f64)> {
            let _running = tool.start(lab, lab.port())?;
            measured()
        };
        // Who goes first takes turns: a machine grows warm, or slow.
        let (without, with) = if round % 2 == 0 {
            let without = measured()?;
            (without, with()?)
        } else {
            let with = with()?;
            (measured()?, with)
        };
        rates.push(with.0);
        losses.push(100.0 * (1.0 - with.0 / without.0));
        cpu.push(100.0 * (with.1 / without.1 - 1.0));
    }
    Ok(Pairs { rates: Rounds::new(rates), losses: Rounds::new(losses), cpu: Rounds::new(cpu) })
}
