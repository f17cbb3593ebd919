use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    sample::{Sample, connection},
    screens::screen,
};
use crate::live::{
    column::Column,
    state::{Asked, State, Tab, View},
};

pub(super) fn press(state: &mut State, code: KeyCode) -> Asked {
    state.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn keys(state: &State) -> Vec<String> {
    state.rows().iter().map(|row| row.key.clone()).collect()
}

fn type_in(state: &mut State, text: &str) {
    for c in text.chars() {
        assert_eq!(press(state, KeyCode::Char(c)), Asked::Drawing);
    }
}

#[test]
fn ways_out() {
    let mut state = Sample::usual().state((80, 24));
    assert_eq!(press(&mut state, KeyCode::Char('q')), Asked::End);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(state.key(control_c), Asked::End);
    type_in(&mut state, "/q");
    assert_eq!(state.typed.as_deref(), Some("q"), "a letter of the filter");
    assert_eq!(state.key(control_c), Asked::End, "also while a filter is typed");
    state.help = true;
    assert_eq!(state.key(control_c), Asked::End);
    let released =
        KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release);
    assert_eq!(state.key(released), Asked::Nothing);
}

#[test]
fn worst_is_on_top_and_the_pointer_stays_on_its_destination() {
    let mut state = Sample::usual().state((80, 24));
    assert_eq!(keys(&state)[0], "198.51.100.7");
    assert_eq!(keys(&state).last().unwrap(), "total");
    press(&mut state, KeyCode::Down);
    let chosen = keys(&state)[1].clone();
    assert_eq!(state.selected.as_ref(), Some(&chosen));
    press(&mut state, KeyCode::Char('s'));
    press(&mut state, KeyCode::Char('S'));
    assert_eq!((state.sort, state.reversed), (Column::Key, true));
    assert_eq!(state.selected, Some(chosen));
    press(&mut state, KeyCode::End);
    assert_eq!(state.selected.as_deref(), Some("total"));
    press(&mut state, KeyCode::PageUp);
    press(&mut state, KeyCode::Home);
    assert_eq!(state.selected, Some(keys(&state)[0].clone()));
}

#[test]
fn every_column_sorts() {
    let mut state = Sample::usual().state((80, 24));
    let first = |state: &State| keys(state)[0].clone();
    let mut tops = Vec::new();
    for column in Column::ALL {
        assert_eq!(state.sort, column);
        tops.push(first(&state));
        press(&mut state, KeyCode::Char('s'));
    }
    assert_eq!(state.sort, Column::Verdict, "around");
    let expected = [
        "198.51.100.7", // the worst verdict
        "192.0.2.25",   // the alphabet
        "192.0.2.25",   // open; of two, as in the report
        "198.51.100.7", // new
        "192.0.2.25",   // connections
        "192.0.2.25",   // messages
        "192.0.2.25",   // reuse: 0 %; of others it is not known
        "2001:db8::25", // failed
        "2001:db8::25", // died: none; as in the report
        "198.51.100.7", // greeting
        "198.51.100.7",
    ];
    assert_eq!(tops, expected);
}

#[test]
fn filter_is_typed_kept_and_dropped() {
    let mut state = Sample::usual().state((80, 24));
    type_in(&mut state, "/DB8");
    assert_eq!(keys(&state), ["2001:db8::25", "total"]);
    assert!(screen(&state).contains("filter: DB8_"));
    press(&mut state, KeyCode::Enter);
    assert_eq!((state.filter.as_str(), &state.typed), ("DB8", &None));
    type_in(&mut state, "/thrott");
    assert_eq!(keys(&state), ["198.51.100.7", "total"], "verdicts count too");
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.filter, "DB8", "what was before");
    press(&mut state, KeyCode::Esc);
    assert_eq!((state.filter.as_str(), keys(&state).len()), ("", 5));
    type_in(&mut state, "/nowhere");
    press(&mut state, KeyCode::Enter);
    assert!(screen(&state).contains("no destination matches"));
}

#[test]
fn into_a_destination_a_connection_and_back() {
    let sample = Sample::usual();
    let mut state = sample.state((80, 24));
    assert_eq!(press(&mut state, KeyCode::Enter), Asked::Facts);
    sample.look(&mut state);
    assert_eq!((state.view, state.tab), (View::Destination, Tab::Verdicts));
    assert_eq!(press(&mut state, KeyCode::Enter), Asked::Nothing, "nothing to enter here");
    for tab in [Tab::Histograms, Tab::Endings, Tab::Idle, Tab::Connections] {
        press(&mut state, KeyCode::Tab);
        assert_eq!(state.tab, tab);
    }
    press(&mut state, KeyCode::Down);
    let second =
        state.snapshot.as_ref().unwrap().detail.as_ref().unwrap().connections[1].id.clone();
    assert_eq!(press(&mut state, KeyCode::Enter), Asked::Facts);
    sample.look(&mut state);
    assert_eq!((state.view, state.wanted_connection()), (View::Connection, Some(second.as_str())));
    press(&mut state, KeyCode::Backspace);
    assert_eq!((state.view, state.tab), (View::Destination, Tab::Connections));
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.view, View::Destinations);
}

#[test]
fn text_scrolls_to_its_end_and_no_further() {
    let sample = Sample::usual();
    let mut state = sample.state((80, 24));
    press(&mut state, KeyCode::Down);
    press(&mut state, KeyCode::Enter);
    press(&mut state, KeyCode::Tab);
    sample.look(&mut state);
    for _ in 0..50 {
        press(&mut state, KeyCode::PageDown);
    }
    let end = state.scroll;
    assert!(end > 0);
    press(&mut state, KeyCode::Up);
    assert_eq!(state.scroll, end - 1);
    press(&mut state, KeyCode::Home);
    assert_eq!(state.scroll, 0);
}

#[test]
fn many_destinations_are_pages() {
    let mut sample = Sample::empty();
    for at in 0..60_u64 {
        sample.add(&connection(at, &format!("192.0.2.{at}")));
    }
    let mut state = sample.state((80, 24));
    state.sort = Column::Key;
    let all = |state: &State| screen(state).lines().any(|line| line.starts_with("  all"));
    assert!(all(&state));
    for _ in 0..59 {
        let selected = state.selected.clone().unwrap_or_else(|| keys(&state)[0].clone());
        let pointed = format!("> {selected} ");
        assert!(screen(&state).contains(&pointed), "{pointed}\n{}", screen(&state));
        press(&mut state, KeyCode::Down);
    }
    assert!(all(&state));
}

#[test]
fn help_goes_with_any_key() {
    let mut state = Sample::usual().state((80, 24));
    press(&mut state, KeyCode::Char('h'));
    assert!(screen(&state).starts_with("Keys of the live view"));
    assert_eq!(press(&mut state, KeyCode::Char('x')), Asked::Drawing);
    assert!(!state.help);
}

#[test]
fn pause_asks_for_facts_when_it_ends() {
    let mut state = Sample::usual().state((80, 24));
    assert_eq!((press(&mut state, KeyCode::Char('p')), state.paused), (Asked::Facts, true));
    assert!(screen(&state).lines().next().unwrap().contains(" PAUSED "));
    assert_eq!((press(&mut state, KeyCode::Char(' ')), state.paused), (Asked::Facts, false));
}
