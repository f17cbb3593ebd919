//! What to do: a file with one order a line, its words separated by tabs.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};

/// One line of the plan.
#[derive(Debug)]
pub(crate) enum Order {
    /// `module FILE`: load a kernel module.
    Module(String),
    /// `hooks`: say which hooks smtptrace attaches.
    Hooks,
    /// `run NAME SECONDS PROGRAM ARGUMENTS...`: run a program.
    Run(Program),
}

/// A program to run.
#[derive(Debug)]
pub(crate) struct Program {
    /// What it is called outside.
    pub(crate) name: String,
    /// When it is killed.
    pub(crate) limit: Duration,
    /// Its file.
    pub(crate) file: String,
    /// What it is called with.
    pub(crate) arguments: Vec<String>,
}

/// Reads the plan in `file`.
pub(crate) fn read(file: &str) -> Result<Vec<Order>> {
    let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    text.lines()
        .map(|line| order(line).with_context(|| format!("line `{line}` of {file}")))
        .collect()
}

fn order(line: &str) -> Result<Order> {
    let words: Vec<&str> = line.split('\t').collect();
    match words.as_slice() {
        ["module", file] => Ok(Order::Module((*file).to_owned())),
        ["hooks"] => Ok(Order::Hooks),
        ["run", name, seconds, file, arguments @ ..] => Ok(Order::Run(Program {
            name: (*name).to_owned(),
            limit: Duration::from_secs(seconds.parse().context("its time limit")?),
            file: (*file).to_owned(),
            arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
        })),
        _ => bail!("not an order"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders() {
        let Order::Run(program) = order("run\tipv4\t60\t/vm/families\t--exact\tipv4").unwrap()
        else {
            panic!("not a program")
        };
        assert_eq!((program.name.as_str(), program.limit.as_secs()), ("ipv4", 60));
        assert_eq!(program.arguments, ["--exact", "ipv4"]);
        assert!(matches!(order("module\t/vm/veth.ko").unwrap(), Order::Module(_)));
        assert!(order("").is_err() && order("run\tx").is_err());
    }
}
