//! Which mail server opened a connection, told by the name of the process.

use serde::{Deserialize, Serialize};

/// A mail server whose settings smtptrace can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mta {
    /// Postfix: smtp(8) connects.
    Postfix,
    /// Exim, `exim4` on Debian.
    Exim,
    /// `OpenSMTPD`: smtpd(8) sends and receives.
    Opensmtpd,
    /// Sendmail, `sendmail-mta` on Debian.
    Sendmail,
    /// `KumoMTA`: kumod.
    Kumomta,
}

impl Mta {
    /// The mail server whose processes that open connections are called `comm`.
    pub fn of(comm: &str) -> Option<Self> {
        match comm {
            "smtp" | "lmtp" => Some(Self::Postfix),
            "exim" | "exim4" => Some(Self::Exim),
            "smtpd" => Some(Self::Opensmtpd),
            "sendmail" | "sendmail-mta" => Some(Self::Sendmail),
            "kumod" => Some(Self::Kumomta),
            _ => None,
        }
    }

    /// Its name, as its makers write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postfix => "Postfix",
            Self::Exim => "Exim",
            Self::Opensmtpd => "OpenSMTPD",
            Self::Sendmail => "Sendmail",
            Self::Kumomta => "KumoMTA",
        }
    }
}
