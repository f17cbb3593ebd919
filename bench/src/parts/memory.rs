//! Memory with many destinations, and with many connections open at the same time.

use std::fmt::Write as _;

use anyhow::Result;
use tests::lab::Lab;

use crate::{
    command_line::CommandLine,
    crowd::{self, Crowd},
    process::{maps, megabytes, resident},
    recording,
    tool::Tool,
};

/// Map memory is taken at the start, for `--max-connections`; what grows is seen beside it.
const OPEN: usize = 100_000;

pub(crate) fn measure(options: &CommandLine) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "| what | resident | BPF maps |\n|---|---|---|")?;
    destinations(&mut text, options)?;
    open_connections(&mut text, options)?;
    Ok(text)
}

/// The fold is that of a live trace, so a report of a recording tells.
fn destinations(text: &mut String, options: &CommandLine) -> Result<()> {
    let lab = Lab::up()?;
    for destinations in [100, 1_000, 5_000] {
        let connections = options.scaled(1_000_000);
        let file = lab.file("long.jsonl");
        recording::make(&file, connections, destinations)?;
        let used = recording::report(&file)?;
        let destinations = 2 * destinations;
        writeln!(
            text,
            "| `report`, {connections} connections, {destinations} destinations | {} | - |",
            megabytes(used.memory)
        )?;
        std::fs::remove_file(&file)?;
    }
    Ok(())
}

fn open_connections(text: &mut String, options: &CommandLine) -> Result<()> {
    let lab = Lab::up()?;
    let count = crowd::that_fit(options.scaled(OPEN))?;
    let running = Tool::SmtptraceLarge.start(&lab, lab.port())?;
    let row = |text: &mut String, what: &str| -> Result<()> {
        let (own, kernel) = (resident(running.pid())?, maps(running.pid())?);
        writeln!(text, "| {what} | {} | {} |", megabytes(own), megabytes(kernel))?;
        Ok(())
    };
    row(text, "live, no connection open, `--max-connections 131072`")?;
    let _crowd = Crowd::open(&lab, count)?;
    row(text, &format!("live, {count} connections open"))?;
    Ok(())
}
