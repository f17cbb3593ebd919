//! Dialogues, and what their records say: written down after the RFCs, and made at random.

#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

mod acts;
mod fixtures;
mod random;
mod script;
mod truth;
mod wire;

/// Sessions at random; another number by `SMTPTRACE_SESSIONS`.
const SESSIONS: u64 = 20_000;

/// A count that is called exact is the one that somebody knows who sees both sides.
#[test]
fn exact_counts_are_true() {
    let sessions = std::env::var("SMTPTRACE_SESSIONS").map_or(SESSIONS, |it| it.parse().unwrap());
    let (mut exact, mut right, mut wrong) = (0_u64, 0_u64, 0_u64);
    let mut lies = Vec::new();
    for seed in 0..sessions {
        let (truth, record) = acts::session(&mut random::Random(seed << 20));
        let is_right = record.transactions == Some(truth.messages());
        exact += u64::from(record.transactions_exact);
        right += u64::from(is_right);
        wrong += u64::from(!is_right && record.transactions.is_some());
        if record.transactions_exact && !is_right {
            lies.push((seed, record.transactions, truth));
        }
    }
    let share = |of: u64| of * 1_000 / sessions;
    println!(
        "{sessions} sessions: {} per mille exact, {} right, {} wrong and not called exact, {} unknown",
        share(exact),
        share(right),
        share(wrong),
        share(sessions - right - wrong)
    );
    for (seed, told, truth) in lies.iter().take(3) {
        println!(
            "seed {seed}: told {told:?}, true {}:\n  {}",
            truth.messages(),
            truth.log.join("\n  ")
        );
    }
    assert!(lies.is_empty(), "{} counts are called exact and wrong", lies.len());
    assert!(share(exact) >= 600 && share(right) >= 750, "fewer than before");
}
