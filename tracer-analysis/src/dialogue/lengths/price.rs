//! What it costs, in bits, to believe that a turn was a certain command.
//!
//! A price is the rounded binary logarithm of how rarely such a length is met. The numbers are plain
//! estimates; `docs/inference.md` tells how sessions with known counts were read with them.

/// Bits.
pub(super) type Bits = u32;

/// Something refused: a sender, a recipient, a whole envelope.
pub(super) const REFUSED: Bits = 5;
/// Another way to hand over a message than before in the same session.
pub(super) const STYLE_CHANGE: Bits = 9;

/// A server may add spaces and identifiers of varying length to what is otherwise the same reply.
const NEARLY: u32 = 4;
/// Shortest reply: a code, a space and line end.
pub(super) const SHORTEST_REPLY: u32 = 6;
/// Replies that refuse explain themselves; a shorter one is rare.
const USUAL_REFUSAL: u32 = 20;
/// Another length than last time.
pub(super) const NEW_LENGTH: Bits = 7;
/// A single reply is rarely longer.
const LONG_REPLY: u32 = 200;

/// Replies of `server` plaintext bytes, at least `replies` of them, where the same was last answered
/// with `last` bytes (0: not yet). `None`: impossible.
pub(super) fn accepted(server: u32, replies: u32, last: u32, overhead: u32) -> Option<Bits> {
    if server < replies * SHORTEST_REPLY {
        return None;
    }
    let with_close_notify = last.saturating_add(2 + overhead);
    let difference = server.abs_diff(last);
    let split_otherwise =
        replies > 1 && difference <= 3 * overhead && difference.is_multiple_of(overhead.max(1));
    let long = if replies == 1 && server > LONG_REPLY { 3 } else { 0 };
    Some(match last {
        0 => 6 + long,
        _ if server == last || server == with_close_notify => 1,
        _ if split_otherwise => 3,
        _ if server.abs_diff(last) <= NEARLY => 4,
        _ => {
            NEW_LENGTH + long + difference.checked_ilog2().unwrap_or_default().saturating_sub(5) * 2
        }
    })
}

/// At least `replies` replies of which one refuses. `accepted` is the length when such a thing was accepted,
/// `before` when it was refused; 0 for never.
pub(super) fn refused(server: u32, replies: u32, accepted: u32, before: u32) -> Option<Bits> {
    if server < replies * SHORTEST_REPLY {
        return None;
    }
    if server == before {
        return Some(REFUSED);
    }
    let short = if server < (replies - 1) * 8 + USUAL_REFUSAL { 4 } else { 0 };
    let as_accepted = if server == accepted { 4 } else { 0 };
    Some(REFUSED + 7 + short + as_accepted)
}

/// A line of `client` bytes with an address, at least `least` long, whose like was `previous` bytes.
pub(super) fn address_line(client: u32, least: u32, previous: u32) -> Option<Bits> {
    if client < least || client > 1_000 {
        return None;
    }
    Some(match client {
        _ if client == previous => 2,
        ..=130 => 5,
        131..=250 => 8,
        251..=500 => 12,
        _ => 18,
    })
}

/// Several commands in one turn of `client` bytes, at least `least` long, answered with `server` bytes.
/// Each command has its reply, so a short answer bounds the number of commands.
pub(super) fn commands(client: u32, least: u32, server: u32, previous: u32) -> Option<Bits> {
    if client < least || client > server.saturating_mul(20) {
        return None;
    }
    let ratio = match client / server.max(1) {
        ..5 => 0,
        5..8 => 5,
        8..12 => 10,
        _ => 14,
    };
    Some(
        ratio
            + match client {
                _ if client == previous => 2,
                ..=150 => 5,
                151..=300 => 7,
                _ => 9,
            },
    )
}

/// MAIL and RCPT for so many `recipients` in a turn of `client` bytes: lines are rarely long.
pub(super) fn long_lines(client: u32, recipients: u32) -> Bits {
    match client / recipients.saturating_add(1) {
        ..=80 => 0,
        81..=120 => 3,
        121..=250 => 8,
        _ => 14,
    }
}

/// A body of `client` bytes, its final dot included.
pub(super) fn body(client: u32) -> Option<Bits> {
    Some(match client {
        ..=2 => return None,
        3 | 5 => 11,
        4 | 6 => 15,
        7..=63 => 12,
        64..=199 => 10,
        _ => 7,
    })
}

/// Commands of at least `least` bytes and a body in one turn of `client` bytes.
pub(super) fn commands_and_body(client: u32, least: u32) -> Option<Bits> {
    let rest = client.checked_sub(least)?;
    Some(match rest {
        ..=63 => 11,
        64..=200 => 10,
        _ => 7,
    })
}
