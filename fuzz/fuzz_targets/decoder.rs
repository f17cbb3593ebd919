//! Any bytes as a record of the ring buffer and of the reply buffer: no panic, no field out of its range.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer_analysis::decoder::{self, Event};
use tracer_common::record::{DECRYPTED_PIECE_BYTES, TURN_BATCH, TurnBatch, direction};

fn within_bounds(batch: &TurnBatch) -> bool {
    batch.count <= TURN_BATCH && batch.in_use().len() == batch.count as usize
}

fuzz_target!(|bytes: &[u8]| {
    match decoder::event(bytes) {
        Ok(Event::Closed(state)) => {
            assert!(state.id != 0 && state.direction <= direction::SERVER);
            assert!(within_bounds(&state.batch));
        }
        Ok(Event::Turns(batch)) => assert!(within_bounds(&batch)),
        Ok(Event::Decrypted(reply)) => {
            assert!(
                reply.len <= DECRYPTED_PIECE_BYTES && reply.in_use().len() == reply.len as usize
            );
        }
        Ok(Event::Owner(_) | Event::Opened(_)) | Err(_) => {}
    }
    if let Ok((meta, payload)) = decoder::reply(bytes) {
        assert!(
            payload.len() <= meta.payload as usize && payload.len() + 20 <= meta.captured as usize
        );
    }
});
