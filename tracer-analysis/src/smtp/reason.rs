//! Why a server refuses, as far as the words of its reply tell.
//!
//! The words are looked up in a table and forgotten. A hostile text can choose a class, and nothing else.

use serde::{Deserialize, Serialize};

use super::Reply;

/// Why a server refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Too much in a time: connections, messages or recipients.
    Rate,
    /// Too many connections at a time.
    Concurrency,
    /// Enough messages for one session.
    Messages,
    /// The session is old enough.
    Age,
    /// Who we are: an address on a list, complaints.
    Reputation,
    /// What the message is.
    Content,
    /// It does not know us yet, and wants us to come again.
    Greylisting,
    /// Anything else, or not said.
    Other,
}

impl Reason {
    /// As it is written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Concurrency => "concurrency",
            Self::Messages => "messages",
            Self::Age => "age",
            Self::Reputation => "reputation",
            Self::Content => "content",
            Self::Greylisting => "greylisting",
            Self::Other => "other",
        }
    }
}

/// Words that tell a reason: the first line of the table that has words of the text decides.
///
/// Text and words are in lower case, and all but letters, digits and `_` is one space. A space at the end of
/// words is the end of a word; without it the word may go on.
///
/// Sources: Postfix 3.7 `smtpd.c`, `postscreen_smtpd.c`; Sendmail 8.17 `srvrsmtp.c`, `daemon.c`, `ratectrl.c`;
/// RFC 5321 section 4.5.3.1.8 (too many recipients); Google, support.google.com/a/answer/3726730; Yahoo,
/// senders.yahooinc.com/smtp-error-codes (`TSS04`) and help.yahoo.com SLN3433; Microsoft,
/// sendersupport.olc.protection.outlook.com (`S3115`, `S3140`, `S3150`); Orange, postmastery.com on `OFR`
/// codes; Comcast, spa.xfinity.com/postmaster (`RL000001` to `RL000010`); Tencent, `Connection frequency limited`;
/// GMX, postmaster.gmx.net; the tables of Sisimai (`RateLimited`, `TooManyConn`, `Speeding`) for what others say.
const TABLE: [(Reason, &[&str]); 12] = [
    // Postfix names the client in a limit of recipients per time, and does not in one of a message.
    (
        Reason::Rate,
        &[" too many recipients from ", " too many auth commands ", " too many new tls "],
    ),
    // A limit of one message or mailbox, and errors of the client, throttle nobody.
    (
        Reason::Other,
        &[
            " too many recipients ",
            " too many hops ",
            " too many received ",
            " too many errors ",
            " too many unknown ",
            " too many invalid ",
            " message size ",
            " size limit ",
            " mailbox full ",
            " mailbox is full ",
            " over quota ",
        ],
    ),
    (
        Reason::Rate,
        &[
            " per second ",
            " per minute ",
            " per hour ",
            " per day ",
            " hourly ",
            " daily ",
            " tss04 ",
            " ts04 ",
            " rl000",
        ],
    ),
    (
        Reason::Messages,
        &[
            " per session ",
            " per connection ",
            " in this session ",
            " in one session ",
            " on this connection ",
            " this connection has ",
            " max message per ",
            " max messages ",
            " maximum messages ",
        ],
    ),
    (
        Reason::Age,
        &[
            " lifetime ",
            " session time limit ",
            " session too long ",
            " session duration exceeded ",
            " maximum session ",
            " maximum connection time ",
        ],
    ),
    (
        Reason::Concurrency,
        &[
            " too many connections ",
            " too many concurrent ",
            " too many simultaneous ",
            " too many open ",
            " too many sessions ",
            " too many smtp sessions ",
            " concurrent ",
            " concurrency ",
            " simultaneous ",
            " maximum number of connections ",
            " connection limit ",
            " connections limit ",
            " trop de connexions ",
            " s3115 ",
            " ofr004_104 ",
        ],
    ),
    (
        Reason::Greylisting,
        &[" greylist", " graylist", " grey list", " gray list", " greyed ", " postgrey ", " gl01 "],
    ),
    (
        Reason::Rate,
        &[
            " rate limit",
            " ratelimit",
            " connection rate ",
            " sending rate ",
            " unusual rate ",
            " at a rate ",
            " throttl",
            " slow down ",
            " slower ",
            " too fast ",
            " too frequent",
            " frequency ",
            " too much mail ",
            " too many mails ",
            " too many emails ",
            " too many messages ",
            " unexpected volume ",
            " sending limit ",
            " message quota ",
        ],
    ),
    (
        Reason::Content,
        &[
            " virus",
            " malware ",
            " phishing ",
            " spam message ",
            " spam content ",
            " like spam ",
            " as spam ",
            " likely unsolicited ",
            " message content ",
            " content rejected ",
        ],
    ),
    (
        Reason::Reputation,
        &[
            " reputation",
            " blacklist",
            " black list",
            " blocklist",
            " block list ",
            " denylist",
            " dnsbl",
            " rbl ",
            " spamhaus ",
            " too many spams ",
            " user complaints ",
            " banned ",
            " s3140 ",
            " s3150 ",
        ],
    ),
    // What is left is a limit that has no better name here.
    (Reason::Rate, &[" too many "]),
    (Reason::Rate, &[" rate "]),
];

/// Words of a server that has waited too long for us.
const TIMEOUT: [&str; 5] = [" timeout", " timed out ", " time out ", " idle ", " inactiv"];

impl Reply {
    /// The reason that its words tell; `None` if they tell none.
    pub fn reason(&self) -> Option<Reason> {
        let lines = [normal(&self.first), normal(&self.last)];
        let has = |words: &&str| lines.iter().any(|line| line.contains(words));
        TABLE.iter().find(|(_, words)| words.iter().any(has)).map(|(reason, _)| *reason)
    }

