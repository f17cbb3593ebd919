//! Sessions at random, legal and not, of clients and servers of every kind.

use std::ops::Range;

use tracer_analysis::connection::Connection;

use crate::{
    truth::{Command, Truth},
    wire::{End, Wire},
};

/// Numbers at random (`SplitMix64`), the same for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) % limit as u64).unwrap()
    }

    pub(crate) fn within(&mut self, range: Range<usize>) -> usize {
        range.start + self.below(range.len())
    }

    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// How a server words its replies.
pub(crate) struct Words {
    pub(crate) mail: &'static str,
    pub(crate) rcpt: &'static str,
    pub(crate) no_rcpt: &'static str,
    pub(crate) taken: &'static str,
    pub(crate) chunk: &'static str,
    pub(crate) reset: &'static str,
    /// The reply to one recipient of a body.
    pub(crate) fate: &'static str,
}

pub(crate) const WORDS: [Words; 6] = [
    Words {
        mail: "250 2.1.0 Ok",
        rcpt: "250 2.1.5 Ok",
        no_rcpt: "550 5.1.1 unknown",
        taken: "250 2.0.0 Ok: queued as 4F1",
        chunk: "250 2.0.0 Ok: 500 bytes",
        reset: "250 2.0.0 Ok",
        fate: "250 2.0.0 <b> Saved",
    },
    Words {
        mail: "250 OK",
        rcpt: "250 Accepted",
        no_rcpt: "550 relay not permitted",
        taken: "250 OK id=1abc-1",
        chunk: "250 500 byte chunk received",
        reset: "250 Reset OK",
        fate: "250 OK for b",
    },
    Words {
        mail: "250 2.1.0 Sender OK",
        rcpt: "250 2.1.5 Recipient OK",
        no_rcpt: "550 5.4.1 Access denied",
        taken: "250 2.6.0 <1> Queued mail for delivery",
        chunk: "250 2.6.0 CHUNK received OK, 500 octets",
        reset: "250 2.0.0 Resetting",
        fate: "250 2.6.0 delivered",
    },
    Words {
        mail: "250 2.1.0 OK 4F - gsmtp",
        rcpt: "250 2.1.5 OK 4F - gsmtp",
        no_rcpt: "550 5.1.1 no 4F - gsmtp",
        taken: "250 2.0.0 OK  17000 4F - gsmtp",
        chunk: "250 2.0.0 OK 500 4F - gsmtp",
        reset: "250 2.1.5 Flushed 4F - gsmtp",
        fate: "250 2.0.0 OK 4F",
    },
    Words {
        mail: "250 2.1.0 <a@x>... Sender ok",
        rcpt: "250 2.1.5 <b@x>... Recipient ok",
        no_rcpt: "550 5.1.1 <b@x>... User unknown",
        taken: "250 2.0.0 4F Message accepted for delivery",
        chunk: "250 2.0.0 500 octets",
        reset: "250 2.0.0 Reset state",
        fate: "250 2.1.5 <b@x> delivered",
    },
    Words {
        mail: "250 OK",
        rcpt: "250 OK",
        no_rcpt: "550 No",
        taken: "250 OK",
        chunk: "250 OK",
        reset: "250 OK",
        fate: "250 OK",
    },
];

/// What a session is like.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct Nature {
    pub(crate) words: &'static Words,
    pub(crate) chunking: bool,
    pub(crate) prdr: bool,
    pub(crate) lmtp: bool,
    pub(crate) own: bool,
    /// Hundredths of the messages that come by BDAT. As a rule a client has one way.
    pub(crate) bdat: usize,
    /// Writes groups of commands, in several writes or one.
    pub(crate) groups: bool,
}

/// A command with its replies, written by nobody yet.
pub(crate) struct Asked {
    pub(crate) command: Command,
    pub(crate) bytes: usize,
    pub(crate) replies: Vec<String>,
}

/// A session under way.
pub(crate) struct Talk<'a> {
    pub(crate) random: &'a mut Random,
    pub(crate) nature: Nature,
    pub(crate) truth: Truth,
    wire: Wire,
}

impl<'a> Talk<'a> {
    pub(crate) fn new(random: &'a mut Random) -> Self {
        let nature = Nature {
            words: &WORDS[random.below(WORDS.len())],
            chunking: random.percent(50),
            prdr: random.percent(20),
            lmtp: random.percent(20),
            own: random.percent(10),
            bdat: random.of(&[0, 100, 0, 100, 0, 100, 0, 100, 50]),
            groups: random.percent(60),
        };
        let truth = Truth::new(nature.lmtp);
        Self { random, nature, truth, wire: Wire::new() }
    }

