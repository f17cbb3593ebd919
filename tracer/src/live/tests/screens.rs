use crossterm::event::KeyCode;
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, style::Color};
use tracer_analysis::destination::GroupBy;

use super::{
    keys::press,
    sample::{Sample, connection},
};
use crate::live::{
    draw::draw,
    state::{State, Tab, View},
    theme::Theme,
};

fn buffer(state: &State) -> Buffer {
    let (width, height) = state.size;
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(state, frame)).unwrap();
    terminal.backend().buffer().clone()
}

/// The lines of the screen, without spaces at their ends.
pub(super) fn screen(state: &State) -> String {
    let buffer = buffer(state);
    let (width, height) = state.size;
    let lines = (0..height).map(|y| {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

/// Compares a screen with the file that holds it. `SMTPTRACE_SCREENS=write` makes the file anew.
fn check(name: &str, state: &State) {
    let file = format!("{}/src/live/tests/screens/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let shown = screen(state);
    if std::env::var_os("SMTPTRACE_SCREENS").is_some_and(|value| value == "write") {
        std::fs::write(&file, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(shown == expected, "{name}:\n{shown}\nexpected:\n{expected}");
}

fn on(sample: &Sample, size: (u16, u16), keys: &[KeyCode]) -> State {
    let mut state = sample.state(size);
    for key in keys {
        press(&mut state, *key);
        sample.look(&mut state);
    }
    state
}

#[test]
fn destinations() {
    let sample = Sample::usual();
    for (width, height) in [(80, 24), (40, 10), (120, 40), (50, 15)] {
        check(&format!("destinations-{width}x{height}"), &on(&sample, (width, height), &[]));
    }
}

#[test]
fn one_destination() {
    let sample = Sample::usual();
    let tab = KeyCode::Tab;
    let pages =
        [("verdicts", 0), ("histograms", 1), ("endings", 2), ("idle", 3), ("connections", 4)];
    for (name, tabs) in pages {
        let mut keys = vec![KeyCode::Down, KeyCode::Enter];
        keys.extend(std::iter::repeat_n(tab, tabs));
        check(&format!("destination-{name}-80x24"), &on(&sample, (80, 24), &keys));
    }
    check("destination-40x10", &on(&sample, (40, 10), &[KeyCode::Enter]));
}

#[test]
fn one_connection() {
    let sample = Sample::usual();
    let there = [KeyCode::Down, KeyCode::Enter, KeyCode::BackTab, KeyCode::Enter];
    check("connection-open-80x24", &on(&sample, (80, 24), &there));
    let there = [KeyCode::Down, KeyCode::Enter, KeyCode::BackTab, KeyCode::Down, KeyCode::Enter];
    check("connection-ended-80x24", &on(&sample, (80, 24), &there));
    check("connection-40x10", &on(&sample, (40, 10), &there));
}

#[test]
fn help_and_filter() {
    let sample = Sample::usual();
    check("help-80x24", &on(&sample, (80, 24), &[KeyCode::Char('?')]));
    let typed = ['/', '1', '9', '8'].map(KeyCode::Char);
    check("filter-80x24", &on(&sample, (80, 24), &typed));
}

#[test]
fn nothing_as_yet() {
    let sample = Sample::empty();
    check("nothing-80x24", &on(&sample, (80, 24), &[]));
    let mut state = sample.state((80, 24));
    state.snapshot = None;
    assert!(screen(&state).starts_with("smtptrace: taking a first look"));
}

#[test]
fn numbers_are_those_of_the_trace() {
    let snapshot = Sample::usual().snapshot();
    let row = |key: &str| snapshot.rows.iter().find(|row| row.key == key).unwrap();
    let served = row("192.0.2.25");
    assert_eq!((served.connections, served.open), (24, 1), "23 have ended, one is open");
    // The interval from second 50 to 60 has one open connection; that from 40 has 40, 42 and 44.
    assert_eq!((served.new, &served.spark[54..]), (1, &[5, 5, 5, 5, 3, 1, 0][1..]));
    assert_eq!(row("198.51.100.7").new, 5);
    let other = row("203.0.113.9");
    assert_eq!((other.connections, other.open, other.at, other.new), (1, 1, None, 0));
    assert_eq!((snapshot.all.connections, snapshot.all.open, snapshot.all.new), (33, 2, 6));
    assert_eq!((snapshot.last.ended, snapshot.last.messages, snapshot.last.bad), (5, 0, 0));
    assert_eq!(snapshot.cpu_permille, Some(1));
}

#[test]
fn hostile_names_are_escaped() {
    let mut sample = Sample::empty();
    sample.by = GroupBy::Host;
    let mut hostile = connection(1, "192.0.2.1");
    hostile.banner_host = Some("\x1b[2J\u{202e}evil\n.example".to_owned());
    hostile.comm = Some("\x1b]0;x\x07".to_owned());
    hostile.owners = None;
    sample.add(&hostile);
    let enter = KeyCode::Enter;
    for keys in [&[][..], &[enter], &[enter, KeyCode::BackTab], &[enter, KeyCode::BackTab, enter]] {
        for size in [(80, 24), (120, 40), (40, 10)] {
            let shown = screen(&on(&sample, size, keys));
            assert!(shown.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{shown:?}");
        }
    }
    assert!(screen(&on(&sample, (120, 40), &[])).contains("\\x1b[2j\\u{202e}evil\\x0a.example"));
}

#[test]
fn colour_is_never_alone_and_can_be_off() {
    let sample = Sample::usual();
    let mut state = on(&sample, (80, 24), &[]);
    let coloured = |state: &State| {
        let cells = buffer(state).content;
        cells.iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    assert!(coloured(&state) > 0);
    let with = screen(&state);
    state.theme = Theme { colour: false, ..state.theme };
    for view in [View::Destinations, View::Destination, View::Connection] {
        for tab in Tab::ALL {
            (state.view, state.tab, state.selected) = (view, tab, Some("198.51.100.7".to_owned()));
            sample.look(&mut state);
            assert_eq!(coloured(&state), 0, "{view:?} {tab:?}");
        }
    }
    (state.view, state.selected) = (View::Destinations, None);
    assert_eq!(screen(&state), with, "words tell the same");
}

#[test]
fn no_size_is_too_small() {
    let sample = Sample::usual();
    let views = Tab::ALL.map(|tab| (View::Destination, tab));
    let others = [View::Destinations, View::Connection].map(|view| (view, Tab::Verdicts));
    for (view, tab) in views.into_iter().chain(others) {
        let mut state = sample.state((80, 24));
        (state.view, state.tab) = (view, tab);
        state.selected = Some("192.0.2.25".to_owned());
        state.connection = Some("0000000000000001".to_owned());
        sample.look(&mut state);
        for width in (0..13).chain([21, 34, 39, 41, 50, 60, 70, 81, 130]) {
            for height in (0..12).chain([15, 19, 30]) {
                state.size = (width, height);
                state.theme.unicode = width % 2 == 0;
                press(&mut state, KeyCode::PageDown);
                if width > 0 && height > 0 {
                    buffer(&state);
                }
            }
        }
    }
}

#[test]
fn losses_are_told_on_top() {
    let mut sample = Sample::usual();
    sample.trust.events_lost = 12;
    let shown = screen(&on(&sample, (80, 24), &[]));
    assert!(shown.lines().next().unwrap().ends_with("LOST 12 records"), "{shown}");
}
