//! Bytes from the kernel to records. Never panics, whatever the bytes; every failure is an error that
//! the caller counts.

use tracer_common::record::{
    ConnectionState, DECRYPTED_PIECE_BYTES, DecryptedReply, Opened, OwnerChange, ReplySegment,
    TURN_BATCH, TurnBatch, WITHOUT_HEADER, direction, kind,
};

/// One record of the ring buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection ended.
    Closed(Box<ConnectionState>),
    /// Turns of a connection that goes on.
    Turns(Box<TurnBatch>),
    /// A connection has a new owner.
    Owner(OwnerChange),
    /// A connection is opened.
    Opened(Opened),
    /// What a process read from the TLS session of a connection.
    Decrypted(Box<DecryptedReply>),
}

/// Why a record could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than its kind needs, or too short to have a kind.
    #[error("{len} bytes, {needed} needed")]
    Short {
        /// Bytes there are.
        len: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// A kind that this version does not know.
    #[error("unknown kind {0}")]
    Kind(u32),
    /// A field has a value that it cannot have.
    #[error("{field} is {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
}

/// Decodes one record of the ring buffer.
pub fn event(bytes: &[u8]) -> Result<Event, DecodeError> {
    match read::<u32>(bytes)? {
        kind::CLOSED => {
            let state: ConnectionState = read(bytes)?;
            check_state(&state)?;
            Ok(Event::Closed(Box::new(state)))
        }
        kind::TURNS => {
            let batch: TurnBatch = read(bytes)?;
            check_batch(&batch)?;
            Ok(Event::Turns(Box::new(batch)))
        }
        kind::OWNER => Ok(Event::Owner(read(bytes)?)),
        kind::OPENED => Ok(Event::Opened(read(bytes)?)),
        kind::DECRYPTED => {
            let reply: DecryptedReply = read(bytes)?;
            if reply.len > DECRYPTED_PIECE_BYTES {
                let value = u64::from(reply.len);
                return Err(DecodeError::Value { field: "decrypted bytes", value });
            }
            Ok(Event::Decrypted(Box::new(reply)))
        }
        other => Err(DecodeError::Kind(other)),
    }
}

/// Decodes one record of the reply buffer: what is known of the segment, and its payload as far as it
/// was handed over. Bytes behind the record (the kernel pads it) are left out.
pub fn reply(bytes: &[u8]) -> Result<(ReplySegment, &[u8]), DecodeError> {
    let meta: ReplySegment = read(bytes)?;
    let segment = bytes.get(size_of::<ReplySegment>()..).unwrap_or_default();
    let captured = meta.captured as usize;
    let short = |len, needed| DecodeError::Short { len, needed };
    let segment = segment.get(..captured).ok_or(short(segment.len(), captured))?;
    let payload = match meta.flags & WITHOUT_HEADER {
        0 => behind_header(segment)?,
        _ => segment,
    };
    Ok((meta, payload.get(..meta.payload as usize).unwrap_or(payload)))
}

/// What is behind the TCP header of `segment`.
fn behind_header(segment: &[u8]) -> Result<&[u8], DecodeError> {
    let short = |needed| DecodeError::Short { len: segment.len(), needed };
    // RFC 9293 section 3.1: the data offset is the upper half of byte 12, in words.
    let offset = usize::from(segment.get(12).ok_or(short(13))? >> 4) * 4;
    if offset < 20 {
        return Err(DecodeError::Value { field: "data offset", value: offset as u64 });
    }
    segment.get(offset..).ok_or(short(offset))
}

/// Checks a state that came from the ring buffer or from the map of connections.
pub fn check_state(state: &ConnectionState) -> Result<(), DecodeError> {
    if state.direction > direction::UNKNOWN {
        let value = u64::from(state.direction);
        return Err(DecodeError::Value { field: "direction", value });
    }
    if state.id == 0 {
        return Err(DecodeError::Value { field: "id", value: 0 });
    }
    check_batch(&state.batch)
}

fn check_batch(batch: &TurnBatch) -> Result<(), DecodeError> {
    if batch.count > TURN_BATCH {
        return Err(DecodeError::Value { field: "turns", value: u64::from(batch.count) });
    }
    Ok(())
}

fn read<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Result<T, DecodeError> {
    let needed = size_of::<T>();
    let bytes = bytes.get(..needed).ok_or(DecodeError::Short { len: bytes.len(), needed })?;
    Ok(bytemuck::pod_read_unaligned(bytes))
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use proptest::prelude::*;

    use super::*;

    const STATE: usize = size_of::<ConnectionState>();

    fn state() -> ConnectionState {
        ConnectionState { kind: kind::CLOSED, id: 1, ..ConnectionState::zeroed() }
    }

    #[test]
    fn reads_what_was_written() {
        let state = state();
        let bytes = bytemuck::bytes_of(&state);
        assert_eq!(event(bytes), Ok(Event::Closed(Box::new(state))));
        let short = event(&bytes[..bytes.len() - 1]);
        assert_eq!(short, Err(DecodeError::Short { len: STATE - 1, needed: STATE }));
    }

    #[test]
    fn refuses_values_that_cannot_be() {
        let too_many = TurnBatch { kind: kind::TURNS, count: 9, ..TurnBatch::zeroed() };
        let error = DecodeError::Value { field: "turns", value: 9 };
        assert_eq!(event(bytemuck::bytes_of(&too_many)), Err(error));
        assert_eq!(event(&[77, 0, 0, 0]), Err(DecodeError::Kind(77)));
        let long = DecryptedReply { kind: kind::DECRYPTED, len: 129, ..DecryptedReply::zeroed() };
        let error = DecodeError::Value { field: "decrypted bytes", value: 129 };
        assert_eq!(event(bytemuck::bytes_of(&long)), Err(error));
    }

    #[test]
    fn reply_is_the_payload_behind_the_tcp_header() {
        let meta = ReplySegment { captured: 29, payload: 5, ..ReplySegment::zeroed() };
        let mut bytes = bytemuck::bytes_of(&meta).to_vec();
        let mut segment = vec![0; 24];
        segment[12] = 6 << 4;
        segment.extend(b"220 x-padding");
        bytes.extend(segment);
        assert_eq!(reply(&bytes).unwrap().1, b"220 x");
    }

    #[test]
    fn reply_without_a_header_is_its_payload() {
        let flags = WITHOUT_HEADER;
        let meta = ReplySegment { captured: 9, payload: 8, flags, ..ReplySegment::zeroed() };
        let mut bytes = bytemuck::bytes_of(&meta).to_vec();
        bytes.extend(b"250 ok\r\nxx");
        assert_eq!(reply(&bytes).unwrap().1, b"250 ok\r\n");
        bytes.truncate(size_of::<ReplySegment>() + 5);
        assert_eq!(reply(&bytes), Err(DecodeError::Short { len: 5, needed: 9 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let _ = event(&bytes);
            let _ = reply(&bytes);
        }

        #[test]
        fn any_state_is_a_record_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), STATE)) {
            bytes[..4].copy_from_slice(&kind::CLOSED.to_ne_bytes());
            match event(&bytes) {
                Ok(Event::Closed(state)) => prop_assert_eq!(bytemuck::bytes_of(&*state), &bytes[..]),
                Ok(_) => prop_assert!(false, "wrong kind"),
                Err(error) => {
                    let value = matches!(error, DecodeError::Value { .. });
                    prop_assert!(value, "{error}");
                }
            }
        }
    }
}
