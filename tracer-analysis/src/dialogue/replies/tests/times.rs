//! When, and in bounded memory.

use super::*;

#[test]
fn times_of_transactions() {
    let by = server("Exim");
    let second = 1_000 * MILLISECOND;
    let apart = Session::begin().message(by, Way::Apart, 700).quit().told();
    assert_eq!(
        apart.times.unwrap(),
        [Transaction {
            begin_ns: 2 * second,
            ready_ns: Some(3 * second),
            sent_ns: 3 * second + 1_000,
            end_ns: 3 * second + MILLISECOND,
        }]
    );
    let whole = Session::begin().message(by, Way::Whole, 700).quit().told();
    assert_eq!(
        whole.times.unwrap(),
        [Transaction {
            begin_ns: 2 * second,
            ready_ns: None,
            sent_ns: 2 * second + 1_000,
            end_ns: 2 * second + 3 * MILLISECOND,
        }]
    );
    let data = Session::begin().group(60, &[by.mail, by.rcpt, "354 Go"]).says(900, by.taken);
    assert_eq!(
        data.told().times.unwrap(),
        [Transaction {
            begin_ns: 2 * second,
            ready_ns: Some(2 * second + 3 * MILLISECOND),
            sent_ns: 3 * second + 1_000,
            end_ns: 3 * second + MILLISECOND,
        }]
    );
}

#[test]
fn phases() {
    let session = Session::begin().says(12, "334 x").says(20, "334 y").says(20, "535 5.7.8 No");
    let phases = session.told().phases;
    assert_eq!(phases.ehlo_ns, Some(MILLISECOND));
    assert_eq!(phases.auth_ns, Some(2_001 * MILLISECOND));
    let plain = Session::begin().says(12, "535 No").says(30, "235 Yes").says(10, "220 Go");
    assert_eq!(plain.told().phases.auth_ns, Some(MILLISECOND));
    assert_eq!(plain.told().phases.starttls_ns, Some(MILLISECOND));
    // EHLO was written before the greeting came.
    let early = Session::begin().says(30, "250 ok").told_in(|dialogue, turns, said| {
        *dialogue = Dialogue::default();
        dialogue.greeted(&greeting("220 mx"), turns[0].start_ns + 1);
        replies(dialogue, said);
        writes(dialogue, turns);
    });
    assert_eq!(early.phases.ehlo_ns, None);
}

#[test]
fn memory_is_bounded() {
    let by = server("Exim");
    let mut session = Session::begin();
    for _ in 0..600 {
        session = session.message(by, Way::Whole, 700);
    }
    let told = session.told();
    assert_eq!((told.transactions, told.exact), (Some(600), true));
    assert_eq!(told.times.unwrap().len(), 256);
    // No replies at all, and nothing but replies.
    let silent = session.told_in(|dialogue, turns, _| writes(dialogue, turns));
    assert_eq!(silent, Told { transactions: Some(0), exact: true, ..Told::default() });
    let flood = session.told_in(|dialogue, _, said| {
        for _ in 0..100 {
            replies(dialogue, said);
        }
    });
    assert_eq!((flood.transactions, flood.times), (None, None));
}
