//! What to set where idle sessions die.
//!
//! Settings and defaults: postconf(5) of Postfix 3.7; Exim specification, chapter 30; `limit.c` and
//! `parse.y` of `OpenSMTPD` 7.0 (smtpd.conf(5) does not mention the key); Sendmail `cf/README`
//! (`confMCI_CACHE_TIMEOUT`); docs.kumomta.com, `make_egress_path`.

use crate::{
    destination::{Aggregate, Keepalive},
    mta::Mta,
    verdict::Verdict,
};

/// Adds how to close idle sessions after at most `longest_us` in the mail servers that connected.
pub(super) fn close_earlier(verdict: Verdict, of: &Aggregate, longest_us: Option<u64>) -> Verdict {
    let keep_s = longest_us.map(|us| us / 1_000_000).filter(|&seconds| seconds > 0);
    let bound = keep_s.unwrap_or(0);
    if of.mtas.is_empty() {
        let text = match keep_s {
            Some(s) => format!("Keep idle connections for {s} s at most."),
            None => "Keep no idle connections.".to_owned(),
        };
        return verdict.advise_bound(None, text, bound);
    }
    let mtas = of.mtas.keys();
    mtas.fold(verdict, |it, &mta| it.advise_bound(Some(mta), setting(mta, keep_s), bound))
}

/// The setting that closes idle sessions after `keep_s`, or at once.
fn setting(mta: Mta, keep_s: Option<u64>) -> String {
    match (mta, keep_s) {
        (Mta::Postfix, Some(s)) => format!(
            "in main.cf, smtp_connection_cache_time_limit and connection_cache_ttl_limit (both \
             2s by default, the lower one counts) at most {s}s."
        ),
        (Mta::Postfix, None) => "in main.cf, smtp_connection_cache_on_demand = no and no \
             smtp_connection_cache_destinations."
            .to_owned(),
        (Mta::Exim, _) => "it keeps no idle connections; where it waits between messages of \
                           one, connection_max_messages = 1 in the smtp transport gives each \
                           message its own."
            .to_owned(),
        (Mta::Opensmtpd, s) => format!(
            "in smtpd.conf, mta limit session-keepalive {} (10 by default; for one domain: mta \
             limit for domain NAME ...).",
            s.unwrap_or(0)
        ),
        (Mta::Sendmail, s) => format!(
            "in sendmail.mc, define(`confMCI_CACHE_TIMEOUT', `{}s') (ConnectionCacheTimeout, 5m \
             by default).",
            s.unwrap_or(0)
        ),
        (Mta::Kumomta, s) => format!(
            "in make_egress_path, idle_timeout = {} (60 s by default).",
            s.map_or_else(|| "'1s'".to_owned(), |s| format!("'{s}s'"))
        ),
    }
}

/// Adds how to keep idle sessions alive with probes every `alive_us` or more often, if the connections
/// have keepalive on.
pub(super) fn probe_earlier(
    verdict: Verdict,
    keepalive: &Keepalive,
    alive_us: Option<u64>,
) -> Verdict {
    match alive_us.map(|us| us / 1_000_000) {
        Some(s @ 1..) if keepalive.on > 0 => verdict.advise_bound(
            None,
            format!(
                "To keep them alive: sysctl net.ipv4.tcp_keepalive_time={s} (of the whole host, \
                 IPv6 too; 7200 by default)."
            ),
            s,
        ),
        _ => verdict,
    }
}
