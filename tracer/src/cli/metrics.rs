//! Arguments about metrics.

use std::net::SocketAddr;

use clap::Args;

use super::Format;
use crate::sink::openmetrics::Dialect;

/// Where metrics go while tracing.
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Serve metrics for Prometheus here, at /metrics, for example 127.0.0.1:9725;
    /// there is neither TLS nor a password
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Send metrics to this OpenTelemetry receiver (OTLP over HTTP) each
    /// --interval, for example <http://127.0.0.1:4318>
    #[arg(long, value_name = "URL", value_parser = receiver)]
    pub(crate) otlp: Option<String>,
}

impl Format {
    /// The form of the metrics, if they are asked for.
    pub(crate) fn dialect(self) -> Option<Dialect> {
        match self {
            Self::Openmetrics => Some(Dialect::OpenMetrics),
            Self::Prometheus => Some(Dialect::Prometheus),
            _ => None,
        }
    }
}

/// The URL of an OTLP receiver, with the path of metrics if it has none.
fn receiver(text: &str) -> Result<String, String> {
    if text.starts_with("https://") {
        return Err("TLS is not built in; send to a collector on this host or network, which can \
                    pass it on over TLS"
            .into());
    }
    let Some(rest) = text.strip_prefix("http://") else {
        return Err("write a URL like http://127.0.0.1:4318".into());
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#');
    if authority.is_empty() || authority.starts_with(':') || !rest.chars().all(plain) {
        return Err("write a URL like http://127.0.0.1:4318, of a host and a port".into());
    }
    let path = if path.is_empty() { "v1/metrics" } else { path };
    Ok(format!("http://{authority}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers() {
        let full = "http://127.0.0.1:4318/v1/metrics";
        for text in ["http://127.0.0.1:4318", "http://127.0.0.1:4318/", full] {
            assert_eq!(receiver(text).as_deref(), Ok(full));
        }
        assert_eq!(receiver("http://[::1]:1/a/b").as_deref(), Ok("http://[::1]:1/a/b"));
        for wrong in
            ["", "127.0.0.1:4318", "https://x", "http://", "http://:1", "http://a b", "http:///x"]
        {
            assert!(receiver(wrong).is_err(), "{wrong}");
        }
    }
}