    /// What stands before the greeting of the server, the greeting, and EHLO.
    pub(crate) fn begin(&mut self) {
        if self.random.percent(10) {
            self.proxy();
        }
        let kind = if self.nature.lmtp && self.random.percent(60) { "LMTP" } else { "ESMTP" };
        let greeting =
            self.random.of(&["220 mx.test {}", "220-mx.test {}\r\n220 go", "220 {}", "220"]);
        let greeting = greeting.replace("{}", kind);
        match self.random.below(20) {
            0 => {
                // EHLO before the greeting
                self.wire.write(18);
                self.pause();
                self.say(&greeting);
                self.say(&self.ehlo());
            }
            1 => {
                // in the SYN, where nobody sees it
                self.say(&greeting);
                self.say(&self.ehlo());
            }
            _ => {
                self.say(&greeting);
                if self.random.percent(5) {
                    self.one(Command::Other, 18, "500 5.5.1 What?");
                }
                let ehlo = self.ehlo();
                self.one(Command::Reset, 18, &ehlo);
            }
        }
        if self.random.percent(5) {
            self.one(Command::Other, 30, &greeting); // XCLIENT
            let ehlo = self.ehlo();
            self.one(Command::Reset, 18, &ehlo);
        }
    }

    fn proxy(&mut self) {
        if self.random.percent(50) {
            self.wire.write(3);
            self.wire.reply(b"\x05\x00");
            self.wire.write(10);
            self.wire.reply(b"\x05\x00\x00\x01\x0a\x16\x03\x01\x16\x0a");
        } else {
            self.wire.write(60);
            self.wire.reply(b"HTTP/1.1 200 go on\r\n\r\n");
        }
    }

    fn ehlo(&self) -> String {
        let it = &self.nature;
        let offers = [
            (it.chunking, "CHUNKING"),
            (it.prdr, "PRDR"),
            (it.own, "XEXCH50"),
            (it.groups, "PIPELINING"),
        ];
        let offered = offers.iter().filter(|it| it.0);
        let words: Vec<String> = offered.map(|it| format!("250-{}\r\n", it.1)).collect();
        if words.is_empty() {
            "250 mx.test".into()
        } else {
            format!("250-mx.test\r\n{}250 SIZE", words.concat())
        }
    }

    /// One command in one write, and its reply.
    pub(crate) fn one(&mut self, command: Command, bytes: usize, reply: &str) {
        self.group(vec![Asked { command, bytes, replies: vec![reply.to_owned()] }]);
    }

    /// Commands in one write, or in several that do not wait, and their replies.
    pub(crate) fn group(&mut self, asked: Vec<Asked>) {
        let overlap = asked.len() > 1 && self.random.percent(10);
        let mut replies = Vec::new();
        let mut bytes = 0;
        for it in asked {
            self.truth.sent(it.command, it.bytes);
            bytes += it.bytes;
            let last = it.bytes;
            replies.extend(it.replies);
            if overlap && self.random.percent(40) {
                let cut = if self.random.percent(30) { self.random.below(last.min(40)) } else { 0 };
                self.wire.write(bytes - cut);
                bytes = cut;
                let ready = if cut > 0 { replies.len() - 1 } else { replies.len() };
                let now = self.random.below(ready + 1);
                for reply in replies.drain(..now).collect::<Vec<_>>() {
                    self.say(&reply);
                }
            }
        }
        if bytes > 0 {
            self.wire.write(bytes);
        }
        for reply in replies {
            self.say(&reply);
        }
    }

    /// A body in one write or several.
    pub(crate) fn body(&mut self, command: Command, bytes: usize) {
        self.truth.sent(command, bytes);
        let mut left = bytes;
        while left > 200 && self.random.percent(30) {
            self.wire.write(left / 2);
            left -= left / 2;
            if self.random.percent(20) {
                self.wire.wait(self.random.within(1..2_000) as u64);
            }
        }
        self.wire.write(left);
    }

    /// The server says something, in one segment or two.
    pub(crate) fn say(&mut self, text: &str) {
        self.truth.replied(text);
        let line = format!("{text}\r\n");
        let cut = if self.random.percent(5) { self.random.below(line.len()) } else { 0 };
        for part in [&line[..cut], &line[cut..]] {
            if !part.is_empty() {
                self.wire.reply(part.as_bytes());
            }
        }
    }

    /// Now and then, for so long that it is a pause.
    pub(crate) fn pause(&mut self) {
        let ms = if self.random.percent(25) {
            self.random.within(1_000..9_000)
        } else {
            self.random.below(900)
        };
        self.wire.wait(ms as u64);
    }

    pub(crate) fn long_pause(&mut self) {
        self.wire.wait(self.random.within(1_500..9_000) as u64);
    }

    pub(crate) fn end(self, end: End) -> (Truth, Connection) {
        (self.truth, self.wire.end(end))
    }
}