    /// Whether it says that the server has waited too long for us: RFC 3463 X.4.1 and X.4.2, or words.
    pub fn is_timeout(&self) -> bool {
        let coded = self.enhanced().is_some_and(|it| it.subject == 4 && matches!(it.detail, 1 | 2));
        let lines = [normal(&self.first), normal(&self.last)];
        let has = |words: &&str| lines.iter().any(|line| line.contains(words));
        self.code >= 400 && (coded || TIMEOUT.iter().any(has))
    }
}

/// Lower case, with one space for all but letters, digits and `_`, and one around it.
fn normal(text: &[u8]) -> String {
    let mut normal = String::with_capacity(text.len() + 2);
    normal.push(' ');
    for byte in text {
        let wanted = byte.is_ascii_alphanumeric() || *byte == b'_';
        if wanted {
            normal.push(char::from(byte.to_ascii_lowercase()));
        } else if !normal.ends_with(' ') {
            normal.push(' ');
        }
    }
    if !normal.ends_with(' ') {
        normal.push(' ');
    }
    normal
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{ReplyParser, Step},
        *,
    };

    fn reply(text: &str) -> Reply {
        let mut parser = ReplyParser::new();
        let bytes = format!("{text}\r\n").into_bytes();
        let step = bytes.iter().find_map(|byte| parser.feed(*byte));
        let Some(Step::Reply(reply)) = step else { panic!("no reply in {text:?}") };
        reply
    }

    #[test]
    fn words_of_servers() {
        use Reason::{Age, Concurrency, Content, Greylisting, Messages, Other, Rate, Reputation};
        let table = [
            ("421 4.7.0 mx Error: too many connections from 192.0.2.1", Some(Concurrency)),
            ("450 4.7.1 Error: too much mail from 192.0.2.1", Some(Rate)),
            ("450 4.7.1 Error: too many recipients from 192.0.2.1", Some(Rate)),
            ("452 4.5.3 Error: too many recipients", Some(Other)),
            ("421 4.7.0 mx Error: too many errors", Some(Other)),
            ("554 5.4.0 Error: too many hops", Some(Other)),
            ("421 4.3.2 Connection rate limit exceeded.", Some(Rate)),
            ("421 4.3.2 Too many open connections.", Some(Concurrency)),
            ("421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", Some(Rate)),
            (
                "421 Max message per connection reached, closing transmission channel",
                Some(Messages),
            ),
            ("421 4.7.0 Too many messages in this session", Some(Messages)),
            ("452 4.2.1 maximum messages per session exceeded", Some(Messages)),
            ("421 mx maximum session lifetime has been reached, please reconnect", Some(Age)),
            ("421 mx Trop de connexions, veuillez verifier. OFR004_104", Some(Concurrency)),
            ("421 mx Service refused. OFR004_104 [104]", Some(Concurrency)),
            (
                "451 4.7.652 The mail server has exceeded the maximum number of connections. (S3115)",
                Some(Concurrency),
            ),
            (
                "550 5.7.1 Unfortunately, messages from 192.0.2.1 weren't sent (S3150)",
                Some(Reputation),
            ),
            ("432 4.3.2 STOREDRV; concurrent connection limit exceeded", Some(Concurrency)),
            (
                "450-4.2.1 The user is receiving mail at a rate that\r\n450 4.2.1 prevents it",
                Some(Rate),
            ),
            (
                "421-4.7.28 Our system has detected an unusual rate of\r\n421 4.7.28 unsolicited mail",
                Some(Rate),
            ),
            ("550 Connection frequency limited", Some(Rate)),
            ("451 4.7.1 Greylisting in action, please come back later", Some(Greylisting)),
            ("450 4.2.0 <b@mx>: Recipient address rejected: Greylisted", Some(Greylisting)),
            (
                "554 5.7.1 Service unavailable; Client host blocked using zen.spamhaus.org",
                Some(Reputation),
            ),
            ("554 5.7.1 This message was classified as spam", Some(Content)),
            ("554 5.7.1 virus Eicar found", Some(Content)),
            ("451 Temporary local problem - please try later", None),
            ("550 5.1.1 <corporate@mx>: unknown user", None),
            ("450 4.3.2 Service currently unavailable", None),
            ("421 4.4.2 mx Error: timeout exceeded", None),
        ];
        for (text, reason) in table {
            assert_eq!(reply(text).reason(), reason, "{text}");
        }
    }

    #[test]
    fn timeouts() {
        for text in [
            "421 4.4.2 mx.example closing",
            "421 4.4.1 Connection closed",
            "421 mx.example Service closing transmission channel - command timeout",
            "451 Timeout waiting for data from client.",
            "421 mx: SMTP command timed out",
        ] {
            assert!(reply(text).is_timeout(), "{text}");
        }
        for text in ["421 4.7.0 too many", "421 mx closing", "250 4.4.2 timeout", "220 idle mx"] {
            assert!(!reply(text).is_timeout(), "{text}");
        }
    }

    #[test]
    fn table_is_in_the_form_that_is_looked_up() {
        for words in TABLE.iter().flat_map(|(_, words)| *words).chain(&TIMEOUT) {
            let plain = normal(words.as_bytes());
            assert_eq!(plain.trim_end(), words.trim_end(), "{words:?}");
            assert!(words.starts_with(' '), "{words:?} begins within a word");
        }
    }

    proptest! {
        /// Whatever stands there, it is one of the classes or none, and the reply goes on as it was.
        #[test]
        fn any_text(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let normal = normal(&bytes);
            prop_assert!(normal.len() <= bytes.len() + 2);
            prop_assert!(normal.starts_with(' ') && normal.ends_with(' ') && !normal.contains("  "));
        }
    }
}
