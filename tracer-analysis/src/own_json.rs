//! JSON as this program itself writes it, read in two thirds of the time that any JSON takes.
//!
//! Fields stand in the order of the type, without space between them, and strings have no escapes. Nearly all
//! that is ever read of recordings is so. What is not, is left to `serde_json`: it reads the same, and says what
//! is wrong with what it cannot read.

use std::fmt;

use serde::{
    Deserialize,
    de::{self, DeserializeSeed, IntoDeserializer as _, MapAccess, SeqAccess, Visitor},
    forward_to_deserialize_any,
};

/// The value that `text` is, with or without a line break after it; `None` if it is written in another way, or is no
/// such value.
pub(crate) fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Option<T> {
    let mut rest = Text(text.strip_suffix('\n').unwrap_or(text));
    let value = T::deserialize(&mut rest).ok()?;
    rest.0.is_empty().then_some(value)
}

/// It is not written so.
#[derive(Debug)]
struct Otherwise;

impl fmt::Display for Otherwise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not as smtptrace writes it")
    }
}

impl std::error::Error for Otherwise {}

impl de::Error for Otherwise {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

type Result<T> = std::result::Result<T, Otherwise>;

/// What is not read yet.
struct Text<'de>(&'de str);

impl<'de> Text<'de> {
    /// Passes over `expected` if it comes next.
    fn skip(&mut self, expected: &str) -> bool {
        self.0.strip_prefix(expected).is_some_and(|rest| {
            self.0 = rest;
            true
        })
    }

    fn expect(&mut self, expected: &str) -> Result<()> {
        if self.skip(expected) { Ok(()) } else { Err(Otherwise) }
    }

    /// Passes over `,"name":`, or `"name":` for the first field, if it comes next.
    fn skip_field(&mut self, name: &str, first: bool) -> bool {
        let (text, before) = (self.0.as_bytes(), if first { "\"" } else { ",\"" });
        let end = before.len() + name.len();
        let found = text.starts_with(before.as_bytes())
            && text.get(before.len()..end) == Some(name.as_bytes())
            && text.get(end..end + 2) == Some(b"\":");
        match self.0.get(end + 2..).filter(|_| found) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn string(&mut self) -> Result<&'de str> {
        self.expect("\"")?;
        let is_end = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        let end = self.0.as_bytes().iter().position(is_end).ok_or(Otherwise)?;
        let (string, rest) = self.0.split_at_checked(end).ok_or(Otherwise)?;
        self.0 = rest;
        self.expect("\"")?;
        Ok(string)
    }

    /// An integer that is not negative.
    fn number(&mut self) -> Result<u64> {
        let (text, mut number, mut len) = (self.0.as_bytes(), 0_u64, 0);
        while let Some(digit @ b'0'..=b'9') = text.get(len) {
            let next = number.checked_mul(10).and_then(|it| it.checked_add((digit - b'0').into()));
            number = next.ok_or(Otherwise)?;
            len += 1;
        }
        // What follows the digits of a fraction or an exponent is no JSON of ours, and is found out later.
        if len == 0 || len > 1 && text.starts_with(b"0") {
            return Err(Otherwise);
        }
        self.0 = self.0.get(len..).ok_or(Otherwise)?;
        Ok(number)
    }
}

