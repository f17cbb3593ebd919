//! A terminal with a shell in it, that a test types into and reads: a pane of a tmux server of its own.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait;

const PROMPT: &str = "PROMPT>";
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal. Its processes are ended and it is gone when this value is dropped.
#[derive(Debug)]
pub struct Terminal {
    server: String,
}

impl Terminal {
    /// A terminal of this size with a shell that has asked for a command.
    pub fn open(width: u16, height: u16) -> Result<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let terminal = Self { server: format!("smtptrace-test-{}-{serial}", std::process::id()) };
        let (width, height) = (width.to_string(), height.to_string());
        let prompt = format!("PS1={PROMPT}");
        terminal.tmux([
            "-u",
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            "env",
            "-u",
            "NO_COLOR",
            "-u",
            "LC_ALL",
            "-u",
            "ENV",
            "LANG=C.UTF-8",
            &prompt,
            "sh",
            "-i",
        ])?;
        terminal.wait_for("a prompt", |screen| screen.trim_end() == PROMPT)?;
        Ok(terminal)
    }

    fn tmux<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        let mut command = Command::new("tmux");
        // A tmux that the test itself runs in is not its business.
        command.env_remove("TMUX").args(["-L", &self.server]).args(arguments);
        let output = command.stdin(Stdio::null()).output().context("start tmux")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {}", error.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Presses keys, by their names in tmux (`Enter`, `C-c`, `q`).
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.tmux(["send-keys"].iter().chain(keys)).map(drop)
    }

    /// Types a line and ends it.
    pub fn type_line(&self, line: &str) -> Result<()> {
        self.tmux(["send-keys", "-l", line])?;
        self.press(&["Enter"])
    }

    /// Changes its size.
    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        let (width, height) = (width.to_string(), height.to_string());
        self.tmux(["resize-window", "-x", &width, "-y", &height]).map(drop)
    }

    /// What it shows.
    pub fn screen(&self) -> Result<String> {
        self.tmux(["capture-pane", "-p"])
    }

    /// What it shows, with the escape sequences of colours and the like.
    pub fn screen_with_colours(&self) -> Result<String> {
        self.tmux(["capture-pane", "-p", "-e"])
    }

    /// What it shows, and what has left it at the top.
    pub fn scrollback(&self) -> Result<String> {
        self.tmux(["capture-pane", "-p", "-J", "-S", "-"])
    }

    /// Whether a program has put the screen aside for one of its own.
    pub fn shows_alternate_screen(&self) -> Result<bool> {
        Ok(self.tmux(["display-message", "-p", "#{alternate_on}"])?.trim() == "1")
    }

    /// Waits until it shows what is wanted. Returns the screen.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let mut last = String::new();
        let found = wait::until(what, PATIENCE, || {
            last = self.screen()?;
            Ok(wanted(&last).then_some(()))
        });
        found.map(|()| last.clone()).with_context(|| format!("the screen:\n{last}"))
    }

    /// Waits until the shell asks for a command again.
    pub fn wait_for_prompt(&self) -> Result<String> {
        self.wait_for("a prompt", |screen| {
            screen.trim_end().lines().last().is_some_and(|line| line == PROMPT)
        })
    }

    /// The program that the shell has started.
    pub fn child(&self) -> Result<u32> {
        let shell = self.tmux(["display-message", "-p", "#{pane_pid}"])?;
        let mut ps = Command::new("ps");
        ps.args(["-o", "pid=", "--ppid", shell.trim()]);
        let children = ps.output().context("start ps")?.stdout;
        let children = String::from_utf8_lossy(&children);
        let [child] = children.split_ascii_whitespace().collect::<Vec<_>>()[..] else {
            bail!("not one child of the shell: {children:?}")
        };
        child.parse().with_context(|| format!("process id {child:?}"))
    }

    /// Sends a signal to that program.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = Pid::from_raw(self.child()?.cast_signed());
        kill(child, signal).with_context(|| format!("send {signal}"))
    }

    /// Fails unless the terminal is as a shell needs it: it echoes, takes whole lines, shows its cursor and
    /// its own screen.
    pub fn ensure_is_sane(&self) -> Result<()> {
        ensure!(!self.shows_alternate_screen()?, "the alternate screen is still on");
        let cursor = self.tmux(["display-message", "-p", "#{cursor_flag}"])?;
        ensure!(cursor.trim() == "1", "the cursor is hidden");
        self.type_line("clear; stty -a; echo alive$((20 + 3))")?;
        let screen = self.wait_for("an answer", |screen| screen.contains("alive23"))?;
        for wanted in ["echo", "icanon", "isig", "opost"] {
            let words = screen.split([' ', ';', '\n']).any(|word| word == wanted);
            ensure!(words, "no {wanted} in:\n{screen}");
        }
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It is gone if its shell has ended.
        let _ = self.tmux(["kill-server"]);
    }
}
