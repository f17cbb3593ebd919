//! What the live view shows and where its user is; what keys do. Pure: no terminal, no clock.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    column::Column,
    draw,
    snapshot::{Row, Snapshot, Title},
    theme::Theme,
};

/// Characters of a filter.
const LONGEST_FILTER: usize = 100;

/// What one destination is looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Verdicts,
    Histograms,
    Endings,
    Idle,
    Connections,
}

impl Tab {
    pub(super) const ALL: [Self; 5] =
        [Self::Verdicts, Self::Histograms, Self::Endings, Self::Idle, Self::Connections];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Verdicts => "verdicts",
            Self::Histograms => "histograms",
            Self::Endings => "endings",
            Self::Idle => "idle",
            Self::Connections => "connections",
        }
    }

    /// The one `steps` to the right, around the end.
    fn moved(self, steps: usize) -> Self {
        let at = Self::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        Self::ALL[(at + steps) % Self::ALL.len()]
    }
}

/// Where the user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Destinations,
    Destination,
    Connection,
}

/// What a key asks of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing: the screen stays as it is.
    Nothing,
    /// Another screen of what is known.
    Drawing,
    /// More facts, and then another screen.
    Facts,
    /// The end of the trace.
    End,
}

/// All that decides what stands on the screen.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) title: Title,
    pub(super) theme: Theme,
    /// `None` until the first is taken.
    pub(super) snapshot: Option<Snapshot>,
    /// Columns and lines of the screen.
    pub(super) size: (u16, u16),
    pub(super) view: View,
    pub(super) help: bool,
    pub(super) paused: bool,
    pub(super) sort: Column,
    pub(super) reversed: bool,
    pub(super) filter: String,
    /// A filter that is being typed.
    pub(super) typed: Option<String>,
    /// Key of the destination that the pointer stands on, or that is looked at; `None` for the first.
    pub(super) selected: Option<String>,
    pub(super) tab: Tab,
    /// Id of the connection that the pointer stands on, or that is looked at.
    pub(super) connection: Option<String>,
    /// Lines above the screen.
    pub(super) scroll: usize,
}

impl State {
    pub(super) fn new(title: Title, theme: Theme, size: (u16, u16)) -> Self {
        Self {
            title,
            theme,
            snapshot: None,
            size,
            view: View::Destinations,
            help: false,
            paused: false,
            sort: Column::Verdict,
            reversed: false,
            filter: String::new(),
            typed: None,
            selected: None,
            tab: Tab::Verdicts,
            connection: None,
            scroll: 0,
        }
    }

    /// The destination whose details are needed.
    pub(super) fn wanted(&self) -> Option<&str> {
        (self.view != View::Destinations).then_some(self.selected.as_deref()).flatten()
    }

    /// The connection whose turns are needed.
    pub(super) fn wanted_connection(&self) -> Option<&str> {
        (self.view == View::Connection).then_some(self.connection.as_deref()).flatten()
    }

    /// The destinations in their order, without those that the filter leaves out; all of them together
    /// come last.
    pub(super) fn rows(&self) -> Vec<&Row> {
        let Some(shown) = &self.snapshot else { return Vec::new() };
        let filter = self.typed.as_ref().unwrap_or(&self.filter).to_lowercase();
        let mut rows: Vec<_> = shown.rows.iter().filter(|row| matches(row, &filter)).collect();
        rows.sort_by(|a, b| {
            let order = self.sort.compare(a, b, shown);
            if self.reversed { order.reverse() } else { order }
        });
        rows.push(&shown.all);
        rows
    }

    /// The place of the pointer among `rows`.
    pub(super) fn pointer(&self, rows: &[&Row]) -> usize {
        let selected = self.selected.as_deref();
        rows.iter().position(|row| Some(row.key.as_str()) == selected).unwrap_or(0)
    }

    /// The place of the pointer among the connections of the destination.
    pub(super) fn connection_pointer(&self) -> usize {
        let ids = self.connection_ids();
        ids.iter().position(|id| Some(*id) == self.connection.as_deref()).unwrap_or(0)
    }

    fn connection_ids(&self) -> Vec<&str> {
        let detail = self.snapshot.as_ref().and_then(|shown| shown.detail.as_ref());
        let listed = detail.into_iter().flat_map(|detail| &detail.connections);
        listed.map(|connection| connection.id.as_str()).collect()
    }

