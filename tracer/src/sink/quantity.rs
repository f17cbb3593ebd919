//! Numbers for people. In tables none is wider than six columns.

/// A count for a table: all digits up to 999999, then `1.23M`.
pub(crate) fn cell(n: u64) -> String {
    if n < 1_000_000 { n.to_string() } else { scaled(n as f64, "") }
}

/// What stands in a table for a number that is not known.
pub(crate) fn unknown() -> String {
    "-".to_owned()
}

/// A share of 1 in percent, without the sign.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or_else(unknown, |share| format!("{:.0}", share * 100.0))
}

/// A time for a table, in units of `unit_us` microseconds; two or three digits.
fn measure(us: Option<u64>, unit_us: f64) -> String {
    let Some(us) = us else { return unknown() };
    let value = us as f64 / unit_us;
    match value {
        0.0..0.995 => format!("{value:.2}"),
        0.995..9.95 => format!("{value:.1}"),
        9.95..999_999.5 => format!("{value:.0}"),
        _ => scaled(value, ""),
    }
}

/// Microseconds as milliseconds.
pub(crate) fn milliseconds(us: Option<u64>) -> String {
    measure(us, 1e3)
}

/// Microseconds as seconds.
pub(crate) fn seconds(us: Option<u64>) -> String {
    measure(us, 1e6)
}

/// Bytes with a decimal unit: `12 kB`.
pub(crate) fn bytes(n: Option<u64>) -> String {
    match n {
        None => unknown(),
        Some(n) if n < 1000 => format!("{n} B"),
        Some(n) => scaled(n as f64, "B"),
    }
}

/// Three digits and a letter for the thousands.
fn scaled(mut value: f64, unit: &str) -> String {
    let mut letters = "kMGTPE".chars();
    let mut letter = None;
    while value >= 999.5 {
        value /= 1e3;
        letter = letters.next();
    }
    let digits = match value {
        ..9.995 if unit.is_empty() => 2,
        ..9.95 => 1,
        ..99.95 if unit.is_empty() => 1,
        _ => 0,
    };
    let space = if unit.is_empty() { "" } else { " " };
    format!("{value:.digits$}{space}{}{unit}", letter.map(String::from).unwrap_or_default())
}

/// A count in a sentence: `1,234,567`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and what is counted: `1 host`, `2 hosts`.
pub(crate) fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

/// A length of time in its two largest units: `1 h 30 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "10 or more")]
    let seconds = seconds.round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let shown =
            [0, 45, 994, 9_949, 9_950, 127_400, 999_999_999].map(|us| milliseconds(Some(us)));
        assert_eq!(shown, ["0.00", "0.04", "0.99", "9.9", "10", "127", "1.00M"]);
        assert_eq!(seconds(Some(300_000_000)), "300");
        assert_eq!(seconds(None), "-");
    }

    #[test]
    fn sizes() {
        let shown = [0, 999, 1_000, 12_345, 999_600, u64::MAX].map(|n| bytes(Some(n)));
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "12 kB", "1.0 MB", "18 EB"]);
    }

    #[test]
    fn counts() {
        assert_eq!([999_999, 1_234_567, 12_345_678].map(cell), ["999999", "1.23M", "12.3M"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn no_number_is_wider_than_a_cell() {
        for n in (0..64).flat_map(|bit| [1_u64 << bit, (1 << bit) / 8 * 9, u64::MAX >> bit]) {
            for text in [cell(n), milliseconds(Some(n)), seconds(Some(n)), bytes(Some(n))] {
                assert!(text.len() <= 6, "{text}");
            }
        }
    }

    #[test]
    fn durations() {
        let shown = [0.0, 9.94, 59.0, 90.0, 5_400.0, 180_000.0].map(duration);
        assert_eq!(shown, ["0.0 s", "9.9 s", "59 s", "1 min 30 s", "1 h 30 min", "2 d 2 h"]);
    }
}
