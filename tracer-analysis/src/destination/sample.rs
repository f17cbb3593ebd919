//! Connections for tests.

use std::net::IpAddr;

use proptest::prelude::*;

use crate::{
    connection::{Connection, EndCause, Family, Kind, SCHEMA, SeenFrom, TransactionsMethod},
    utc::Utc,
};

/// A clean connection to `dst` that was opened `start_us` after a fixed point and lived `lifetime_us`.
pub(crate) fn connection(dst: &str, start_us: i64, lifetime_us: u64) -> Connection {
    let dst: IpAddr = dst.parse().unwrap();
    Connection {
        kind: Kind::Connection,
        schema: SCHEMA,
        id: "0000000000000001".to_owned(),
        host: "mx1.example.net".to_owned(),
        start: Utc::from_micros(1_800_000_000_000_000 + start_us),
        seen_from: SeenFrom::Connect,
        family: if dst.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 },
        src: "192.0.2.200".parse().unwrap(),
        sport: Some(40_000),
        dst,
        dport: 25,
        dst_is_own: None,
        netns: None,
        netns_name: None,
        cgroup_path: None,
        container: None,
        unit: None,
        cgroup: None,
        pid: None,
        comm: None,
        uid: None,
        owners: None,
        connect_us: Some(20_000),
        connect_error: None,
        banner_us: Some(30_000),
        greeting_us: Some(31_000),
        banner_code: Some(220),
        banner_host: None,
        tls: None,
        ehlo_us: None,
        starttls_us: None,
        tls_handshake_us: None,
        auth_us: None,
        lifetime_us: Some(lifetime_us),
        end: None,
        end_began_us: None,
        bytes_sent: Some(1_000),
        bytes_received: Some(400),
        retransmits: Some(0),
        srtt_us: None,
        turns: Some(5),
        transactions: None,
        transactions_method: None,
        transactions_exact: false,
        replies: None,
        refusals: None,
        transaction_spans_us: None,
        transaction_spans_omitted: 0,
        envelope_us: None,
        body_us: None,
        final_reply_us: None,
        idle_gaps_us: None,
        idle_gaps_omitted: 0,
        idle_max_survived_us: None,
        end_cause: EndCause::LocalFin,
        end_during: None,
        end_quit: None,
        end_idle_us: None,
        end_unanswered_us: None,
        end_suspect: None,
        reset_ttl: None,
        reset_ack: None,
        fin_ttl: None,
        peer_ttl: None,
        keepalive: None,
        keepalive_idle_s: None,
    }
}

/// One that failed with `errno` after `lifetime_us`.
pub(crate) fn failed(dst: &str, start_us: i64, lifetime_us: u64, errno: &str) -> Connection {
    Connection {
        connect_us: None,
        connect_error: Some(errno.to_owned()),
        end_cause: EndCause::ConnectError,
        banner_us: None,
        greeting_us: None,
        banner_code: None,
        turns: None,
        ..connection(dst, start_us, lifetime_us)
    }
}

/// Any of a few servers of both families, with or without a name, ending in any way.
pub(crate) fn any_connection() -> impl Strategy<Value = Connection> {
    let server = (0..12_u8, prop::option::of(0..6_u8));
    let time = (0..600_000_000_i64, prop_oneof![Just(0), 0..400_000_000_u64]);
    let measures =
        (any::<u32>(), any::<u16>(), prop::collection::vec(100_000..9_000_000_u64, 0..4));
    (server, time, measures, 0..9_u8).prop_map(|((n, host), (start, life), measured, end)| {
        let dst = if n % 3 == 0 {
            format!("2001:db8:{}::1", n / 6)
        } else {
            format!("192.0.{}.{n}", n / 6)
        };
        let mut sample = match end {
            0 => failed(&dst, start, life, ["ECONNREFUSED", "ETIMEDOUT"][usize::from(n % 2)]),
            _ => connection(&dst, start, life),
        };
        let (connect_us, banner_us, gaps) = measured;
        sample.connect_us = sample.connect_us.map(|_| connect_us.into());
        sample.banner_us = sample.banner_us.map(|_| banner_us.into());
        sample.banner_host = host
            .filter(|_| end > 0)
            .map(|host| format!("mx{}.example{}.co.uk", host % 3, host % 2));
        sample.transaction_spans_us = Some(gaps.iter().map(|gap| [1, *gap]).collect());
        sample.final_reply_us = Some(gaps.clone());
        sample.idle_gaps_us = Some(gaps);
        sample.ehlo_us = sample.banner_us;
        sample.transactions = (n > 2).then_some(u32::from(end));
        sample.transactions_method = match n {
            0..=2 => None,
            3..=5 => Some(TransactionsMethod::TlsLengths),
            _ => Some(TransactionsMethod::Replies),
        };
        sample.transactions_exact = n > 8;
        sample.end_cause = match end {
            0 => EndCause::ConnectError,
            1 => EndCause::Open,
            2 => EndCause::RstReceived,
            3 => EndCause::Timeout,
            4 => EndCause::PeerFin,
            _ => EndCause::LocalFin,
        };
        if end == 8 {
            sample.seen_from = SeenFrom::Midlife;
            sample.connect_us = None;
            sample.lifetime_us = None;
        }
        sample
    })
}
