//! A panic gives the terminal back: in a process of its own, on a terminal of its own.

use std::{
    fs::File,
    io::Read as _,
    os::fd::{AsFd as _, OwnedFd},
    process::{Command, Stdio},
};

use nix::{
    pty::{Winsize, openpty},
    sys::termios::{LocalFlags, tcgetattr},
};

use crate::live::screen::Screen;

const ROLE: &str = "SMTPTRACE_TEST_ROLE";

/// The test below starts this one again as a process whose terminal it watches.
#[test]
fn process_that_panics_on_its_screen() {
    let Some(role) = std::env::var_os(ROLE) else { return };
    let mut screen = Screen::take().unwrap();
    screen.draw(|frame| frame.render_widget("SCREEN", frame.area())).unwrap();
    assert!(role != "panic", "as was asked for");
}

/// What the terminal of such a process got, and whether it echoes afterwards.
fn terminal_after(role: &str) -> (String, bool) {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).unwrap();
    let ours = pty.slave.try_clone().unwrap();
    assert!(echoes(&ours));
    let stdio = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
    let name = "live::tests::panic::process_that_panics_on_its_screen";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(stdio(&pty.slave))
        .stdout(stdio(&pty.slave))
        .stderr(stdio(&pty.slave))
        .spawn()
        .unwrap();
    drop(pty.slave);
    child.wait().unwrap();
    let echo = echoes(&ours);
    drop(ours);
    let mut shown = Vec::new();
    // The end of a pseudoterminal is an error: nobody has its other side any more.
    let _ = File::from(pty.master).read_to_end(&mut shown);
    (String::from_utf8_lossy(&shown).into_owned(), echo)
}

fn echoes(terminal: &OwnedFd) -> bool {
    tcgetattr(terminal.as_fd()).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
}

#[test]
fn panic_gives_the_terminal_back_before_it_is_told() {
    let (shown, echo) = terminal_after("panic");
    let at = |what: &str| shown.find(what).unwrap_or_else(|| panic!("no {what:?} in {shown:?}"));
    assert!(at("\x1b[?1049h") < at("SCREEN"), "{shown:?}");
    assert!(at("SCREEN") < at("\x1b[?1049l"), "{shown:?}");
    assert!(at("\x1b[?1049l") < at("as was asked for"), "{shown:?}");
    assert!(shown.contains("\x1b[?25h") && echo, "{shown:?}");
}

#[test]
fn ordinary_end_gives_the_terminal_back() {
    let (shown, echo) = terminal_after("end");
    assert!(shown.contains("\x1b[?1049l") && shown.contains("\x1b[?25h") && echo, "{shown:?}");
}
