//! Kaplan-Meier: the share of idle sessions that are still alive after a time.

/// Standard normal quantile of a two-sided interval of 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// What became of the sessions whose idle gap had one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observed {
    /// The length.
    pub time_us: u64,
    /// Sessions that were dead.
    pub died: u64,
    /// Sessions that left for another reason: they were used again, closed, or are still open.
    pub left: u64,
}

/// A step of the survival curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// When somebody died.
    pub time_us: u64,
    /// Sessions that idled for that long or longer.
    pub at_risk: u64,
    /// Those that died then.
    pub died: u64,
    /// Share of sessions that outlive that time, 0 to 1.
    pub survival: f64,
    /// Its 95 % confidence interval; `None` where the share is 0.
    pub interval: Option<[f64; 2]>,
}

/// The product-limit estimate (Kaplan and Meier 1958), a step for each time with a death. `observed`
/// is in ascending order, each time once. Who leaves when somebody dies was at risk of that death.
///
/// The interval is Greenwood's on the scale log(-log), so it stays between 0 and 1.
pub fn kaplan_meier(observed: &[Observed]) -> Vec<Step> {
    let mut at_risk: u64 = observed.iter().map(|it| it.died + it.left).sum();
    let (mut survival, mut greenwood) = (1.0, 0.0);
    let mut steps = Vec::new();
    for it in observed {
        if it.died > 0 {
            let (died, risk) = (it.died as f64, at_risk as f64);
            survival *= 1.0 - died / risk;
            greenwood += died / (risk * (risk - died)); // infinite if all died
            let interval = (it.died < at_risk).then(|| log_log(survival, greenwood));
            let Observed { time_us, died, .. } = *it;
            steps.push(Step { time_us, at_risk, died, survival, interval });
        }
        at_risk -= it.died + it.left;
    }
    steps
}

/// The interval of a share between 0 and 1, both excluded, with Greenwood's sum.
fn log_log(survival: f64, greenwood: f64) -> [f64; 2] {
    let spread = (Z * greenwood.sqrt() / survival.ln().abs()).exp();
    [survival.powf(spread), survival.powf(1.0 / spread)]
}

/// At most `limit` of the steps (2 or more), the first and the last among them. A step that is kept says
/// the same as before.
pub fn thinned(steps: &[Step], limit: usize) -> Vec<Step> {
    if steps.len() <= limit || limit < 2 {
        return steps.to_vec();
    }
    let last = steps.len() - 1;
    (0..limit).filter_map(|at| steps.get(at * last / (limit - 1)).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time_us: u64, died: u64, left: u64) -> Observed {
        Observed { time_us, died, left }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 0.000_6
    }

    /// Remission of leukaemia under 6-mercaptopurine, in weeks: Freireich et al., Blood 21 (1963) 699, the
    /// standard example of textbooks (Cox and Oakes; Kleinbaum and Klein).
    #[test]
    fn published_example() {
        let weeks = [
            at(6, 3, 1),
            at(7, 1, 0),
            at(9, 0, 1),
            at(10, 1, 1),
            at(11, 0, 1),
            at(13, 1, 0),
            at(16, 1, 0),
            at(17, 0, 1),
            at(19, 0, 1),
            at(20, 0, 1),
            at(22, 1, 0),
            at(23, 1, 0),
            at(25, 0, 1),
            at(32, 0, 2),
            at(34, 0, 1),
            at(35, 0, 1),
        ];
        let steps = kaplan_meier(&weeks);
        let times: Vec<_> = steps.iter().map(|it| (it.time_us, it.at_risk)).collect();
        assert_eq!(times, [(6, 21), (7, 17), (10, 15), (13, 12), (16, 11), (22, 7), (23, 6)]);
        let published = [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448];
        for (step, share) in steps.iter().zip(published) {
            assert!(close(step.survival, share), "{step:?}");
        }
        let [low, high] = steps[0].interval.unwrap();
        assert!(close(low, 0.620) && close(high, 0.952), "{low} {high}");
        let [low, high] = steps[6].interval.unwrap();
        assert!(close(low, 0.188) && close(high, 0.680), "{low} {high}");
    }

    #[test]
    fn computed_by_hand() {
        // Four leave at 1, of whom none died; then 1 of 3 dies, then the last one.
        let steps = kaplan_meier(&[at(1, 0, 4), at(2, 1, 1), at(3, 1, 0)]);
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[0].at_risk, steps[1].at_risk), (3, 1));
        assert!(close(steps[0].survival, 2.0 / 3.0));
        // Greenwood: 1 / (3 * 2); log(-log) spread exp(1.96 * 0.4082 / 0.4055) = 7.19.
        let [low, high] = steps[0].interval.unwrap();
        assert!(close(low, 0.054_1) && close(high, 0.945_2), "{low} {high}");
        assert_eq!((steps[1].survival, steps[1].interval), (0.0, None));
    }

    #[test]
    fn nobody_died() {
        assert_eq!(kaplan_meier(&[]), []);
        assert_eq!(kaplan_meier(&[at(1, 0, 5)]), []);
    }

    #[test]
    fn thinning_keeps_the_ends() {
        let all: Vec<_> = (1..=100).map(|n| at(n, 1, 0)).collect();
        let steps = kaplan_meier(&all);
        let few = thinned(&steps, 64);
        assert_eq!((few.len(), few[0], few[63]), (64, steps[0], steps[99]));
        assert!(few.windows(2).all(|pair| pair[0].time_us < pair[1].time_us));
        assert_eq!(thinned(&steps, 100), steps);
    }
}
