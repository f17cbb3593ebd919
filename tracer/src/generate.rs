//! `smtptrace generate`: manual pages and completions from the definition of the command line.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::{
    cli::{Cli, Generate},
    output::closed_pipe_is_fine,
};

/// Runs the command.
pub(crate) fn run(what: &Generate) -> Result<()> {
    match what {
        Generate::Man { directory } => man(directory),
        Generate::Completions { shell } => completions(*shell),
    }
}

fn man(directory: &Path) -> Result<()> {
    let what = || format!("cannot write the manual pages to {}", directory.display());
    fs::create_dir_all(directory).with_context(what)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    pages(&command, directory).with_context(what)
}

/// The page of a command, and those of the commands below it.
fn pages(command: &clap::Command, directory: &Path) -> io::Result<()> {
    for below in command.get_subcommands() {
        pages(below, directory)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let page = page(command)?;
    fs::write(directory.join(format!("{name}.1")), page)
}

fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_help() {
        page.write_all(as_it_stands(&text.to_string()).as_bytes())?;
    }
    Ok(page)
}

/// Text whose line breaks matter: a line that ends in a colon heads a section, the others keep their
/// places.
fn as_it_stands(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let escaped = line.replace('\\', "\\e").replace('-', "\\-");
        match line.strip_suffix(':').filter(|_| !line.starts_with(' ')) {
            Some(heading) => format!(".fi\n.SH \"{}\"\n.nf\n", heading.to_uppercase()),
            // `\&` keeps a line from being taken for a request of roff.
            None => format!("\\&{escaped}\n"),
        }
    });
    lines.chain([".fi\n".to_owned()]).collect()
}

fn completions(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "smtptrace", &mut script);
    closed_pipe_is_fine(io::stdout().write_all(&script))
        .context("cannot write the completions to stdout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_keep_their_lines() {
        let roff = as_it_stands("Examples:\n  a --b\n\nExit status:\n  .x \\n\n");
        assert_eq!(
            roff,
            ".fi\n.SH \"EXAMPLES\"\n.nf\n\\&  a \\-\\-b\n\\&\n.fi\n.SH \"EXIT STATUS\"\n.nf\n\\&  \
             .x \\en\n.fi\n"
        );
    }

    #[test]
    fn every_option_is_in_its_page() {
        let mut command = Cli::command();
        command.build();
        for of in [&command, command.find_subcommand("report").unwrap()] {
            let page = String::from_utf8(page(of).unwrap()).unwrap().replace('\\', "");
            let shown = of.get_arguments().filter(|it| !it.is_hide_set());
            for option in shown.filter_map(|it| it.get_long()) {
                assert!(page.contains(&format!("--{option}")), "{option}");
            }
        }
    }
}
