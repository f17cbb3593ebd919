//! Reports and other documents as JSON.

use std::{borrow::Cow, fmt::Write as _, io, sync::Arc};

use serde::Serialize;

/// Writes a document as one JSON object, indented, in ASCII.
pub(crate) fn write(document: &impl Serialize, out: &mut impl io::Write) -> io::Result<()> {
    let json = serde_json::to_string_pretty(document)?;
    out.write_all(ascii(&json).as_bytes())?;
    out.write_all(b"\n")
}

/// The word that stands for `value` in JSON; `unknown` if it is not a word.
pub(crate) fn word(value: impl Serialize) -> Arc<str> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.into(),
        _ => "unknown".into(),
    }
}

/// The same JSON with everything beyond printable ASCII escaped: that occurs only within strings.
/// Text from the network could otherwise reach a terminal as control characters.
pub(crate) fn ascii(json: &str) -> Cow<'_, str> {
    // Without a way out of the loop, many bytes are looked at at once.
    if json.bytes().fold(true, |all, byte| all & matches!(byte, b' '..=b'~' | b'\n')) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, ' '..='~' | '\n') {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}"); // a String takes everything
            }
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_the_same_json() {
        let text = "a\x7f\u{9b}\u{202e}\u{1f4e7}\x1b\"\\\n";
        let json = ascii(&serde_json::to_string_pretty(&[text]).unwrap()).into_owned();
        assert!(json.chars().all(|c| matches!(c, ' '..='~' | '\n')), "{json:?}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [text]);
    }
}
