//! What clients and servers do in a session.

use tracer_analysis::connection::Connection;

use crate::{
    random::{Asked, Random, Talk},
    truth::{Command, Truth},
    wire::End,
};

/// Final replies that refuse a body.
const REFUSED: [&str; 6] = [
    "554 5.7.1 Spam",
    "552 5.3.4 Too long",
    "451 4.3.0 Try later",
    "450 Later",
    "554 No",
    "451 4.4.2 Timeout of the scanner",
];
/// What a server says that waits for the rest of a body no longer.
const GIVEN_UP: [&str; 6] = [
    "421 4.4.2 mx.test Error: timeout exceeded",
    "421 mx.test incoming data timeout",
    "451 4.4.2 Timeout - closing connection",
    "451 Timed out",
    "421 Service closing",
    "451 4.3.0 Aborted",
];

/// One session: what was handed over, and its record.
pub(crate) fn session(random: &mut Random) -> (Truth, Connection) {
    let mut talk = Talk::new(random);
    talk.begin();
    for _ in 0..talk.random.below(7) {
        if talk.random.percent(30) {
            talk.pause();
        }
        let ended = match talk.random.below(12) {
            0 => commands(&mut talk),
            1 => probe(&mut talk),
            2 => refused(&mut talk),
            _ => message(&mut talk),
        };
        if let Some(end) = ended {
            return talk.end(end);
        }
    }
    let end = match talk.random.below(6) {
        0 => End::Client,
        1 => End::Reset,
        2 => End::Nobody,
        3 => {
            talk.long_pause();
            talk.say("421 4.4.2 mx.test Error: timeout exceeded");
            End::Server
        }
        _ => {
            talk.one(Command::Other, 6, "221 2.0.0 Bye");
            End::Server
        }
    };
    talk.end(end)
}

fn asked(command: Command, bytes: usize, reply: &str) -> Asked {
    Asked { command, bytes, replies: vec![reply.to_owned()] }
}

/// Commands that hand nothing over.
fn commands(talk: &mut Talk<'_>) -> Option<End> {
    let reset = talk.nature.words.reset;
    match talk.random.below(8) {
        0 => talk.one(Command::Reset, 6, reset),
        1 => talk.one(Command::Other, 6, "250 OK"),
        2 => talk.one(Command::Other, 16, "252 2.0.0 Perhaps"),
        3 => talk.one(Command::Other, 6, "214 See RFC 5321"),
        4 => talk.one(Command::Other, 12, "500 5.5.1 Unknown command"),
        5 => talk.one(Command::Reset, 18, "250-mx.test\r\n250 SIZE"),
        6 => talk.one(Command::Other, 10, "454 4.7.0 No TLS"),
        _ => {
            talk.one(Command::Other, 12, "334");
            talk.one(Command::Other, 14, "334 UGFzc3dvcmQ6");
            talk.one(Command::Other, 20, "235 2.7.0 ok");
        }
    }
    None
}

/// Asks whether a recipient would be accepted.
fn probe(talk: &mut Talk<'_>) -> Option<End> {
    let words = talk.nature.words;
    let rcpt = talk.random.of(&[words.rcpt, words.no_rcpt]);
    let mut group = vec![
        asked(Command::Mail, talk.random.within(14..90), words.mail),
        asked(Command::Rcpt, talk.random.within(20..90), rcpt),
        asked(Command::Reset, 6, words.reset),
    ];
    let quits = talk.random.percent(50);
    if quits {
        group.push(asked(Command::Other, 6, "221 2.0.0 Bye"));
    }
    write(talk, group);
    quits.then_some(End::Server)
}

/// MAIL is refused, and what was written behind it.
fn refused(talk: &mut Talk<'_>) -> Option<End> {
    let mail = talk.random.of(&["450 4.7.1 Too much mail", "421 4.7.0 Slow down", "550 5.7.1 No"]);
    let ends = mail.starts_with("421") && talk.random.percent(80);
    let mut group = vec![asked(Command::Mail, talk.random.within(14..90), mail)];
    if talk.nature.groups && !ends {
        group.push(asked(Command::Rcpt, talk.random.within(20..90), "503 5.5.1 need MAIL"));
        group.push(asked(Command::Data, 6, "554 5.5.1 no valid recipients"));
    }
    write(talk, group);
    ends.then_some(End::Server)
}

fn write(talk: &mut Talk<'_>, group: Vec<Asked>) {
    if talk.nature.groups {
        talk.group(group);
    } else {
        for asked in group {
            talk.group(vec![asked]);
        }
    }
}

