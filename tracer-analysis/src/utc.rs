//! Points in time as they stand in recordings: RFC 3339, UTC, microseconds.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

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

    /// Microseconds from `earlier` to this point; 0 if `earlier` is later.
    pub const fn micros_since(self, earlier: Self) -> u64 {
        if self.0 > earlier.0 { self.0.abs_diff(earlier.0) } else { 0 }
    }

    /// Reads RFC 3339, in any offset. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        Some(Self::from_nanos(moment.unix_timestamp_nanos()))
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FIRST: i64 = -62_167_219_200_000_000; // 0000-01-01T00:00:00Z
        const LAST: i64 = 253_402_300_799_999_999; // 9999-12-31T23:59:59.999999Z
        let nanos = i128::from(self.0.clamp(FIRST, LAST)) * 1_000;
        let moment =
            OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let moment = moment.to_offset(UtcOffset::UTC);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            moment.year(),
            u8::from(moment.month()),
            moment.day(),
            moment.hour(),
            moment.minute(),
            moment.second(),
            moment.microsecond()
        )
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
        serializer.collect_str(self)
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
    use super::*;

    #[test]
    fn prints_microseconds_in_utc() {
        assert_eq!(Utc::from_micros(0).to_string(), "1970-01-01T00:00:00.000000Z");
        let text = "2026-11-22T03:04:05.000007Z";
        assert_eq!(Utc::parse(text).unwrap().to_string(), text);
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
