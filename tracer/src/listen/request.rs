//! Requests to the metrics endpoint, and the heads of its answers (RFC 9112).

use std::{fmt::Write as _, net::IpAddr};

use crate::sink::openmetrics::Dialect;

/// Status of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    Misdirected,
    TooLarge,
    Unavailable,
}

impl Status {
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Misdirected => 421,
            Self::TooLarge => 431,
            Self::Unavailable => 503,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::BadRequest => "Bad Request",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::Misdirected => "Misdirected Request",
            Self::TooLarge => "Request Header Fields Too Large",
            Self::Unavailable => "Service Unavailable",
        }
    }

    /// The answer to a person.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Ok => "",
            Self::BadRequest => "This is not an HTTP/1 request.\n",
            Self::NotFound => "The metrics are at /metrics.\n",
            Self::MethodNotAllowed => "Metrics can be asked for with GET and HEAD.\n",
            Self::Misdirected => {
                "The request calls this server by another name than localhost or an address of loopback.\n\
                 It is refused, because anybody can have a name point here. A proxy sets Host to the\n\
                 address that it asks.\n"
            }
            Self::TooLarge => "The request is longer than 8 kB.\n",
            Self::Unavailable => "The metrics could not be made in time; try again.\n",
        }
    }
}

/// Whose names a server goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Any: others reach it anyway.
    Any,
    /// Those of loopback. A page from elsewhere, whose name was made to point here, has another one in `Host`,
    /// and its script cannot read the answer.
    Loopback,
}

impl Hosts {
    /// Whether `host`, the value of a header `Host`, is one of them.
    fn has(self, host: &str) -> bool {
        let host = host.trim();
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((literal, "")) => literal,
            Some((literal, port)) if port.starts_with(':') => literal,
            _ => host.split_once(':').map_or(host, |(name, _)| name),
        };
        self == Self::Any
            || name.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
            || name.trim_end_matches('.').eq_ignore_ascii_case("localhost")
    }
}

/// A request for metrics.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Whether only the head of the answer is wanted.
    pub(crate) head_only: bool,
    /// The form that the client likes best.
    pub(crate) dialect: Dialect,
}

/// Whether `head` ends with the empty line, or can be answered without.
pub(super) fn is_complete(head: &[u8]) -> bool {
    end(head).is_some()
}

fn end(head: &[u8]) -> Option<usize> {
    let crlf = head.windows(4).position(|it| it == b"\r\n\r\n");
    crlf.or_else(|| head.windows(2).position(|it| it == b"\n\n"))
}

impl Request {
    /// Reads the head of a request to a server that goes by `hosts`. HTTP/1.1 wants a `Host`; a browser
    /// always sends one.
    pub(crate) fn parse(head: &[u8], hosts: Hosts) -> Result<Self, Status> {
        let end = end(head).ok_or(Status::TooLarge)?;
        let text = std::str::from_utf8(&head[..end]).map_err(|_| Status::BadRequest)?;
        let mut lines = text.lines();
        let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [method, target, "HTTP/1.1" | "HTTP/1.0"] = words[..] else {
            return Err(Status::BadRequest);
        };
        let (mut accept, mut host) = (String::new(), None);
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(Status::BadRequest)?;
            if name.eq_ignore_ascii_case("accept") {
                let _ = write!(accept, "{value},");
            }
            if name.eq_ignore_ascii_case("host") && host.replace(value).is_some() {
                return Err(Status::BadRequest);
            }
        }
        if !host.is_none_or(|host| hosts.has(host)) {
            return Err(Status::Misdirected);
        }
        if !matches!(method, "GET" | "HEAD") {
            return Err(Status::MethodNotAllowed);
        }
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        if path != "/metrics" {
            return Err(Status::NotFound);
        }
        Ok(Self { head_only: method == "HEAD", dialect: preferred(&accept) })
    }
}

