//! Text for a terminal: printable ASCII in lines of at most 80 columns.

use std::fmt::Write as _;

/// Columns of a line.
pub(super) const WIDTH: usize = 80;

/// `text` without anything that a terminal could act on or that could pass for something else:
/// everything but printable ASCII becomes `\xNN` or `\u{...}`. Host names, command names and keys come
/// from the network or from files.
pub(crate) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => safe.push_str("\\\\"),
            ' '..='~' => safe.push(c),
            '\0'..='\x7f' => {
                let _ = write!(safe, "\\x{:02x}", u32::from(c)); // a String takes everything
            }
            _ => safe.extend(c.escape_unicode()),
        }
    }
    safe
}

/// Breaks `text` into lines at spaces, or within words that do not fit. The first line begins with
/// `head`, all others with `indent` spaces.
pub(crate) fn wrap(head: &str, indent: usize, text: &str) -> String {
    fill(head, indent, text.split(' '))
}

/// The same for a list, which breaks between its items.
pub(super) fn wrap_list(head: &str, indent: usize, items: &[String]) -> String {
    let list = items.join(",\n");
    fill(head, indent, list.lines())
}

fn fill<'a>(head: &str, indent: usize, words: impl Iterator<Item = &'a str>) -> String {
    let margin = " ".repeat(indent);
    let mut lines = String::new();
    let mut line = head.to_owned();
    let mut fresh = true;
    for word in words.filter(|word| !word.is_empty()) {
        if !fresh && line.len() + 1 + word.len() > WIDTH {
            end_line(&mut lines, &mut line, &margin);
        } else if !fresh {
            line.push(' ');
        }
        for c in word.chars() {
            if line.len() >= WIDTH {
                end_line(&mut lines, &mut line, &margin);
            }
            line.push(c);
        }
        fresh = false;
    }
    end_line(&mut lines, &mut line, "");
    lines
}

/// Moves a finished line; the next begins with `margin`.
fn end_line(lines: &mut String, line: &mut String, margin: &str) {
    lines.push_str(line.trim_end());
    lines.push('\n');
    margin.clone_into(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_printable_ascii() {
        assert_eq!(safe("mx-1.example.org"), "mx-1.example.org");
        assert_eq!(safe("\x1b[2J\r\n\t\x07\0\x7f"), "\\x1b[2J\\x0d\\x0a\\x09\\x07\\x00\\x7f");
        assert_eq!(safe("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(safe("a\u{202e}b\u{200b}\u{feff}"), "a\\u{202e}b\\u{200b}\\u{feff}");
        assert_eq!(safe("\u{430}.example"), "\\u{430}.example", "a Cyrillic a");
        assert_eq!(safe("\\x1b"), "\\\\x1b", "an escape cannot be forged");
    }

    #[test]
    fn lines_break_at_spaces_and_in_long_words() {
        assert_eq!(wrap("Trust: ", 2, ""), "Trust:\n");
        let text = format!("{} {}", "a".repeat(70), "b".repeat(90));
        let lines = wrap("x: ", 2, &text);
        assert_eq!(
            lines,
            format!("x: {}\n  {}\n  {}\n", "a".repeat(70), "b".repeat(78), "b".repeat(12))
        );
        let items = ["1 b".to_owned(), "2 b".to_owned()];
        assert_eq!(
            wrap_list(&"a".repeat(75), 2, &items),
            format!("{}1 b,\n  2 b\n", "a".repeat(75))
        );
    }
}