/// A message, or what could have become one.
fn message(talk: &mut Talk<'_>) -> Option<End> {
    let words = talk.nature.words;
    let accepted = talk.random.of(&[95, 95, 60, 0]);
    let count = talk.random.of(&[1, 1, 1, 1, 2, 2, 3, 5, 12]);
    let mut group = Vec::new();
    if talk.random.percent(25) {
        group.push(asked(Command::Reset, 6, words.reset));
    }
    group.push(asked(Command::Mail, talk.random.within(14..120), words.mail));
    let mut recipients = 0;
    for _ in 0..count {
        let is_accepted = talk.random.percent(accepted);
        recipients += usize::from(is_accepted);
        let reply = if is_accepted { words.rcpt } else { words.no_rcpt };
        group.push(asked(Command::Rcpt, talk.random.within(13..90), reply));
    }
    if recipients == 0 && !talk.nature.groups {
        write(talk, group);
        talk.one(Command::Reset, 6, words.reset);
        return None;
    }
    if talk.nature.own && recipients > 0 && talk.random.percent(50) {
        write(talk, group);
        group = Vec::new();
        let (command, blob) = (talk.random.within(13..20), talk.random.within(2..2_000));
        talk.one(Command::Other, command, "354 Send binary data");
        talk.body(Command::Other, blob);
        talk.say("250 XEXCH50 OK");
    }
    if talk.nature.chunking && talk.random.percent(talk.nature.bdat) {
        chunks(talk, group, recipients)
    } else {
        data(talk, group, recipients)
    }
}

/// The rest of a message by DATA.
fn data(talk: &mut Talk<'_>, mut group: Vec<Asked>, recipients: usize) -> Option<End> {
    let words = talk.nature.words;
    if recipients == 0 && talk.random.percent(50) {
        group.push(asked(Command::Data, 6, "554 5.5.1 no valid recipients"));
        write(talk, group);
        return None;
    }
    if talk.random.percent(4) {
        group.push(asked(Command::Data, 6, "451 4.3.0 Not now"));
        write(talk, group);
        talk.one(Command::Reset, 6, words.reset);
        return None;
    }
    group.push(asked(Command::Data, 6, "354 End data with a dot"));
    write(talk, group);
    if recipients == 0 {
        // Whoever knows that nobody was accepted sends a lone dot.
        talk.one(Command::Body { whole: true }, 3, "554 5.5.1 no valid recipients");
        return None;
    }
    if let Some(end) = unfinished(talk, |whole| Command::Body { whole }) {
        return Some(end);
    }
    let bytes = size(talk);
    talk.body(Command::Body { whole: true }, bytes);
    answer(talk, recipients)
}

/// The rest of a message by BDAT.
fn chunks(talk: &mut Talk<'_>, mut group: Vec<Asked>, recipients: usize) -> Option<End> {
    let words = talk.nature.words;
    if recipients == 0 {
        let bytes = 15 + size(talk);
        group.push(asked(Command::Chunk { last: true, whole: true }, bytes, "503 5.5.1 need RCPT"));
        write(talk, group);
        talk.one(Command::Reset, 6, words.reset);
        return None;
    }
    write(talk, group);
    for _ in 0..talk.random.of(&[0, 0, 0, 1, 2]) {
        let bytes = 10 + size(talk);
        talk.body(Command::Chunk { last: false, whole: true }, bytes);
        if talk.random.percent(5) {
            talk.say("554 5.6.0 No");
            talk.one(Command::Reset, 6, words.reset);
            return None;
        }
        talk.say(words.chunk);
        if talk.random.percent(5) {
            talk.one(Command::Reset, 6, words.reset);
            return None;
        }
    }
    if let Some(end) = unfinished(talk, |whole| Command::Chunk { last: true, whole }) {
        return Some(end);
    }
    let bytes = 15 + size(talk);
    talk.body(Command::Chunk { last: true, whole: true }, bytes);
    answer(talk, recipients)
}

fn size(talk: &mut Talk<'_>) -> usize {
    let most = talk.random.of(&[40, 900, 5_000, 90_000]);
    talk.random.within(4..most)
}

/// Now and then a body is not finished.
fn unfinished(talk: &mut Talk<'_>, part: impl Fn(bool) -> Command) -> Option<End> {
    if !talk.random.percent(8) {
        return None;
    }
    let bytes = 15 + size(talk);
    talk.body(part(false), bytes);
    match talk.random.below(4) {
        0 => return Some(talk.random.of(&[End::Client, End::Server, End::Reset])),
        1 => talk.say("421 4.3.2 Shutting down"),
        2 => {
            // Too long, and the client goes on.
            talk.say("552 5.3.4 Too long");
            talk.body(part(false), bytes);
            return Some(End::Reset);
        }
        _ => {
            talk.long_pause();
            let reply = talk.random.of(&GIVEN_UP);
            talk.say(reply);
        }
    }
    Some(End::Server)
}

/// What becomes of a body that was finished.
fn answer(talk: &mut Talk<'_>, recipients: usize) -> Option<End> {
    let words = talk.nature.words;
    talk.pause();
    let refused = talk.random.of(&REFUSED);
    let several = if talk.nature.lmtp {
        recipients
    } else if talk.nature.prdr && recipients > 1 && talk.random.percent(70) {
        talk.say("353 Content analysis begins");
        recipients
    } else {
        0
    };
    for _ in 0..several {
        if talk.random.percent(5) {
            talk.pause();
        }
        if talk.random.percent(2) {
            return Some(End::Reset);
        }
        let fate = talk.random.of(&[words.fate, words.fate, refused]);
        talk.say(fate);
    }
    if talk.nature.lmtp {
        return None;
    }
    if talk.random.percent(3) {
        talk.say("421 4.3.2 Refused for now");
        return Some(End::Server);
    }
    let last = if talk.random.percent(85) { words.taken } else { refused };
    talk.say(last);
    None
}
