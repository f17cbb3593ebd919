//! The lab of smtptrace: network namespaces, mail servers, scripted sessions and captures.
//!
//! Every end-to-end test builds a [`lab::Lab`] of its own: client, router and server namespaces that
//! nobody else uses. Traffic is made there and nowhere else, and each test takes its ground truth at
//! the same time as smtptrace records: a packet capture, the log of the mail server, or the kernel's
//! own counters. What smtptrace writes is read as plain JSON, so that a break of the recording
//! schema fails a test instead of being hidden by shared types.

pub mod attempt;
pub mod browser;
pub mod capture;
pub mod certificate;
pub mod cgroup;
pub mod churn;
pub mod comparison;
pub mod deaths;
pub mod dialogue;
pub mod exim;
pub mod flow;
pub mod handover;
pub mod hidden_btf;
pub mod idling;
pub mod journal;
pub mod kernel;
pub mod lab;
pub mod limited;
pub mod load;
pub mod middlebox;
pub mod name_server;
pub mod namespace;
pub mod opensmtpd;
pub mod pace;
pub mod packages;
pub mod postfix;
pub mod prerequisite;
pub mod private_root;
pub mod privileges;
pub mod python;
pub mod recording;
pub mod report;
pub mod scrape;
pub mod served;
pub mod server;
pub mod session;
pub mod shipped;
pub mod single;
pub mod sink;
pub mod socket_statistics;
pub mod sockmap;
pub mod terminal;
pub mod tiers;
pub mod tls_client;
pub mod tracer;
pub mod wait;
