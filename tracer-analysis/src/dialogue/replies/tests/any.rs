//! Any dialogue.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    /// Whatever buffer is read first, and however far, the result is the same.
    #[test]
    fn order_of_buffers_does_not_matter(
        messages in prop::collection::vec((0..5_usize, 20..4_000_u32), 0..12),
        server in 0..SERVERS.len(),
        steps in prop::collection::vec((0..2_usize, 0..3_usize), 0..40),
    ) {
        let mut session = Session::begin();
        for (way, body) in messages {
            session = session.message(&SERVERS[server], WAYS[way], body);
        }
        let session = session.quit();
        let expected = session.told();
        let told = session.told_in(|dialogue, turns, said| {
            let (mut at, mut reply) = (0, 0);
            for (turns_read, replies_read) in steps.iter().copied().chain([(99, 99)]) {
                for turn in turns.iter().skip(at).take(turns_read) {
                    dialogue.turn(turn);
                }
                for said in said.iter().skip(reply).take(replies_read) {
                    dialogue.reply(*said);
                }
                (at, reply) = (at + turns_read, reply + replies_read);
            }
        });
        prop_assert_eq!(told, expected);
    }

    /// Exact means exact, and likely is seldom anything else: never more than the truth here.
    #[test]
    fn counts_are_true(
        messages in prop::collection::vec((0..5_usize, 70..9_000_u32, any::<bool>()), 0..8),
        server in 0..SERVERS.len(),
    ) {
        let by = &SERVERS[server];
        let mut session = Session::begin();
        let truth = u32::try_from(messages.len()).unwrap();
        for (way, body, rset) in messages {
            session = session.message(by, WAYS[way], body);
            if rset {
                session = session.says(6, by.rset);
            }
        }
        let (told, exact) = count(&session.quit());
        prop_assert!(told.is_none_or(|told| told == truth), "{told:?} {exact} of {truth}");
    }

    #[test]
    fn any_dialogue_is_read_without_panic(
        exchanges in prop::collection::vec(
            (any::<u32>(), prop::collection::vec((0..14_usize, any::<bool>()), 0..6)), 0..30),
    ) {
        let words = [
            "220 x", "221 x", "235 x", "250 OK", "250 2.1.5 OK", "250 2.1.0 OK", "250 queued",
            "250 2.0.0 OK", "334 x", "354 x", "421 4.4.2 x", "421 x", "450 x", "550 5.1.1 x",
        ];
        let mut session = Session::begin();
        for (bytes, replies) in exchanges {
            let texts: Vec<&str> = replies.iter().map(|(at, _)| words[*at]).collect();
            let bytes = if replies.first().is_some_and(|it| it.1) { bytes } else { bytes % 200 };
            session = session.group(bytes, &texts);
        }
        let told = session.told();
        prop_assert!(told.transactions.is_some() || !told.exact);
    }
}
