//! Advice in the words of each mail server.
//!
//! Looked up in: postconf(5) of Postfix 3.7; Exim specification of December 2025 (chapters 14, 15, 17, 24, 30);
//! `parse.y`, `limit.c` and `mta.c` of `OpenSMTPD` 7.8 (smtpd.conf(5) does not mention `mta limit`);
//! Sendmail 8.17, Installation and Operation Guide and `cfhead.m4`; docs.kumomta.com,
//! `make_egress_path`, and the defaults of its `SmtpClientTimeouts`.

use super::Verdict;
use crate::{destination::Group, mta::Mta};

/// Adds what to set in each mail server that connected there; `otherwise` if none of them is known.
pub(super) fn advise(
    verdict: Verdict,
    group: &Group,
    otherwise: &str,
    setting: impl Fn(Mta) -> String,
) -> Verdict {
    let mtas = &group.all.mtas;
    if mtas.is_empty() {
        return verdict.advise(None, otherwise);
    }
    mtas.keys().fold(verdict, |verdict, &mta| verdict.advise(Some(mta), setting(mta)))
}

/// At most `limit` connections at a time.
pub(super) fn fewer_at_a_time(mta: Mta, limit: u32) -> String {
    match mta {
        Mta::Postfix => format!(
            "give it a transport of its own (master.cf: a copy of smtp named NAME, and transport_maps) \
             with NAME_destination_concurrency_limit = {limit}; for all destinations at once: \
             smtp_destination_concurrency_limit. Postfix counts per domain: domains that share the \
             server add up."
        ),
        Mta::Exim => format!(
            "max_parallel = {limit} on an smtp transport of its own (Exim 4.87); serialize_hosts allows \
             one connection at a time. remote_max_parallel is per message and does not help."
        ),
        Mta::Opensmtpd => format!("mta limit max-conn-per-host {limit}"),
        Mta::Sendmail => "no setting limits connections per host to a number; \
             confSINGLE_THREAD_DELIVERY with confHOST_STATUS_DIRECTORY allows one at a time."
            .to_owned(),
        Mta::Kumomta => format!("connection_limit = {limit} for this site (shaping.toml)"),
    }
}

/// At most `limit` new connections a minute.
pub(super) fn fewer_per_minute(mta: Mta, limit: u32) -> String {
    let apart_s = 60_u32.div_ceil(limit.max(1));
    match mta {
        Mta::Postfix => format!(
            "smtp_connection_cache_destinations = DOMAIN lets connections carry more; if that is not \
             enough, a transport of its own with NAME_destination_rate_delay = {apart_s}s"
        ),
        Mta::Exim => "no setting limits connections per minute. Let messages share connections: \
             queue_smtp_domains for it and two-stage queue runs (exim -qq)."
            .to_owned(),
        Mta::Opensmtpd => format!("mta limit conn-delay-host {apart_s}"),
        Mta::Sendmail => {
            "no setting limits outgoing connections per minute. Deliver in queue runs, in \
             which the connection cache (ConnectionCacheSize) works."
                .to_owned()
        }
        Mta::Kumomta => {
            format!("max_connection_rate = \"{limit}/min\" for this site (shaping.toml)")
        }
    }
}

/// At most `limit` messages on a connection.
pub(super) fn fewer_messages(mta: Mta, limit: u32) -> String {
    match mta {
        // A reuse count of N lets a connection carry N + 1; 0 is no limit.
        Mta::Postfix if limit < 2 => {
            "smtp_connection_cache_on_demand = no and no smtp_connection_cache_destinations"
                .to_owned()
        }
        Mta::Postfix => format!(
            "a transport of its own with -o smtp_connection_reuse_count_limit={} in master.cf (the \
             first message does not count). If the destination has several servers, the slowest \
             then gets the most connections.",
            limit - 1
        ),
        Mta::Exim => format!("connection_max_messages = {limit} on an smtp transport of its own"),
        Mta::Opensmtpd => format!("mta limit session-mail-max {limit}"),
        Mta::Sendmail => "no setting; it opens a new connection by itself.".to_owned(),
        Mta::Kumomta => format!("max_deliveries_per_connection = {limit} for this site"),
    }
}

