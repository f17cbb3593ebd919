//! What stands on the screen: from a [`State`] to lines, without side effects.

mod connection;
mod destination;
mod header;
mod help;
mod histogram;
mod table;

use ratatui::{
    Frame,
    text::{Line, Span},
    widgets::{Clear, Paragraph},
};

use super::state::{State, Tab, View};

/// Fewer lines have no room for more than the table.
const LOW: usize = 14;

/// Draws the state.
pub(super) fn draw(state: &State, frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let lines = if state.help {
        help::screen(width, height)
    } else if state.snapshot.is_none() {
        vec![Line::from("smtptrace: taking a first look ...")]
    } else {
        match state.view {
            View::Destinations => table::screen(state, width, height),
            View::Destination | View::Connection => details(state, width, height),
        }
    };
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines), area);
}

/// A destination or a connection: a head that stays, a body that can be longer than the screen, and a line
/// with the keys.
fn details(state: &State, width: usize, height: usize) -> Vec<Line<'static>> {
    let head = head(state, width, height);
    let room = room(head.len(), height);
    let body = body(state, width);
    let mut scroll = state.scroll.min(body.len().saturating_sub(room));
    if state.view == View::Destination && state.tab == Tab::Connections {
        // The line of headings stays.
        scroll = 0;
    }
    let mut lines = head;
    lines.extend(body.into_iter().skip(scroll).take(room));
    lines.resize_with(height.saturating_sub(1), Line::default);
    lines.push(header::footer(state, width));
    lines
}

fn head(state: &State, width: usize, height: usize) -> Vec<Line<'static>> {
    match state.view {
        View::Connection => connection::head(state, width),
        _ => destination::head(state, width, height),
    }
}

fn body(state: &State, width: usize) -> Vec<Line<'static>> {
    match state.view {
        View::Connection => connection::body(state, width),
        _ => destination::body(state, width),
    }
}

fn room(head: usize, height: usize) -> usize {
    height.saturating_sub(head + 1)
}

/// Lines of the body that do not fit on the screen.
pub(super) fn lines_beyond(state: &State) -> usize {
    let (width, height) = (usize::from(state.size.0), usize::from(state.size.1));
    body(state, width).len().saturating_sub(room(head(state, width, height).len(), height))
}

/// `text` in exactly `width` columns; what is cut ends in `~`. `text` is printable ASCII.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return format!("{text:width$}");
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('~');
    }
    cut
}

/// Left and right ends of a line; where there is no room for both, the left one.
fn ends(left: Vec<Span<'static>>, right: Vec<Span<'static>>, width: usize) -> Line<'static> {
    let taken: usize = left.iter().chain(&right).map(Span::width).sum();
    let mut line = left;
    if taken < width {
        line.push(Span::raw(" ".repeat(width - taken)));
        line.extend(right);
    }
    Line::from(line)
}

/// Breaks `text` at spaces into lines of at most `width`; all but the first are indented.
fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let width = width.max(indent + 8);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut fresh = true;
    for word in text.split_whitespace() {
        if !fresh && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
        } else if !fresh {
            line.push(' ');
        }
        for c in word.chars() {
            if line.chars().count() >= width {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            }
            line.push(c);
        }
        fresh = false;
    }
    lines.push(line);
    lines
}
