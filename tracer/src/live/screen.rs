//! The terminal: taken for the live view, given back on every way out.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    sync::{Mutex, Once, PoisonError},
    time::Duration,
};

use crossterm::{
    cursor::{Hide, Show},
    execute,
    terminal::{
        self, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
    },
};
use nix::unistd::{getpgrp, tcgetpgrp};
use ratatui::{
    Frame, Terminal, TerminalOptions, Viewport, backend::CrosstermBackend, layout::Rect,
};

use super::frames::{self, FrameWriter, Frames};
use crate::diagnostics;

/// How long the terminal may take for the last frame.
const LAST_FRAME: Duration = Duration::from_millis(500);

/// What is under way to the terminal while it is ours, and has to be given back.
static TAKEN: Mutex<Option<Frames>> = Mutex::new(None);

/// The terminal, with the screen that was there before put aside.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<FrameWriter>>,
    frames: Frames,
}

/// Whether there is a terminal to draw on: a screen we may write to, keys we may read (a process in the
/// background may not), and a terminal that understands more than lines.
pub(super) fn is_possible() -> bool {
    let foreground = || tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp());
    io::stdout().is_terminal()
        && io::stdin().is_terminal()
        && foreground()
        && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn take() -> io::Result<Self> {
        give_back_on_panic();
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let (writer, frames) = frames::to(file);
        let terminal = on(writer, size()?)?;
        enable_raw_mode()?;
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(frames.clone());
        diagnostics::hold();
        let mut screen = Self { terminal, frames };
        execute!(screen.terminal.backend_mut(), EnterAlternateScreen, Hide)?;
        screen.resize()?;
        Ok(screen)
    }

    /// Takes notice of a new size, and draws everything anew the next time.
    pub(super) fn resize(&mut self) -> io::Result<()> {
        self.terminal.resize(size()?)?;
        Ok(())
    }

    /// Whether the terminal has taken the last frame; an error if it is gone.
    pub(super) fn is_ready(&self) -> io::Result<bool> {
        self.frames.are_written()
    }

    /// Draws what differs from the last frame.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn size() -> io::Result<Rect> {
    let (width, height) = terminal::size()?;
    Ok(Rect::new(0, 0, width, height))
}

/// Its size is ours to follow: ratatui would ask the terminal where its cursor stands, and wait for the
/// answer among the keys.
fn on(writer: FrameWriter, area: Rect) -> io::Result<Terminal<CrosstermBackend<FrameWriter>>> {
    let options = TerminalOptions { viewport: Viewport::Fixed(area) };
    Terminal::with_options(CrosstermBackend::new(writer), options)
}

/// Gives the terminal back, if we have it. What cannot be written, nobody would see.
fn give_back() {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(frames) = taken {
        frames.close(LAST_FRAME);
        let mut out = io::stdout();
        let _ = execute!(out, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
        let _ = out.flush();
        diagnostics::release();
    }
}

/// A panic is told on a terminal that shows it.
fn give_back_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            tell(panic);
        }));
    });
}