/// Sessions that are closed before they are `seconds` old.
pub(super) fn younger_sessions(mta: Mta, seconds: u64) -> String {
    match mta {
        Mta::Postfix => format!(
            "smtp_connection_reuse_time_limit below {}s (300s by default) closes them with QUIT before \
             the server does",
            seconds.max(1)
        ),
        Mta::Exim | Mta::Opensmtpd | Mta::Sendmail | Mta::Kumomta => {
            "no setting limits the age of a session; it opens a new connection by itself."
                .to_owned()
        }
    }
}

/// Connections kept and used again.
pub(super) fn use_again(mta: Mta, encrypted: bool) -> String {
    match mta {
        Mta::Postfix => {
            let tls = if encrypted {
                "smtp_tls_connection_reuse = yes (without it no TLS session is used again), and "
            } else {
                ""
            };
            format!(
                "{tls}smtp_connection_cache_destinations = DOMAIN (on demand alone misses most of a \
                 trickle); smtp_connection_cache_time_limit and connection_cache_ttl_limit = 10s, both"
            )
        }
        Mta::Exim => {
            "it keeps no idle connection: it hands one on only if another message for the host \
             waits in the queue. queue_smtp_domains for it and two-stage queue runs (exim -qq) \
             gather them; connection_max_messages (500) bounds them."
                .to_owned()
        }
        Mta::Opensmtpd => {
            "mta limit session-keepalive 10 is the default, for the last connection to a \
             host only; fewer at a time (max-conn-per-host) carry more each."
                .to_owned()
        }
        Mta::Sendmail => {
            "ConnectionCacheSize (2) and ConnectionCacheTimeout (5m) work within one queue \
             run: deliver in queue runs rather than one by one."
                .to_owned()
        }
        Mta::Kumomta => {
            "idle_timeout (60s) and max_deliveries_per_connection for this site; a lower \
             connection_limit makes each carry more."
                .to_owned()
        }
    }
}

/// What bounds the wait for a greeting.
pub(super) const fn wait_for_greeting(mta: Mta) -> &'static str {
    match mta {
        Mta::Postfix => "smtp_helo_timeout (300s) must stay above it",
        Mta::Exim => "command_timeout (5m) of the smtp transport must stay above it",
        Mta::Opensmtpd => "no setting: it waits 5 minutes for a greeting",
        Mta::Sendmail => "confTO_INITIAL (Timeout.initial, 5m) must stay above it",
        Mta::Kumomta => "banner_timeout (60s) for this site must stay above it",
    }
}

/// What makes a handshake shorter, or bounds it.
pub(super) const fn handshake(mta: Mta) -> &'static str {
    match mta {
        Mta::Postfix => {
            "smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache resumes TLS sessions, \
             with a shorter handshake; smtp_starttls_timeout (300s) must stay above it"
        }
        Mta::Exim => {
            "tls_resumption_hosts on the smtp transport resumes TLS sessions, with a shorter handshake"
        }
        Mta::Opensmtpd => "no setting makes the handshake shorter",
        Mta::Sendmail => "confTO_STARTTLS (Timeout.starttls, 1h) must stay above it",
        Mta::Kumomta => "starttls_timeout (5s) for this site must stay above it",
    }
}

