//! The mail log of Postfix.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};

use crate::served::Served;

/// One delivery as logged by smtp(8).
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Process that logged it.
    pub pid: u32,
    /// `relay=`, for example `10.71.2.2[10.71.2.2]:2525`.
    pub relay: String,
    /// `conn_use=`; missing on the first use of a connection.
    pub conn_use: Option<u32>,
    /// `delays=`: before the queue manager, in it, connection set-up, transmission; in seconds.
    pub delays: [f64; 4],
    /// `status=`, for example `sent`.
    pub status: String,
}

/// The deliveries in a log, in order.
pub(super) fn deliveries(log: &str) -> Result<Vec<Delivery>> {
    log.lines()
        .filter(|line| line.contains(" status="))
        .map(|line| delivery(line).with_context(|| format!("log line {line:?}")))
        .collect()
}

fn delivery(line: &str) -> Result<Delivery> {
    let pid = line.split_once('[').and_then(|(_, rest)| rest.split_once("]:"));
    let (pid, _) = pid.context("no process id")?;
    let field = |name: &str| {
        let start = line.find(&format!(" {name}="))? + name.len() + 2;
        line[start..].split([',', ' ']).next()
    };
    let delays = field("delays").context("no delays")?;
    let delays: Vec<f64> = delays.split('/').map(str::parse).collect::<Result<_, _>>()?;
    Ok(Delivery {
        pid: pid.parse()?,
        relay: field("relay").context("no relay")?.to_owned(),
        conn_use: field("conn_use").map(str::parse).transpose()?,
        delays: delays.try_into().ok().context("delays has not four parts")?,
        status: field("status").context("no status")?.to_owned(),
    })
}

/// What smtpd(8) counted on each connection that has ended, in the order of the ends.
pub(super) fn served(log: &str) -> Result<Vec<Served>> {
    log.lines()
        .filter_map(|line| line.split_once(": disconnect from "))
        .map(|(_, rest)| disconnect(rest).with_context(|| format!("log line {rest:?}")))
        .collect()
}

/// Reads `name[address]:port ehlo=1 mail=2/3 ... commands=9`; `2/3` are two accepted of three.
fn disconnect(text: &str) -> Result<Served> {
    let mut words = text.split_ascii_whitespace();
    let client = words.next().context("no client")?;
    let (_, client) = client.split_once('[').context("no address")?;
    let (address, port) = client.split_once("]:").context("no port: smtpd_client_port_logging?")?;
    let (mut mail, mut bodies) = (0, 0);
    for word in words {
        let (command, count) = word.split_once('=').context("no count")?;
        if ["mail", "data", "bdat"].contains(&command) {
            ensure!(!count.contains('/'), "some were refused");
            let count: u32 = count.parse()?;
            *if command == "mail" { &mut mail } else { &mut bodies } += count;
        }
    }
    ensure!(bodies == mail, "{bodies} bodies for {mail} envelopes");
    Ok(Served { client: SocketAddr::new(address.parse()?, port.parse()?), messages: mail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_deliveries_and_nothing_else() {
        let log = "Nov 22 03:00:00 mx sender/smtpd[11]: connect from unknown[127.0.0.1]\n\
            Nov 22 03:00:01 mx sender/smtp[12]: 4AB: to=<b@sink.test>, \
            relay=10.71.2.2[10.71.2.2]:2525, delay=0.05, delays=0.01/0/0.02/0, dsn=2.0.0, \
            status=sent (250 2.0.0 Ok)\n\
            Nov 22 03:00:01 mx sender/smtp[13]: 4AC: to=<b@sink.test>, \
            relay=10.71.2.2[10.71.2.2]:2525, conn_use=2, delay=20, delays=0/0/20/0, dsn=4.4.2, \
            status=deferred (lost connection)\n";
        let [first, second] = deliveries(log).unwrap().try_into().unwrap();
        assert_eq!((first.pid, first.conn_use, first.status.as_str()), (12, None, "sent"));
        assert_eq!(first.relay, "10.71.2.2[10.71.2.2]:2525");
        assert_eq!((second.conn_use, second.status.as_str()), (Some(2), "deferred"));
        assert!((second.delays[2] - 20.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_line_it_cannot_read_is_an_error() {
        assert!(deliveries("x sender/smtp[12]: 4AB: status=sent").is_err());
    }

    #[test]
    fn reads_what_a_connection_carried() {
        let log = "Nov 22 03:00:00 mx receiver/smtpd[11]: connect from unknown[10.71.1.2]:40002\n\
            Nov 22 03:00:01 mx receiver/smtpd[11]: disconnect from unknown[10.71.1.2]:40002 ehlo=2 \
            starttls=1 mail=3 rcpt=3 bdat=1 data=2 rset=2 commands=14\n\
            Nov 22 03:00:02 mx receiver/smtpd[12]: disconnect from unknown[fd71:1::2]:9 ehlo=1 \
            quit=1 commands=2\n";
        let [first, second] = served(log).unwrap().try_into().unwrap();
        assert_eq!(first, Served { client: "10.71.1.2:40002".parse().unwrap(), messages: 3 });
        assert_eq!(second, Served { client: "[fd71:1::2]:9".parse().unwrap(), messages: 0 });
        for odd in ["mail=2/3 data=2", "mail=2 data=1"] {
            let line = format!("x smtpd[1]: disconnect from unknown[10.71.1.2]:40002 {odd}");
            assert!(served(&line).is_err(), "{odd}");
        }
    }
}