/// The form that `accept` prefers; that of Prometheus for those who know neither.
fn preferred(accept: &str) -> Dialect {
    let (mut openmetrics, mut prometheus) = (0.0, 0.0_f32);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1.0_f32, None);
        for part in parts {
            match part.split_once('=') {
                Some(("q", value)) => quality = value.trim().parse().unwrap_or(0.0),
                Some(("version", value)) => version = Some(value.trim_matches('"')),
                _ => {}
            }
        }
        match (media.as_str(), version) {
            ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => {
                openmetrics = quality.max(openmetrics);
            }
            ("text/plain", None | Some("0.0.4")) => prometheus = quality.max(prometheus),
            _ => {}
        }
    }
    if openmetrics > 0.0 && openmetrics >= prometheus {
        Dialect::OpenMetrics
    } else {
        Dialect::Prometheus
    }
}

/// The head of an answer with `length` bytes of body.
pub(super) fn header(status: Status, dialect: Dialect, length: usize) -> String {
    let media_type = match status {
        Status::Ok => dialect.media_type(),
        _ => "text/plain; charset=utf-8",
    };
    let allow = if status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
    let (code, reason) = (status.code(), status.reason());
    format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\
         Vary: Accept\r\n{allow}Connection: close\r\n\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<Request, Status> {
        Request::parse(head.as_bytes(), Hosts::Any)
    }

    #[test]
    fn requests() {
        let plain = Request { head_only: false, dialect: Dialect::Prometheus };
        assert_eq!(parse("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(plain));
        let head = parse("HEAD /metrics?x=y HTTP/1.0\n\n").unwrap();
        assert!(head.head_only);
        assert_eq!(parse("POST /metrics HTTP/1.1\r\n\r\nbody"), Err(Status::MethodNotAllowed));
        assert_eq!(parse("GET / HTTP/1.1\r\n\r\n"), Err(Status::NotFound));
        for wrong in ["\r\n\r\n", "GET /metrics\r\n\r\n", "GET  /metrics HTTP/1.1\r\n\r\n"] {
            assert_eq!(parse(wrong), Err(Status::BadRequest), "{wrong:?}");
        }
        assert_eq!(parse("PRI * HTTP/2.0\r\n\r\n"), Err(Status::BadRequest));
        assert_eq!(parse("GET /metrics HTTP/1.1\r\nno colon\r\n\r\n"), Err(Status::BadRequest));
        assert_eq!(Request::parse(b"\xff\xfe\r\n\r\n", Hosts::Any), Err(Status::BadRequest));
        assert_eq!(parse("GET /metrics HTTP/1.1\r\n"), Err(Status::TooLarge));
    }

    #[test]
    fn a_name_that_others_may_have_pointed_here_is_refused() {
        let parse = |host: &str, hosts| {
            Request::parse(format!("GET /metrics HTTP/1.1\r\n{host}\r\n\r\n").as_bytes(), hosts)
        };
        for own in [
            "Host: localhost",
            "Host: LOCALHOST.:9725",
            "host:127.0.0.1:9725",
            "Host: 127.1.2.3",
            "Host: [::1]:9725",
            "Host: [::ffff:127.0.0.1]",
            "Accept: */*",
        ] {
            assert!(parse(own, Hosts::Loopback).is_ok(), "{own}");
        }
        for other in [
            "Host: rebound.example:9725",
            "Host: localhost.rebound.example",
            "Host: 127.0.0.1.rebound.example",
            "Host: [::1].rebound.example",
            "Host: 192.0.2.1",
            "Host: [2001:db8::1]:9725",
            "Host: ",
            "Host: [::1",
            "Host: x@localhost",
        ] {
            assert_eq!(parse(other, Hosts::Loopback), Err(Status::Misdirected), "{other}");
            assert!(parse(other, Hosts::Any).is_ok(), "{other}");
        }
        let two = "Host: localhost\r\nHost: rebound.example";
        assert_eq!(parse(two, Hosts::Loopback), Err(Status::BadRequest));
    }

    #[test]
    fn the_form_that_the_client_likes_best() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                            application/openmetrics-text;version=0.0.1;q=0.4,\
                            text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(preferred(prometheus_3), Dialect::OpenMetrics);
        assert_eq!(preferred("application/openmetrics-text; version=1.0.0"), Dialect::OpenMetrics);
        for plain in [
            "",
            "*/*",
            "text/html",
            "text/plain;version=0.0.4",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.1,text/plain;q=0.2",
            "application/openmetrics-text;version=2.0.0",
            ";;;=,q=,",
        ] {
            assert_eq!(preferred(plain), Dialect::Prometheus, "{plain}");
        }
    }
}