    /// Takes a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Asked {
        if key.kind == KeyEventKind::Release {
            return Asked::Nothing;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => Asked::End,
            KeyCode::Char('l') if control => Asked::Drawing,
            _ if control || key.modifiers.contains(KeyModifiers::ALT) => Asked::Nothing,
            code if self.typed.is_some() => self.typing(code),
            _ if self.help => {
                self.help = false;
                Asked::Drawing
            }
            code => self.command(code),
        }
    }

    fn typing(&mut self, code: KeyCode) -> Asked {
        let Some(text) = &mut self.typed else { return Asked::Nothing };
        match code {
            KeyCode::Char(c) if text.chars().count() < LONGEST_FILTER => text.push(c),
            KeyCode::Backspace => {
                if text.pop().is_none() {
                    self.typed = None;
                }
            }
            KeyCode::Enter => self.filter = self.typed.take().unwrap_or_default(),
            KeyCode::Esc => self.typed = None,
            _ => return Asked::Nothing,
        }
        Asked::Drawing
    }

    fn command(&mut self, code: KeyCode) -> Asked {
        let page = usize::from(self.size.1).saturating_sub(10).max(1);
        match code {
            KeyCode::Char('q') => return Asked::End,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('p' | ' ') => {
                self.paused = !self.paused;
                return Asked::Facts;
            }
            KeyCode::Up | KeyCode::Char('k') => self.step(false, 1),
            KeyCode::Down | KeyCode::Char('j') => self.step(true, 1),
            KeyCode::PageUp => self.step(false, page),
            KeyCode::PageDown => self.step(true, page),
            KeyCode::Home | KeyCode::Char('g') => self.step(false, usize::MAX),
            KeyCode::End | KeyCode::Char('G') => self.step(true, usize::MAX),
            KeyCode::Enter => return self.enter(),
            KeyCode::Esc | KeyCode::Backspace => self.leave(),
            code => return self.view_command(code),
        }
        Asked::Drawing
    }

    fn view_command(&mut self, code: KeyCode) -> Asked {
        match (self.view, code) {
            (View::Destinations, KeyCode::Char('s')) => {
                let at = Column::ALL.iter().position(|it| *it == self.sort).unwrap_or(0);
                self.sort = Column::ALL[(at + 1) % Column::ALL.len()];
                self.reversed = false;
            }
            (View::Destinations, KeyCode::Char('S')) => self.reversed = !self.reversed,
            (View::Destinations, KeyCode::Char('/')) => self.typed = Some(String::new()),
            (View::Destination, KeyCode::Tab | KeyCode::Right) => self.turn_to(1),
            (View::Destination, KeyCode::BackTab | KeyCode::Left) => {
                self.turn_to(Tab::ALL.len() - 1);
            }
            _ => return Asked::Nothing,
        }
        Asked::Drawing
    }

    fn turn_to(&mut self, steps: usize) {
        self.tab = self.tab.moved(steps);
        self.scroll = 0;
    }

    fn enter(&mut self) -> Asked {
        match self.view {
            View::Destinations => {
                let rows = self.rows();
                let Some(row) = rows.get(self.pointer(&rows)) else { return Asked::Nothing };
                let key = row.key.clone();
                self.selected = Some(key);
                (self.view, self.tab, self.connection) = (View::Destination, Tab::Verdicts, None);
            }
            View::Destination if self.tab == Tab::Connections => {
                let at = self.connection_pointer();
                let Some(id) = self.connection_ids().get(at).map(|id| (*id).to_owned()) else {
                    return Asked::Nothing;
                };
                self.connection = Some(id);
                self.view = View::Connection;
            }
            View::Destination | View::Connection => return Asked::Nothing,
        }
        self.scroll = 0;
        Asked::Facts
    }

    fn leave(&mut self) {
        self.scroll = 0;
        match self.view {
            View::Destinations => self.filter.clear(),
            View::Destination => self.view = View::Destinations,
            View::Connection => self.view = View::Destination,
        }
    }

    /// Moves the pointer, or what is read.
    fn step(&mut self, down: bool, by: usize) {
        let moved = |from: usize, last: usize| {
            let to = if down { from.saturating_add(by) } else { from.saturating_sub(by) };
            to.min(last)
        };
        if self.view == View::Destinations {
            let rows = self.rows();
            let to = moved(self.pointer(&rows), rows.len().saturating_sub(1));
            self.selected = rows.get(to).map(|row| row.key.clone());
        } else if self.view == View::Destination && self.tab == Tab::Connections {
            let ids = self.connection_ids();
            let to = moved(self.connection_pointer(), ids.len().saturating_sub(1));
            self.connection = ids.get(to).map(|id| (*id).to_owned());
        } else {
            self.scroll = moved(self.scroll, draw::lines_beyond(self));
        }
    }
}

fn matches(row: &Row, filter: &str) -> bool {
    let verdict = row.worst.map(|(_, code)| code.as_str()).unwrap_or_default();
    row.key.to_lowercase().contains(filter) || verdict.contains(filter)
}
