//! The table of destinations.

use std::fmt::Write as _;

use ratatui::text::{Line, Span};

use super::{
    super::{
        column::Column,
        snapshot::{Row, Snapshot},
        state::State,
        theme::{HEADING, SELECTED, severity_word},
    },
    LOW, fit, header, wrap,
};
use crate::sink::safe_text::safe;

/// Widest key that is not cut while there is other use for the room.
const WIDE_KEY: usize = 40;

/// Room for keys that is worth a column: on a narrow screen, and else.
const NARROW_KEY: [usize; 2] = [15, 24];

/// Columns of a narrow screen.
const NARROW: usize = 70;

/// The whole screen.
pub(super) fn screen(state: &State, width: usize, height: usize) -> Vec<Line<'static>> {
    let Some(shown) = &state.snapshot else { return Vec::new() };
    let rows = state.rows();
    let at = state.pointer(&rows);
    let selected = rows[at];
    let low = height < LOW;
    let mut lines = vec![header::title(state, shown, width), header::totals(state, shown, width)];
    if !low {
        lines.push(header::spark(state, selected, &about(selected, shown), width));
        lines.push(Line::default());
    }
    let said = if low { Vec::new() } else { said(state, shown, selected, width, height) };
    let below = said.len() + 1; // the keys
    let headings = if low { 1 } else { 2 };
    let room = height.saturating_sub(lines.len() + headings + below).max(2);
    let page = page(&rows, at, room);
    let plan = Plan::new(&page, shown, width);
    lines.extend(plan.headings(state).into_iter().skip(2 - headings));
    for row in &page {
        lines.push(plan.row(state, shown, row, row.key == selected.key));
    }
    if shown.rows.is_empty() {
        lines.push(Line::from("  no connection yet"));
    } else if rows.len() == 1 {
        lines.push(Line::from("  no destination matches the filter; Esc clears it"));
    }
    lines.truncate(height.saturating_sub(below));
    lines.resize_with(height.saturating_sub(below), Line::default);
    lines.extend(said);
    lines.push(header::footer(state, width));
    lines
}

fn about(row: &Row, shown: &Snapshot) -> String {
    if row.key == shown.all.key { "all destinations".to_owned() } else { safe(&row.key) }
}

/// The rows of the page that `at` is on. All destinations together stay at its end.
fn page<'a>(rows: &[&'a Row], at: usize, room: usize) -> Vec<&'a Row> {
    let Some((all, single)) = rows.split_last() else { return Vec::new() };
    let per_page = room.saturating_sub(1).max(1);
    let first = at.min(single.len().saturating_sub(1)) / per_page * per_page;
    let mut page: Vec<_> = single.iter().skip(first).take(per_page).copied().collect();
    page.push(all);
    page
}

/// What the worst verdict on the selected row says, and what stands on stderr later.
fn said(
    state: &State,
    shown: &Snapshot,
    row: &Row,
    width: usize,
    height: usize,
) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let room = if height < 20 { 2 } else { 4 };
    let verdicts = &shown.report.0.verdicts;
    if let Some(verdict) = verdicts.iter().find(|verdict| verdict.destination == row.key) {
        let word = verdict.severity.as_str().to_uppercase();
        let style = state.theme.severity(Some(verdict.severity));
        let text = format!("{word} {}: {}", verdict.code, safe(&verdict.summary));
        let advice = verdict.advice.first();
        let texts = wrap(&text, width, 2).into_iter();
        let advice = advice.map(|it| wrap(&format!("> {}", safe(&it.text)), width, 2));
        for (at, text) in texts.chain(advice.into_iter().flatten()).take(room).enumerate() {
            lines.push(match text.strip_prefix(word.as_str()) {
                Some(rest) if at == 0 => {
                    Line::from(vec![Span::styled(word.clone(), style), Span::raw(rest.to_owned())])
                }
                _ => Line::from(text),
            });
        }
    }
    if let Some((notice, count)) = &shown.notice {
        let more = if *count > 1 {
            format!(" (and {} more at the end)", count - 1)
        } else {
            String::new()
        };
        lines.push(Line::from(fit(&format!("! {}{more}", safe(notice)), width)));
    }
    let order = if state.reversed { ", reversed" } else { "" };
    let mut order = format!("sorted by {}{order}", state.sort.name());
    if !state.filter.is_empty() && state.typed.is_none() {
        order = format!("filter: {}   {order}", safe(&state.filter));
    }
    lines.push(Line::from(fit(&order, width)));
    lines
}

/// Which columns there are, and how wide.
struct Plan {
    key: usize,
    /// Columns of the verdict; with the code if there are more than four.
    verdict: usize,
    gap: usize,
    numbers: Vec<(Column, usize)>,
    /// Bars of each row.
    spark: usize,
}

