//! Tables: a key and right-aligned numbers.

use std::fmt::Write as _;

use super::safe_text::{WIDTH, wrap};

/// Heading of a column of numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// Upper heading; neighbours with the same one share it.
    pub(super) above: &'static str,
    /// Lower heading.
    pub(super) name: &'static str,
}

impl Column {
    pub(super) const fn new(above: &'static str, name: &'static str) -> Self {
        Self { above, name }
    }
}

/// A line of a table.
#[derive(Debug)]
pub(super) struct Row {
    /// What it is about, safe to print; takes a line of its own if it is too long.
    pub(super) key: String,
    /// A number for each column; none for a heading within the table.
    pub(super) cells: Vec<String>,
}

/// Lays out a table. `title` stands above the keys.
pub(super) fn table(title: &str, columns: &[Column], rows: &[Row]) -> String {
    let widths = widths(columns, rows);
    let numbers: usize = widths.iter().map(|width| width + GAP).sum();
    let longest = rows.iter().map(|row| row.key.len()).chain([title.len()]).max().unwrap_or(0);
    let room = WIDTH.saturating_sub(numbers);
    // Where most keys need a line of their own, the column need not be wide.
    let fitting = rows.iter().map(|row| row.key.len()).filter(|&len| len <= room);
    let key = if longest <= room { longest } else { fitting.max().unwrap_or(0).max(title.len()) };
    let key = key.min(room);

    let mut lines = String::new();
    // A title that is wider than the keys may be takes a line of its own, like such a key.
    let (own_line, title) = if title.len() <= key { ("", title) } else { (title, "") };
    if !own_line.is_empty() {
        push_line(&mut lines, own_line);
    }
    push_line(&mut lines, &above(key, columns, &widths));
    let names = columns.iter().map(|column| column.name);
    push_line(&mut lines, &format!("{title:key$}{}", aligned(names, &widths)));
    for row in rows {
        let numbers = aligned(row.cells.iter().map(String::as_str), &widths);
        if row.key.len() <= key {
            push_line(&mut lines, &format!("{:key$}{numbers}", row.key));
        } else {
            lines.push_str(&wrap("", 2, &row.key));
            if !row.cells.is_empty() {
                push_line(&mut lines, &format!("{:key$}{numbers}", ""));
            }
        }
    }
    lines
}

/// Spaces between columns.
const GAP: usize = 2;

/// How wide the columns have to be.
fn widths(columns: &[Column], rows: &[Row]) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(|column| column.name.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(&row.cells) {
            *width = cell.len().max(*width);
        }
    }
    let mut at = 0;
    for same in columns.chunk_by(|a, b| a.above == b.above) {
        let shared: usize = widths[at..at + same.len()].iter().sum();
        let shared = shared + GAP * (same.len() - 1);
        widths[at] += same[0].above.len().saturating_sub(shared);
        at += same.len();
    }
    widths
}

/// The line of upper headings.
fn above(key: usize, columns: &[Column], widths: &[usize]) -> String {
    let mut line = " ".repeat(key);
    let mut at = 0;
    for same in columns.chunk_by(|a, b| a.above == b.above) {
        let width: usize = widths[at..at + same.len()].iter().map(|width| width + GAP).sum();
        let _ = write!(line, "{:>width$}", same[0].above); // a String takes everything
        at += same.len();
    }
    line
}

/// Cells under each other, each after a gap.
fn aligned<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    cells.zip(widths).fold(String::new(), |mut line, (cell, width)| {
        let _ = write!(line, "{:GAP$}{cell:>width$}", ""); // a String takes everything
        line
    })
}

fn push_line(lines: &mut String, line: &str) {
    lines.push_str(line.trim_end());
    lines.push('\n');
}
