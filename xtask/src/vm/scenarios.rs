//! Which end-to-end tests run in the virtual machines.
//!
//! They need no program that is not unpacked there (`userland`), no real mail server and no Python. To add one, add a line.

/// A module of end-to-end tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    /// Its name: the file in `tests/e2e`.
    pub(crate) module: &'static str,
    /// The tests that are left out: words in their names, each with the reason.
    pub(super) without: &'static [(&'static str, &'static str)],
    /// Left out of `cargo xtask vm --quick`.
    pub(crate) is_slow: bool,
}

const fn all_of(module: &'static str) -> Scenario {
    Scenario { module, without: &[], is_slow: false }
}

const fn slow(module: &'static str) -> Scenario {
    Scenario { module, without: &[], is_slow: true }
}

/// In the order in which they run.
pub(super) const SCENARIOS: &[Scenario] = &[
    all_of("families"),
    all_of("tiers"),
    slow("failures"),
    all_of("counters"),
    Scenario {
        module: "endings",
        without: &[("server_is_killed", "there is no Postfix in the machine")],
        is_slow: true,
    },
    all_of("owners"),
    all_of("machine_faults"),
    slow("quota"),
    slow("midlife"),
    slow("btf_file"),
    slow("privilege"),
    slow("greeting"),
    slow("filters"),
    Scenario {
        module: "phases",
        without: &[("postfix", "there is no Postfix in the machine")],
        is_slow: true,
    },
    slow("concurrency"),
    slow("interrupt"),
    slow("silences"),
    slow("skipped_runs"),
    slow("failed_connects"),
    slow("half_close"),
    slow("fast_open"),
    slow("forged_segments"),
    slow("mptcp"),
];
