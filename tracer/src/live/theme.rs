//! What the terminal can show: colours, and characters beyond ASCII.

use std::ffi::OsString;

use ratatui::style::{Color, Modifier, Style};
use tracer_analysis::verdict::Severity;

/// Headings and names of keys.
pub(super) const HEADING: Style = Style::new().add_modifier(Modifier::BOLD);

/// What the pointer stands on.
pub(super) const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// How things look. Colours are those of the terminal's own palette: they suit its background. None carries
/// a meaning that no word carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Theme {
    pub(super) colour: bool,
    pub(super) unicode: bool,
}

impl Theme {
    /// What the environment asks for: no colours with `NO_COLOR` (any value but the empty one), ASCII
    /// without a locale in UTF-8 and on the console of Linux.
    pub(super) fn from_environment() -> Self {
        Self::new(|name| std::env::var_os(name))
    }

    fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        let locale = locale.to_string_lossy().to_ascii_uppercase();
        let utf8 = locale.contains("UTF-8") || locale.contains("UTF8");
        let console = set("TERM").is_some_and(|term| term == "linux");
        Self { colour: set("NO_COLOR").is_none(), unicode: utf8 && !console }
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    pub(super) fn severity(self, severity: Option<Severity>) -> Style {
        match severity {
            Some(Severity::Critical) => self.coloured(Color::Red).add_modifier(Modifier::BOLD),
            Some(Severity::Warning) => self.coloured(Color::Yellow).add_modifier(Modifier::BOLD),
            Some(Severity::Info) => self.coloured(Color::Cyan),
            Some(Severity::Ok) => self.coloured(Color::Green),
            None => Style::new(),
        }
    }

    /// Something is wrong.
    pub(super) fn bad(self) -> Style {
        self.severity(Some(Severity::Critical))
    }

    pub(super) fn bar(self) -> Style {
        self.coloured(Color::Cyan)
    }

    /// One of eight heights; a space for nothing.
    pub(super) fn step(self, eighths: usize) -> char {
        let steps = if self.unicode { " ▁▂▃▄▅▆▇█" } else { " .:-=+*#@" };
        steps.chars().nth(eighths.min(8)).unwrap_or(' ')
    }

    /// A bar of `share` (0 to 1) of `width` characters; what is not nothing shows.
    pub(super) fn bar_of(self, share: f64, width: usize) -> String {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small, not below 0"
        )]
        let full = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
        let full = if share > 0.0 { full.max(1) } else { 0 };
        (if self.unicode { "█" } else { "#" }).repeat(full)
    }

    /// Points at the selected row.
    pub(super) fn pointer(self) -> &'static str {
        if self.unicode { "▶ " } else { "> " }
    }

    /// Beside the heading of the column that decides the order.
    pub(super) fn order(self, descending: bool) -> char {
        match (self.unicode, descending) {
            (true, true) => '▼',
            (true, false) => '▲',
            (false, _) => '*',
        }
    }
}

/// A severity in four letters.
pub(super) fn severity_word(severity: Option<Severity>) -> &'static str {
    match severity {
        Some(Severity::Critical) => "CRIT",
        Some(Severity::Warning) => "WARN",
        Some(Severity::Info) => "info",
        Some(Severity::Ok) => "ok",
        None => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Theme {
        Theme::new(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn environment_decides() {
        let theme = with(&[("LANG", "de_DE.UTF-8"), ("TERM", "xterm-256color")]);
        assert_eq!(theme, Theme { colour: true, unicode: true });
        assert!(with(&[("NO_COLOR", "")]).colour, "empty is not set");
        assert!(!with(&[("NO_COLOR", "1")]).colour);
        assert!(!with(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")]).unicode, "LC_ALL wins");
        assert!(!with(&[("LANG", "C.utf8"), ("TERM", "linux")]).unicode);
        assert!(!with(&[]).unicode);
    }

    #[test]
    fn bars() {
        let theme = Theme { colour: true, unicode: false };
        assert_eq!([0.0, 0.001, 0.5, 1.0].map(|it| theme.bar_of(it, 4).len()), [0, 1, 2, 4]);
        assert_eq!([0, 1, 8, 9].map(|it| theme.step(it)), [' ', '.', '@', '@']);
    }
}
