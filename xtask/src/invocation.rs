//! One call of an outside program, kept as data: it can be planned, compared, printed and then run.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::machine::Privilege;

/// A program with its arguments and its changes to the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    program: OsString,
    args: Vec<OsString>,
    env: BTreeMap<&'static str, OsString>,
    without_env: Vec<&'static str>,
}

impl Invocation {
    /// A call of `program` without arguments.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            without_env: Vec::new(),
        }
    }

    /// A call of the cargo that runs this very program.
    pub(crate) fn cargo() -> Self {
        Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// Adds one argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name, value.as_ref().to_owned());
        self
    }

    /// Takes a variable out of the environment.
    pub(crate) fn without_env(mut self, name: &'static str) -> Self {
        self.without_env.push(name);
        self
    }

    /// The same call as root: through `sudo` where this process is not root already.
    pub(crate) fn with_root(self, privilege: Privilege) -> Self {
        if privilege != Privilege::Sudo {
            return self;
        }
        let mut call = Self::new("sudo");
        if !self.env.is_empty() {
            // sudo clears the environment, `env` behind it sets what is needed.
            call = call.arg("env");
            for (name, value) in &self.env {
                let mut assignment = OsString::from(format!("{name}="));
                assignment.push(value);
                call = call.arg(assignment);
            }
        }
        call.arg(self.program).args(self.args)
    }

    /// The call as the standard library wants it: stdin is closed, stdout and stderr are shared.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(&self.env).stdin(Stdio::null());
        for name in &self.without_env {
            command.env_remove(name);
        }
        command
    }

    /// Runs it to its end in `directory`. Its standard output goes to our standard error, which
    /// leaves ours to the program the user asked for.
    pub(crate) fn run(&self, directory: &Path) -> Result<()> {
        let status = self
            .command()
            .current_dir(directory)
            .stdout(io::stderr())
            .status()
            .with_context(|| format!("`{self}` could not be started"))?;
        if !status.success() {
            bail!("`{self}` failed with {status}; its own messages are above");
        }
        Ok(())
    }

    /// Runs it quietly and returns what it wrote to its standard output, or `None` if it cannot
    /// be started or fails: for questions to programs that may not be there.
    pub(crate) fn answer(&self) -> Option<String> {
        let output = self.command().stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={} ", quoted(value))?;
        }
        f.write_str(&quoted(shown_program(&self.program)))?;
        for arg in &self.args {
            write!(f, " {}", quoted(arg))?;
        }
        Ok(())
    }
}

/// Cargo's own path is long and says nothing: its name will do.
fn shown_program(program: &OsStr) -> &OsStr {
    match Path::new(program).file_name() {
        Some(name) if name == "cargo" && program != crate::toolchain::DEBIAN_CARGO => name,
        _ => program,
    }
}

/// `word` as it has to be typed into a shell; a script of several lines is only named.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if word.contains('\n') {
        let title = word.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or("script");
        format!("'<{title}>'")
    } else if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_can_be_pasted_into_a_shell() {
        let call =
            Invocation::new("cargo").args(["test", "a b"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(call.to_string(), "RUSTDOCFLAGS='-D warnings' cargo test 'a b'");
    }

    #[test]
    fn root_needs_no_sudo() {
        let call = Invocation::new("apt-get").arg("update");
        assert_eq!(call.clone().with_root(Privilege::Root), call);
    }

    #[test]
    fn sudo_keeps_the_variables_of_the_call() {
        let call =
            Invocation::new("apt-get").arg("update").env("DEBIAN_FRONTEND", "noninteractive");
        assert_eq!(
            call.with_root(Privilege::Sudo).to_string(),
            "sudo env DEBIAN_FRONTEND=noninteractive apt-get update"
        );
    }

    #[test]
    fn a_script_is_named_by_its_first_comment() {
        let call = Invocation::new("sh").args(["-c", "#!/bin/sh\n# Does a thing\ntrue\n"]);
        assert_eq!(call.to_string(), "sh -c '<Does a thing>'");
    }

    #[test]
    fn a_failure_names_the_command() {
        let error = Invocation::new("false").run(Path::new("/")).unwrap_err();
        assert!(error.to_string().contains("`false` failed with exit status: 1"), "{error}");
    }

    #[test]
    fn a_missing_program_answers_nothing() {
        assert_eq!(Invocation::new("no-such-program-here").answer(), None);
    }
}
