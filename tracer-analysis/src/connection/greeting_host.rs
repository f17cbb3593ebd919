//! The host that a greeting names.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::smtp::{EnhancedCode, Reply};

/// The host name of a greeting (RFC 5321 section 4.2: the domain comes first). A teaser line, as
/// postscreen sends it, may say anything, so the last line is asked before the first. A refusal may begin
/// with an enhanced status code, and then with a sentence: its word must look like a domain.
pub(super) fn greeting_host(reply: &Reply) -> Option<String> {
    let [last, first] = [&reply.last, &reply.first].map(|text| host_name(text));
    let is_domain = |host: &String| host.contains('.') || host.starts_with('[');
    match last {
        Some(host) if is_domain(&host) => Some(host),
        last if reply.code == 220 => first.filter(is_domain).or(last),
        _ => first.filter(is_domain),
    }
}

/// The first word of `text` that is no enhanced status code, if it could be a host name.
fn host_name(text: &[u8]) -> Option<String> {
    let mut words = text.split(|byte| matches!(byte, b' ' | b'\t')).filter(|it| !it.is_empty());
    let word = words.find(|word| EnhancedCode::parse(word).is_none())?;
    if let Some(literal) = address_literal(word) {
        return Some(literal);
    }
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let starts_well = word.first().is_some_and(u8::is_ascii_alphanumeric);
    if !starts_well || word.len() > 255 || !word.iter().all(allowed) {
        return None;
    }
    let host = String::from_utf8_lossy(word).to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let top = host.rsplit('.').next().unwrap_or_default();
    (!top.bytes().all(|byte| byte.is_ascii_digit())).then(|| host.to_owned())
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3).
fn address_literal(word: &[u8]) -> Option<String> {
    let inner = std::str::from_utf8(word).ok()?.strip_prefix('[')?.strip_suffix(']')?;
    let is_ipv6 = inner.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    if is_ipv6 {
        let address = inner.get(5..)?.parse::<Ipv6Addr>().ok()?;
        return Some(format!("[ipv6:{address}]"));
    }
    inner.parse::<Ipv4Addr>().ok().map(|address| format!("[{address}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_literal_stands_for_a_host() {
        let host = |text: &str| host_name(text.as_bytes());
        assert_eq!(host("[192.0.2.1] ESMTP").as_deref(), Some("[192.0.2.1]"));
        assert_eq!(host("[IPv6:2001:DB8::1] hi").as_deref(), Some("[ipv6:2001:db8::1]"));
        for no in ["[mx.example]", "[1.2.3.4", "[IPv6:x]", "[]", "[IPv6:192.0.2.1]"] {
            assert_eq!(host(no), None, "{no:?}");
        }
    }
}
