//! Points in time as they stand in recordings: RFC 3339, UTC, microseconds.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::{Date, Month, OffsetDateTime, format_description::well_known::Rfc3339};

/// A point in time: microseconds since 1970-01-01T00:00:00Z.
///
/// Values outside the years 0 to 9999 print as the nearest end of that range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Utc(i64);

impl Utc {
    /// From microseconds since 1970-01-01T00:00:00Z.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From nanoseconds since 1970-01-01T00:00:00Z; rounds down.
    pub const fn from_nanos(nanos: i128) -> Self {
        let micros = nanos.div_euclid(1_000);
        // A clock that far off has no meaning; keep the sign so that order survives.
        if micros > i64::MAX as i128 {
            Self(i64::MAX)
        } else if micros < i64::MIN as i128 {
            Self(i64::MIN)
        } else {
            #[expect(clippy::cast_possible_truncation, reason = "both ends were tested")]
            Self(micros as i64)
        }
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This point in time, `micros` later.
    #[must_use]
    pub const fn plus_micros(self, micros: u64) -> Self {
        Self(self.0.saturating_add_unsigned(micros))
    }

    /// This point in time by a clock that was set forward by `step` microseconds, or back if they are negative.
    #[must_use]
    pub const fn stepped(self, step: i64) -> Self {
        Self(self.0.saturating_add(step))
    }

    /// Microseconds from `earlier` to this point; 0 if `earlier` is later.
    pub const fn micros_since(self, earlier: Self) -> u64 {
        if self.0 > earlier.0 { self.0.abs_diff(earlier.0) } else { 0 }
    }

    /// Reads RFC 3339, in any offset. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(utc) = Self::parse_own(text.as_bytes()) {
            return Some(utc);
        }
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        Some(Self::from_nanos(moment.unix_timestamp_nanos()))
    }

    /// Reads what [`Self::text`] writes, which is nearly all that is ever read. `None` for anything else.
    fn parse_own(text: &[u8]) -> Option<Self> {
        let text: &[u8; LENGTH] = text.try_into().ok()?;
        let is_own = text.iter().zip(TEMPLATE).all(|(byte, template)| {
            if *template == b'0' { byte.is_ascii_digit() } else { byte == template }
        });
        let number = |from: usize, to: usize| {
            text[from..to].iter().fold(0, |number, digit| number * 10 + i64::from(digit & 0xf))
        };
        let [month, day, hour, minute, second] = [5, 8, 11, 14, 17].map(|at| number(at, at + 2));
        if !is_own || hour > 23 || minute > 59 || second > 59 {
            return None; // a leap second is left to the general parser
        }
        let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
        let year = i32::try_from(number(0, 4)).ok()?;
        let date = Date::from_calendar_date(year, month, u8::try_from(day).ok()?).ok()?;
        let days = i64::from(date.to_julian_day() - EPOCH_DAY);
        let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
        Some(Self(seconds * 1_000_000 + number(20, 26)))
    }

    /// As it is written: digits in the places of the zeros of [`TEMPLATE`].
    fn text(self) -> [u8; LENGTH] {
        const FIRST: i64 = -62_167_219_200_000_000; // 0000-01-01T00:00:00Z
        const LAST: i64 = 253_402_300_799_999_999; // 9999-12-31T23:59:59.999999Z
        const DAY: i64 = 86_400_000_000;
        let micros = self.0.clamp(FIRST, LAST);
        let (days, of_day) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
        let day = i32::try_from(days).map_or(EPOCH_DAY, |days| EPOCH_DAY + days);
        let date = Date::from_julian_day(day).unwrap_or(Date::MIN);
        let seconds = of_day / 1_000_000;
        let mut text = *TEMPLATE;
        let mut put = |from: usize, to: usize, mut number: i64| {
            for place in text[from..to].iter_mut().rev() {
                *place = b'0' + (number % 10).to_le_bytes()[0];
                number /= 10;
            }
        };
        put(0, 4, date.year().into());
        put(5, 7, u8::from(date.month()).into());
        put(8, 10, date.day().into());
        put(11, 13, seconds / 3_600);
        put(14, 16, seconds / 60 % 60);
        put(17, 19, seconds % 60);
        put(20, 26, of_day % 1_000_000);
        text
    }
}

/// Where digits stand in a time as it is written.
const TEMPLATE: &[u8; LENGTH] = b"0000-00-00T00:00:00.000000Z";
const LENGTH: usize = 27;
/// Julian day of 1970-01-01.
const EPOCH_DAY: i32 = 2_440_588;

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text()).unwrap_or_default())
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Utc {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Utc".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "RFC 3339, UTC, with microseconds.",
            "type": "string",
            "format": "date-time",
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$",
        })
    }
}

impl Serialize for Utc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Utc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| de::Error::custom(format!("not an RFC 3339 time: {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prints_microseconds_in_utc() {
        assert_eq!(Utc::from_micros(0).to_string(), "1970-01-01T00:00:00.000000Z");
        let text = "2026-11-22T03:04:05.000007Z";
        assert_eq!(Utc::parse(text).unwrap().to_string(), text);
    }

    proptest! {
        /// The general parser is the reference of the one for what is written here.
        #[test]
        fn what_is_written_is_read_by_both_parsers(
            micros in -62_167_219_200_000_000..=253_402_300_799_999_999_i64,
        ) {
            let (utc, text) = (Utc::from_micros(micros), Utc::from_micros(micros).to_string());
            prop_assert_eq!(Utc::parse_own(text.as_bytes()), Some(utc));
            let reference = OffsetDateTime::parse(&text, &Rfc3339).unwrap();
            prop_assert_eq!(Utc::from_nanos(reference.unix_timestamp_nanos()), utc);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["2026-02-30", "2026-13-01", "2026-00-01", "2026-01-00"] {
            assert_eq!(Utc::parse(&format!("{text}T00:00:00.000000Z")), None, "{text}");
        }
        for text in ["24:00:00", "00:60:00", "00:00:61", "0a:00:00", "00-00-00"] {
            assert_eq!(Utc::parse(&format!("2026-01-01T{text}.000000Z")), None, "{text}");
        }
        assert_eq!(Utc::parse("2026-01-01T00:00:00.00000:Z"), None);
    }

    #[test]
    fn reads_other_offsets() {
        let utc = Utc::parse("2026-11-22T03:04:05Z").unwrap();
        assert_eq!(Utc::parse("2026-11-22T04:04:05+01:00"), Some(utc));
        assert_eq!(Utc::parse("yesterday"), None);
    }

    #[test]
    fn extremes_do_not_panic() {
        for micros in [i64::MIN, i64::MAX] {
            assert!(Utc::from_micros(micros).to_string().ends_with('Z'));
        }
        assert_eq!(Utc::from_nanos(-1), Utc::from_micros(-1));
    }
}
