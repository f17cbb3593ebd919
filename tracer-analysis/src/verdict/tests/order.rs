//! Verdicts depend on the connections, not on how they were read.

use proptest::prelude::*;

use super::*;
use crate::destination::sample::failed;

fn any_traffic() -> impl Strategy<Value = Vec<Connection>> {
    let one =
        (0..400 * S, 0..5 * S, 0..4_u32, 0..8_u8).prop_map(
            |(at, length, messages, kind)| match kind {
                0 => refused(at),
                1 => failed(DST, at, 500, "ECONNREFUSED"),
                2 => closed_after(at, messages, Tls::None),
                3 => Connection { transaction_spans_us: None, ..served(at, length, messages) },
                4 => Connection { end_cause: EndCause::LocalFin, ..served(at, length, messages) },
                _ => served(at, length, messages),
            },
        );
    prop::collection::vec(one, 0..80)
}

proptest! {
    #[test]
    fn order_of_records_makes_no_difference(
        (all, shuffled) in any_traffic().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        prop_assert_eq!(verdicts(&all), verdicts(&shuffled));
    }

    #[test]
    fn merged_recordings_are_one(all in any_traffic(), cut in 0..80_usize) {
        let (left, right) = all.split_at(cut.min(all.len()));
        let mut merged = fold_of(left);
        merged.merge(&fold_of(right));
        prop_assert_eq!(report(&merged, GroupBy::Address).verdicts, verdicts(&all));
    }
}

#[test]
fn a_sample_depends_on_neither_order_nor_merging() {
    let all = play(&traffic(5, 9_000)[..], |_, _, all| all.len() % 7 > 0);
    let of = |fold: &Fold| {
        let arrivals = fold.groups(GroupBy::Address).next().unwrap().all.arrivals;
        (arrivals.is_sample(), arrivals.moments(), arrivals.missed_reuse(), arrivals.minutes())
    };
    let forwards = of(&fold_of(&all));
    assert!(forwards.0);
    assert_eq!(forwards, of(&fold_of(all.iter().rev())));
    let mut merged = fold_of(all.iter().step_by(2));
    merged.merge(&fold_of(all.iter().skip(1).step_by(2)));
    assert_eq!(forwards, of(&merged));
}
