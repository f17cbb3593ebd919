//! Any order of events of one connection: its record keeps its promises, and a recording of it reads back
//! the same.
//!
//! The input is the time and facts of the end, then events: a kind, a length, and that many bytes. Replies
//! follow each other in the server's stream unless a byte says otherwise.

#![no_main]

use bytemuck::Zeroable;
use libfuzzer_sys::{arbitrary, arbitrary::Unstructured, fuzz_target};
use tracer_analysis::{
    connection::{Clock, Connection, Context, Table},
    decoder::{self, Event},
    recording::Line,
};
use tracer_common::record::{
    ConnectionState, DECRYPTED_PIECE_BYTES, DecryptedReply, OwnerChange, ReplySegment, Turn,
    TurnBatch, flag, kind,
};

const ID: u64 = 7;
/// Least time between two events.
const TICK_NS: u64 = 1_000;

/// A connection under way.
struct Session {
    table: Table,
    now_ns: u64,
    offset: u32,
    pieces: u32,
    /// Whether it was open before the start.
    midstream: bool,
}

impl Session {
    fn reply(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let skipped = if u.ratio(1, 16)? { u.arbitrary::<i8>()? } else { 0 };
        let lost = if u.ratio(1, 16)? { u.arbitrary::<u8>()? } else { 0 };
        let len = u.int_in_range(0..=255)?;
        let payload = u.bytes(len.min(u.len()))?;
        self.offset = self.offset.wrapping_add_signed(i32::from(skipped));
        let wire = payload.len() as u32 + u32::from(lost);
        let segment = ReplySegment {
            id: ID,
            time_ns: self.now_ns,
            offset: self.offset,
            payload: wire,
            captured: payload.len() as u32 + 20,
            flags: if self.midstream { flag::MIDSTREAM.into() } else { 0 },
        };
        self.table.reply(&segment, payload);
        self.offset = self.offset.wrapping_add(wire);
        Ok(())
    }

    fn turns(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let mut batch = TurnBatch { kind: kind::TURNS, id: ID, ..TurnBatch::zeroed() };
        for turn in &mut batch.turns[..u.int_in_range(1..=8)?] {
            let start_ns = self.now_ns;
            let answered = u.ratio(15, 16)?;
            let first_byte_ns =
                if answered { start_ns + u64::from(u.arbitrary::<u32>()?) } else { 0 };
            let last_ns = start_ns.max(first_byte_ns) + u64::from(u.arbitrary::<u16>()?);
            *turn = Turn {
                start_ns,
                first_byte_ns,
                last_write_ns: start_ns,
                last_ns,
                client_bytes: u.arbitrary::<u16>()?.into(),
                server_bytes: if answered { u.arbitrary::<u16>()?.into() } else { 0 },
            };
            self.now_ns = last_ns + TICK_NS;
            batch.count += 1;
        }
        self.table.event(&Event::Turns(Box::new(batch)));
        Ok(())
    }

    fn owner(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (pid, comm) = (u.arbitrary()?, u.arbitrary()?);
        let change = OwnerChange { kind: kind::OWNER, pid, id: ID, time_ns: self.now_ns, comm };
        self.table.event(&Event::Owner(change));
        Ok(())
    }

    fn decrypted(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let len = u.int_in_range(0..=DECRYPTED_PIECE_BYTES)?;
        let mut piece = DecryptedReply {
            kind: kind::DECRYPTED,
            len,
            id: ID,
            time_ns: self.now_ns,
            sequence: self.pieces,
            ..DecryptedReply::zeroed()
        };
        u.fill_buffer(&mut piece.bytes[..len as usize])?;
        self.pieces += if u.ratio(1, 16)? { 2 } else { 1 };
        self.table.event(&Event::Decrypted(Box::new(piece)));
        Ok(())
    }

    fn events(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        while !u.is_empty() {
            self.now_ns += TICK_NS + u64::from(u.arbitrary::<u16>()?);
            match u.int_in_range(0..=7)? {
                0..=2 => self.reply(u)?,
                3..=4 => self.turns(u)?,
                5 => self.decrypted(u)?,
                6 => self.owner(u)?,
                _ => self.now_ns += u64::from(u.arbitrary::<u32>()?) * 64,
            }
        }
        Ok(())
    }
}

/// Any state that the decoder lets through.
fn state(u: &mut Unstructured<'_>) -> arbitrary::Result<Option<ConnectionState>> {
    let mut state = ConnectionState::zeroed();
    u.fill_buffer(bytemuck::bytes_of_mut(&mut state))?;
    (state.id, state.kind) = (ID, kind::CLOSED);
    Ok(decoder::check_state(&state).is_ok().then_some(state))
}

/// A state such as the kernel makes of a connection that ran its course.
fn plausible(session: &Session) -> ConnectionState {
    ConnectionState {
        kind: kind::CLOSED,
        id: ID,
        start_ns: TICK_NS,
        established_ns: 2 * TICK_NS,
        first_byte_ns: 3 * TICK_NS,
        last_data_ns: session.now_ns,
        closed_ns: session.now_ns + TICK_NS,
        local_fin_ns: session.now_ns + TICK_NS,
        dport: 25,
        tls_pieces: session.pieces,
        tls: u8::from(session.pieces > 0),
        ..ConnectionState::zeroed()
    }
}

fn check(connection: Connection) {
    let lists = [&connection.envelope_us, &connection.body_us].map(|it| it.as_ref().map(Vec::len));
    if let Some(spans) = &connection.transaction_spans_us {
        assert!(spans.len() <= 256);
        assert!(lists.into_iter().flatten().all(|len| len <= spans.len()));
        assert!(spans.iter().all(|[start, end]| start <= end), "{spans:?}");
    }
    if connection.transactions_exact {
        assert!(connection.transactions.is_some());
    }
    let line = Line::Connection(Box::new(connection));
    let written = line.to_json().expect("a record can be written");
    assert_eq!(Line::parse(&written).expect("a record can be read"), line);
}

fuzz_target!(|bytes: &[u8]| {
    let mut u = Unstructured::new(bytes);
    let clock = Clock { utc_minus_boot_ns: 1_700_000_000_000_000_000 };
    let table = Table::new(Context { host: "mx1".to_owned(), clock }, 2);
    let midstream = u.ratio(1, 4).unwrap_or(false);
    let mut session = Session { table, now_ns: 4 * TICK_NS, offset: 0, pieces: 0, midstream };
    let any = if u.ratio(1, 4).unwrap_or(false) { state(&mut u).ok().flatten() } else { None };
    // The bytes may end within an event.
    let _ = session.events(&mut u);
    let end = any.unwrap_or_else(|| plausible(&session));
    check(session.table.close(&end, end.closed_ns));
});