impl<'de> de::Deserializer<'de> for &mut Text<'de> {
    type Error = Otherwise;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.0.as_bytes().first() {
            Some(b'"') => visitor.visit_borrowed_str(self.string()?),
            Some(b'0'..=b'9') => visitor.visit_u64(self.number()?),
            Some(b't') => self.expect("true").and_then(|()| visitor.visit_bool(true)),
            Some(b'f') => self.expect("false").and_then(|()| visitor.visit_bool(false)),
            Some(b'[') => {
                self.expect("[")?;
                let value = visitor.visit_seq(Items { text: self, first: true })?;
                self.expect("]").map(|()| value)
            }
            Some(b'{') => {
                self.expect("{")?;
                let value = visitor.visit_map(Items { text: self, first: true })?;
                self.expect("}").map(|()| value)
            }
            _ => Err(Otherwise),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.skip("null") { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.expect("{")?;
        let value = visitor.visit_seq(Fields { text: self, names: names.iter(), first: true })?;
        self.expect("}").map(|()| value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_enum(self.string()?.into_deserializer())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The fields of a struct, in its order.
struct Fields<'a, 'de> {
    text: &'a mut Text<'de>,
    names: std::slice::Iter<'static, &'static str>,
    first: bool,
}

impl<'de> SeqAccess<'de> for Fields<'_, 'de> {
    type Error = Otherwise;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        let Some(name) = self.names.next() else { return Ok(None) };
        if self.text.skip_field(name, self.first) {
            self.first = false;
            return seed.deserialize(&mut *self.text).map(Some);
        }
        seed.deserialize(Missing).map(Some)
    }
}

/// A field that older versions do not write: it is `None`, or has a default that only the type knows.
struct Missing;

impl<'de> de::Deserializer<'de> for Missing {
    type Error = Otherwise;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value> {
        Err(Otherwise)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The items of a list, or the entries of a map.
struct Items<'a, 'de> {
    text: &'a mut Text<'de>,
    first: bool,
}

impl Items<'_, '_> {
    /// Whether there is another one; passes over the comma before it.
    fn has_next(&mut self) -> Result<bool> {
        if self.text.0.starts_with([']', '}']) {
            return Ok(false);
        }
        if !std::mem::take(&mut self.first) {
            self.text.expect(",")?;
        }
        Ok(true)
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Otherwise;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        if !self.has_next()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.text).map(Some)
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = Otherwise;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        if !self.has_next()? {
            return Ok(None);
        }
        seed.deserialize(Key(self.text.string()?)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        self.text.expect(":")?;
        seed.deserialize(&mut *self.text)
    }
}

/// The key of a map: a number in quotes, or a name.
struct Key<'de>(&'de str);

impl<'de> de::Deserializer<'de> for Key<'de> {
    type Error = Otherwise;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let mut text = Text(self.0);
        let number = text.number()?;
        if !text.0.is_empty() {
            return Err(Otherwise);
        }
        visitor.visit_u64(number)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connection::Connection, recording::Line};

    const RECORDING: &str = include_str!("../../tests/testdata/recordings/mx2.jsonl");

    fn connections() -> Vec<&'static str> {
        let is_connection = |line: &&str| line.starts_with("{\"kind\":\"connection\"");
        RECORDING.lines().filter(is_connection).collect()
    }

    fn both(text: &str) -> (Option<Connection>, Option<Connection>) {
        (read(text), serde_json::from_str(text).ok())
    }

    #[test]
    fn recordings_are_read_and_mean_the_same() {
        let lines = connections();
        assert!(lines.len() > 10, "{}", lines.len());
        for line in lines {
            let (own, any) = both(line);
            assert!(own.is_some() && own == any, "{line}");
        }
    }

    #[test]
    fn what_is_written_now_is_read() {
        for line in connections() {
            let Ok(line) = Line::parse(line) else { continue };
            let mut json = line.to_json().unwrap();
            json.push('\n');
            assert_eq!(
                read::<Connection>(&json).map(|it| Line::Connection(Box::new(it))),
                Some(line)
            );
        }
    }

    /// Each byte of a line is changed in many ways: what is read at all is what `serde_json` reads.
    #[test]
    fn nothing_is_read_that_is_not_json() {
        let line = connections()[0];
        for at in 0..line.len() {
            for other in *b"\"\\{}[],:09-.eEnt a\n\x01" {
                let mut bytes = line.as_bytes().to_vec();
                bytes[at] = other;
                let Ok(text) = String::from_utf8(bytes) else { continue };
                if let (Some(own), any) = both(&text) {
                    assert_eq!(Some(own), any, "{text}");
                }
            }
            let (own, any) = both(&line[..at]);
            assert!(own.is_none() && any.is_none(), "{at}");
            let without = format!("{}{}", &line[..at], &line[at + 1..]);
            let (own, any) = both(&without);
            assert!(own.is_none() || own == any, "{without}");
        }
    }

    #[test]
    fn what_is_written_otherwise_is_left_to_others() {
        let line = connections()[0];
        let spaced = line.replacen(':', ": ", 1);
        let escaped = line.replacen("\"host\":\"", "\"host\":\"\\u0061", 1);
        let unknown = line.replacen(",\"host\"", ",\"what\":1,\"host\"", 1);
        for text in [spaced, escaped, unknown] {
            assert!(read::<Connection>(&text).is_none() && Line::parse(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn fields_that_older_versions_do_not_write_are_none() {
        let line = connections()[0];
        let without = line.replacen("\"sport\":", "\"@", 1);
        let at = without.find(",\"@").unwrap();
        let end = at + 1 + without[at + 1..].find(',').unwrap();
        let without = format!("{}{}", &without[..at], &without[end..]);
        let (own, any) = both(&without);
        assert_eq!(own.as_ref().map(|it| it.sport), Some(None), "{without}");
        assert_eq!(own, any);
    }
}