/// What bounds the wait for an answer on a session that idled.
pub(super) const fn wait_on_reuse(mta: Mta) -> &'static str {
    match mta {
        Mta::Postfix => {
            "it tries a kept session with RSET first; smtp_rset_timeout (20s) is what a dead one costs"
        }
        Mta::Exim => "command_timeout (5m) of the smtp transport is what a dead session costs",
        Mta::Opensmtpd => {
            "it waits 5 minutes for an answer, without a setting; mta limit session-keepalive (10) \
             says for how many seconds it keeps an idle session"
        }
        Mta::Sendmail => {
            "it tries a kept session with RSET first; confTO_RSET (Timeout.rset, 5m) is what a dead \
             one costs"
        }
        Mta::Kumomta => {
            "it tries a kept session with RSET first; rset_timeout (5s) for this site is what a dead \
             one costs"
        }
    }
}

/// Why connections carry no message, and where to look.
pub(super) const fn without_message(mta: Mta) -> &'static str {
    match mta {
        Mta::Postfix => {
            "relay_recipient_maps, or reject_unverified_recipient, refuses unknown recipients before \
             they are queued. The probes of the latter carry no message either; how long a result is \
             kept say address_verify_positive_expire_time (31d) and address_verify_negative_expire_time \
             (3d)"
        }
        Mta::Exim => {
            "callouts (verify = recipient/callout) carry no message; how long a result is kept say \
             callout_positive_expire (24h) and callout_negative_expire (2h)"
        }
        Mta::Opensmtpd => {
            "no setting; lines of its log with result=TempFail or result=PermFail have the reply"
        }
        Mta::Sendmail => "no setting; lines of its log with stat=Deferred or dsn=5 have the reply",
        Mta::Kumomta => "no setting; its log records TransientFailure and Bounce have the reply",
    }
}

/// IPv4 first, where IPv6 is the worse of the two.
pub(super) fn avoid_ipv6(mta: Mta) -> String {
    match mta {
        Mta::Postfix => {
            "smtp_address_preference = ipv4 tries IPv4 first and keeps IPv6 as second choice \
             (leave smtp_balance_inet_protocols = yes)"
                .to_owned()
        }
        Mta::Exim => "a dnslookup router of its own with ipv4_prefer = yes tries IPv4 first (Exim \
                      4.91)"
            .to_owned(),
        Mta::Opensmtpd => "mta limit for domain DOMAIN inet4 uses IPv4 only".to_owned(),
        Mta::Sendmail => {
            "no setting prefers IPv4 for one destination: mend IPv6, or name its IPv4 \
             address in mailertable."
                .to_owned()
        }
        Mta::Kumomta => {
            "ip_lookup_strategy = \"Ipv4ThenIpv6\" for this site (KumoMTA 2026.04.09): \
                         IPv6 only for servers without IPv4"
                .to_owned()
        }
    }
}

/// IPv6 first, where IPv4 is the worse of the two.
pub(super) fn avoid_ipv4(mta: Mta) -> String {
    match mta {
        Mta::Postfix => {
            "smtp_address_preference = ipv6; postconf(5) calls it unsafe: mail can fail \
                         while IPv6 is out"
                .to_owned()
        }
        Mta::Opensmtpd => "mta limit for domain DOMAIN inet6 uses IPv6 only".to_owned(),
        Mta::Kumomta => {
            "ip_lookup_strategy = \"Ipv6ThenIpv4\" for this site (KumoMTA 2026.04.09): \
                         IPv4 only for servers without IPv6"
                .to_owned()
        }
        Mta::Exim => "it tries IPv6 first where there is any, unless ipv4_prefer, ipv4_only, \
                      dns_ipv4_lookup or disable_ipv6 says otherwise."
            .to_owned(),
        Mta::Sendmail => {
            "no setting prefers IPv6 for one destination: mend IPv4, or name its IPv6 \
                          address in mailertable."
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// postconf(5): with a reuse count limit of N, a connection is used up to N + 1 times; 0 is no limit.
    #[test]
    fn the_first_message_is_no_reuse() {
        assert!(fewer_messages(Mta::Postfix, 2).contains("reuse_count_limit=1 "));
        assert!(!fewer_messages(Mta::Postfix, 1).contains("reuse_count_limit"));
    }
}
