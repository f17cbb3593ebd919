//! The end-to-end tests: a module per question, linked once. `cargo xtask e2e [FILTER]` runs them, side by side.
//!
//! Which of them run alone says `.config/nextest.toml`; which run on other kernels, `xtask/src/vm/scenarios.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod after_quit;
mod btf_file;
mod check;
mod cli;
mod compare;
mod concurrency;
mod counters;
mod demo;
mod dialogues;
mod documents;
mod endings;
mod exim;
mod exports;
mod failed_connects;
mod failures;
mod families;
mod fast_open;
mod filters;
mod forged_segments;
mod greeting;
mod half_close;
mod healthy_host;
mod hostile;
mod html_report;
mod icmp_refusals;
mod idle_limit;
mod installing;
mod interrupt;
mod intervals;
mod lab;
mod live_view;
mod load;
mod metrics;
mod metrics_documented;
mod middleboxes;
mod midlife;
mod mptcp;
mod names;
mod one_cause;
mod opensmtpd;
mod origins;
mod otlp;
mod own_side;
mod owners;
mod phases;
mod postfix_behind_boxes;
mod postfix_to_postfix;
mod postfix_to_sink;
mod privilege;
mod refusal_reasons;
mod report;
mod rotation;
mod session_age;
mod silences;
mod skipped_runs;
mod softirq_readers;
mod throttling;
mod tiers;
mod tls_probes;
mod waiting;
mod what_if;
