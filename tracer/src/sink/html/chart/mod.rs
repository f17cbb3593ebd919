//! Charts as SVG: lines and areas in the colour of the text, told apart by dashes, markers and labels, so that
//! they can be read in black and white.

mod course;
mod histogram;
mod percentiles;
mod scale;
mod survival;
mod what_if;

pub(super) use course::course;
pub(super) use histogram::{Unit, histogram};
pub(super) use percentiles::{Line, percentiles};
pub(super) use survival::survival;
pub(super) use what_if::what_if;

use std::fmt::Write as _;

use maud::{Markup, html};

use self::scale::Scale;
use super::super::quantity::{cell, grouped};

/// A drawing with its name and its content in words.
struct Chart<'a> {
    /// Width and height in units of the drawing.
    size: [f64; 2],
    /// Class of its element.
    class: &'a str,
    title: &'a str,
    /// The main numbers, for those who do not see it.
    description: &'a str,
}

impl Chart<'_> {
    fn draw(&self, content: &Markup) -> Markup {
        let [width, height] = self.size;
        let (title, description) = (self.title, self.description);
        html! {
            figure class=(self.class) {
                figcaption { (title) }
                svg viewBox={ "0 0 " (width) " " (height) } role="img" aria-label={ (title) ": " (description) } {
                    desc { (description) }
                    (content)
                }
            }
        }
    }
}

/// The rectangle in which values are drawn.
#[derive(Debug, Clone, Copy)]
struct Area {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Area {
    const fn across(&self) -> [f64; 2] {
        [self.left, self.right]
    }

    /// Upwards.
    const fn up(&self) -> [f64; 2] {
        [self.bottom, self.top]
    }

    /// The axis below, with its ticks and its name.
    fn axis_below(&self, name: &str, ticks: &[(f64, String)]) -> Markup {
        let (left, right, bottom) = (place(self.left), place(self.right), place(self.bottom));
        html! {
            path class="axis" d={ "M" (left) " " (bottom) "H" (right) } {}
            @for (x, label) in apart(ticks) {
                path class="axis" d={ "M" (place(x)) " " (bottom) "v4" } {}
                text x=(place(x)) y=(place(self.bottom + 14.0)) class="middle" { (label) }
            }
            text x=(right) y=(place(self.bottom + 27.0)) class="end name" { (name) }
        }
    }

    /// Lines across, with their values at the left, and the name above.
    fn axis_left(&self, name: &str, ticks: &[(f64, String)]) -> Markup {
        html! {
            @for (y, label) in ticks {
                path class="grid" d={ "M" (place(self.left)) " " (place(*y)) "H" (place(self.right)) } {}
                text x=(place(self.left - 5.0)) y=(place(y + 3.5)) class="end" { (label) }
            }
            @if !name.is_empty() {
                text x=(place(self.left)) y=(place(self.top - 7.0)) class="name" { (name) }
            }
        }
    }

    /// Lines up, each with a label in a row of its own above the area, the first one highest.
    fn marks(&self, marks: &[Mark]) -> Markup {
        let row = |at: usize| self.top - 4.0 - 12.0 * (marks.len() - 1 - at) as f64;
        html! {
            @for (at, mark) in marks.iter().enumerate() {
                path class={ "mark " (mark.class) }
                    d={ "M" (place(mark.x)) " " (place(row(at) - 8.0)) "V" (place(self.bottom)) } {}
            }
            // After all lines: none crosses a label.
            @for (at, mark) in marks.iter().enumerate() {
                @let left = mark.x > self.left + (self.right - self.left) * 0.6;
                text x=(place(if left { mark.x - 3.0 } else { mark.x + 3.0 })) y=(place(row(at)))
                    class={ "label " (if left { "end" } else { "start" }) } { (mark.label) }
            }
        }
    }
}

/// A value that is named.
struct Mark {
    x: f64,
    class: &'static str,
    label: String,
}

/// Ticks whose labels do not run into each other: estimated, as the font is not known.
fn apart(ticks: &[(f64, String)]) -> Vec<(f64, &str)> {
    let mut free = f64::NEG_INFINITY;
    let mut kept = Vec::new();
    for (x, label) in ticks {
        let half = label.chars().count() as f64 * CHARACTER / 2.0;
        if x - half >= free {
            kept.push((*x, label.as_str()));
            free = x + half + CHARACTER;
        }
    }
    kept
}

/// Width of a character of a label, about.
const CHARACTER: f64 = 5.6;

/// A coordinate with one decimal.
fn place(at: f64) -> String {
    let text = format!("{at:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), ToOwned::to_owned)
}

/// A line through points.
fn line(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (x, y) in points {
        let command = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(path, "{command}{} {}", place(x), place(y)); // a String takes everything
    }
    path
}

/// A line that keeps its height until the next point.
fn steps(points: impl IntoIterator<Item = (f64, f64)>, until: f64) -> String {
    let mut path = String::new();
    for (x, y) in points {
        // A String takes everything.
        let _ = if path.is_empty() {
            write!(path, "M{} {}", place(x), place(y))
        } else {
            write!(path, "H{}V{}", place(x), place(y))
        };
    }
    let _ = write!(path, "H{}", place(until));
    path
}

/// A count on an axis.
fn count(value: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative; float to integer saturates"
    )]
    cell(value.round() as u64)
}

/// Microseconds with three digits and the unit that suits: `18.4 ms`.
pub(super) fn time(us: f64) -> String {
    let (value, unit) = match us {
        ..999.5 => (us, "\u{b5}s"),
        ..999_500.0 => (us / 1e3, "ms"),
        ..9_999_500_000.0 => (us / 1e6, "s"),
        _ => (us / 3.6e9, "h"),
    };
    let digits = match value {
        _ if unit == "\u{b5}s" => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = if digits > 0 && value.fract() == 0.0 { format!("{value:.0}") } else { text };
    format!("{text} {unit}")
}

/// Seconds with the unit that suits.
fn seconds(s: f64) -> String {
    if s == 0.0 { "0 s".to_owned() } else { time(s * 1e6) }
}

/// Ticks of times in microseconds.
fn time_ticks(scale: &Scale) -> Vec<(f64, String)> {
    scale.decades().into_iter().map(|us| (scale.at(us), time(us))).collect()
}

/// Ticks of counts.
fn count_ticks(scale: &Scale, most: usize) -> Vec<(f64, String)> {
    scale.round(most).into_iter().map(|n| (scale.at(n), count(n))).collect()
}

/// A count in words.
fn n(count: u64) -> String {
    grouped(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let shown =
            [0.0, 7.0, 999.0, 1_000.0, 18_412.0, 250_000.0, 2e6, 2.5e6, 350e6, 72e9].map(time);
        let expected = [
            "0 \u{b5}s",
            "7 \u{b5}s",
            "999 \u{b5}s",
            "1 ms",
            "18.4 ms",
            "250 ms",
            "2 s",
            "2.50 s",
            "350 s",
            "20 h",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn labels_keep_apart() {
        let ticks =
            [(0.0, "1 ms".to_owned()), (10.0, "2 ms".to_owned()), (40.0, "5 ms".to_owned())];
        assert_eq!(apart(&ticks), [(0.0, "1 ms"), (40.0, "5 ms")]);
    }

    #[test]
    fn paths() {
        assert_eq!(line([(0.0, 1.0), (2.25, 3.0)]), "M0 1L2.2 3");
        assert_eq!(steps([(0.0, 1.0), (2.0, 3.0)], 9.0), "M0 1H2V3H9");
    }
}