impl Plan {
    fn new(page: &[&Row], shown: &Snapshot, width: usize) -> Self {
        let longest = page.iter().map(|row| safe(&row.key).len()).max().unwrap_or(0);
        let longest = longest.max(Column::Key.heading()[1].len() + 1);
        let code = page.iter().filter_map(|row| row.worst).map(|(_, code)| code.as_str().len());
        let code = code.max().unwrap_or(0);
        let mut numbers: Vec<_> = Column::ALL
            .into_iter()
            .filter(|column| column.is_number())
            .map(|column| (column, widest(column, page, shown)))
            .collect();
        let verdict = Column::Verdict.heading()[1].len() + 1; // and the mark of the order
        let fixed = |numbers: &[(Column, usize)], gap: usize| -> usize {
            POINTER + gap + verdict + numbers.iter().map(|(_, width)| width + gap).sum::<usize>()
        };
        let wanted = longest.min(WIDE_KEY);
        let gap = if fixed(&numbers, 2) + wanted <= width { 2 } else { 1 };
        for column in Column::FIRST_TO_GO {
            if fixed(&numbers, gap) + wanted.min(NARROW_KEY[usize::from(width >= NARROW)]) <= width
            {
                break;
            }
            numbers.retain(|(kept, _)| *kept != column);
        }
        let mut left = width.saturating_sub(fixed(&numbers, gap));
        let key = longest.min(left);
        left -= key;
        let mut plan = Self { key, verdict, gap, numbers, spark: 0 };
        let with_code = (5 + code).saturating_sub(verdict);
        if code > 0 && left >= with_code {
            plan.verdict = verdict.max(5 + code);
            left -= plan.verdict - verdict;
        }
        if left >= 12 {
            plan.spark = (left - gap).min(40);
        }
        plan
    }

    fn headings(&self, state: &State) -> [Line<'static>; 2] {
        let marked = |column: Column, text: &str| {
            let descending = (column != Column::Key) != state.reversed;
            if column == state.sort {
                format!("{}{text}", state.theme.order(descending))
            } else {
                text.to_owned()
            }
        };
        let gap = " ".repeat(self.gap);
        [0, 1].map(|line| {
            let of = |column: Column| {
                let text = column.heading()[line];
                if line == 1 { marked(column, text) } else { text.to_owned() }
            };
            let mut text = format!("  {}{gap}", fit(&of(Column::Key), self.key));
            text.push_str(&fit(&of(Column::Verdict), self.verdict));
            for (column, width) in &self.numbers {
                // A mark stands in the gap where the heading fills its column.
                let heading = of(*column);
                let room = width + self.gap;
                let _ = write!(text, "{heading:>room$}"); // a String takes everything
            }
            if self.spark > 0 && line == 1 {
                text.push_str(&gap);
                text.push_str(&fit("new, over time", self.spark));
            }
            Line::styled(text, HEADING)
        })
    }

    fn row(&self, state: &State, shown: &Snapshot, row: &Row, selected: bool) -> Line<'static> {
        let is_all = row.key == shown.all.key;
        let key = if is_all { "all".to_owned() } else { safe(&row.key) };
        let pointer = if selected { state.theme.pointer() } else { "  " };
        let severity = row.worst.map(|(severity, _)| severity);
        let word = severity_word(severity);
        let verdict = match row.worst {
            Some((_, code)) if self.verdict > 8 => fit(&format!("{word:<4} {code}"), self.verdict),
            _ => fit(word, self.verdict),
        };
        let gap = " ".repeat(self.gap);
        let mut numbers = String::new();
        for (column, width) in &self.numbers {
            let _ = write!(numbers, "{gap}{:>width$}", column.cell(row, shown));
        }
        let base = if selected {
            SELECTED
        } else if is_all {
            HEADING
        } else {
            ratatui::style::Style::new()
        };
        let mut spans = vec![
            Span::raw(format!("{pointer}{}{gap}", fit(&key, self.key))),
            Span::styled(verdict, state.theme.severity(severity)),
            Span::raw(numbers),
        ];
        if self.spark > 0 {
            spans.push(Span::raw(gap));
            spans.push(Span::styled(self.bars(state, row), state.theme.bar()));
        }
        Line::from(spans).style(base)
    }

    fn bars(&self, state: &State, row: &Row) -> String {
        let counts = &row.spark[row.spark.len().saturating_sub(self.spark)..];
        let highest = counts.iter().copied().max().unwrap_or(0).max(1);
        let steps = counts
            .iter()
            .map(|n| state.theme.step(usize::try_from((n * 8).div_ceil(highest)).unwrap_or(8)));
        steps.collect()
    }
}

/// Columns of the pointer.
const POINTER: usize = 2;

fn widest(column: Column, page: &[&Row], shown: &Snapshot) -> usize {
    let cells = page.iter().map(|row| column.cell(row, shown).len());
    let headings = column.heading().map(str::len);
    cells.chain(headings).max().unwrap_or(0)
}
