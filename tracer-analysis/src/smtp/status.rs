//! Enhanced status codes (RFC 3463 section 2) at the beginning of a reply's text.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An enhanced status code, for example `4.7.652`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(with = "String"))]
#[serde(try_from = "String", into = "String")]
pub struct EnhancedCode {
    /// 2 success, 4 try again later, 5 never.
    pub class: u8,
    /// What it is about: 7 is policy, 4 the connection, 3 the mail system.
    pub subject: u16,
    /// Which condition, 0 to 999.
    pub detail: u16,
}

impl EnhancedCode {
    /// The code that is the first word of a reply's text; `None` if there is none.
    pub fn at_start(text: &[u8]) -> Option<Self> {
        let word = text.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
        Self::parse(word)
    }

    /// Reads `class.subject.detail`.
    pub fn parse(word: &[u8]) -> Option<Self> {
        let mut parts = word.split(|byte| *byte == b'.');
        let class = match parts.next()? {
            [digit @ (b'2' | b'4' | b'5')] => digit - b'0',
            _ => return None,
        };
        let mut number = || {
            let digits = parts.next().filter(|part| (1..=3).contains(&part.len()))?;
            digits.iter().try_fold(0_u16, |number, digit| {
                digit.is_ascii_digit().then(|| number * 10 + u16::from(digit - b'0'))
            })
        };
        let (subject, detail) = (number()?, number()?);
        parts.next().is_none().then_some(Self { class, subject, detail })
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// A text that is no enhanced status code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no enhanced status code: expected three numbers such as 4.7.0")]
pub struct NoEnhancedCode(pub String);

impl FromStr for EnhancedCode {
    type Err = NoEnhancedCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes()).ok_or_else(|| NoEnhancedCode(text.to_owned()))
    }
}

impl TryFrom<String> for EnhancedCode {
    type Error = NoEnhancedCode;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EnhancedCode> for String {
    fn from(code: EnhancedCode) -> Self {
        code.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_word_of_a_reply() {
        let code = EnhancedCode { class: 4, subject: 7, detail: 652 };
        assert_eq!(EnhancedCode::at_start(b" 4.7.652 The mail server"), Some(code));
        assert_eq!(code.to_string().parse(), Ok(code));
        for other in ["mx.example.org", "4.7", "4.7.0.1", "3.1.1", "4.1234.0", "4..0", ""] {
            assert_eq!(EnhancedCode::at_start(other.as_bytes()), None, "{other}");
        }
    }
}
