//! Values of options: sizes and times.

use std::time::Duration;

/// A number of bytes with an optional k, M or G (powers of 1000).
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let unit = match unit.trim_end_matches(['b', 'B']) {
        "" => 1,
        "k" | "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return Err("the unit must be k, M or G".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "write a number like 500M")?;
    match number.checked_mul(unit) {
        Some(0) => Err("must be more than 0".into()),
        Some(bytes) => Ok(bytes),
        None => Err("too large".into()),
    }
}

/// A time between outputs: 0.1 s at least, which is how often the kernel is asked.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_millis(100);
    let time = duration(text)?;
    if time < SHORTEST { Err("must be 100ms or longer".into()) } else { Ok(time) }
}

/// A time longer than 0.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than 0".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write 90s, 10m or 1h30m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("500M"), Ok(500_000_000));
        assert_eq!((size("1000"), size("2kB")), (Ok(1_000), Ok(2_000)));
        for wrong in ["", "0", "M", "5X", "-1", "99999999999G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
