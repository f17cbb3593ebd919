//! A session as the kernel side hands it over: what both ends write, cut into turns and segments.

use bytemuck::Zeroable as _;
use tracer_analysis::{
    connection::{Clock, Connection, Context, Table},
    decoder::Event,
};
use tracer_common::record::{ConnectionState, ReplySegment, TURN_BATCH, Turn, direction};

const MILLISECOND: u64 = 1_000_000;
const BEGIN: u64 = 1_000_000 * MILLISECOND;

/// A session under way.
pub(crate) struct Wire {
    table: Table,
    state: ConnectionState,
    now: u64,
    client: u32,
    server: u32,
    turn_client: u32,
}

/// Who ends the session.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Server,
    Client,
    Reset,
    /// The trace ends before.
    Nobody,
}

impl Wire {
    /// Established.
    pub(crate) fn new() -> Self {
        let clock = Clock { utc_minus_boot_ns: 0 };
        let state = ConnectionState {
            id: 7,
            start_ns: BEGIN,
            established_ns: BEGIN + MILLISECOND,
            dport: 25,
            ..ConnectionState::zeroed()
        };
        Self {
            table: Table::new(Context { host: "mx".into(), clock }, 10),
            state,
            now: BEGIN + 2 * MILLISECOND,
            client: 0,
            server: 0,
            turn_client: 0,
        }
    }

    /// Time goes by.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.now += ms * MILLISECOND;
    }

    /// The client writes.
    pub(crate) fn write(&mut self, bytes: usize) {
        self.wait(1);
        if self.state.direction != direction::CLIENT {
            self.begin_turn();
        }
        self.client += u32::try_from(bytes).unwrap();
        (self.state.current.last_write_ns, self.state.current.last_ns) = (self.now, self.now);
        self.state.last_data_ns = self.now;
    }

    fn begin_turn(&mut self) {
        if self.state.direction != direction::NONE {
            self.state.current.server_bytes = self.server - self.state.turn_rcv_nxt;
            let at = self.state.batch.count as usize;
            self.state.batch.turns[at] = self.state.current;
            self.state.batch.count += 1;
            if self.state.batch.count == TURN_BATCH {
                self.state.batch.id = self.state.id;
                self.table.event(&Event::Turns(Box::new(self.state.batch)));
                self.state.batch.count = 0;
            }
        }
        self.state.current = Turn { start_ns: self.now, ..Turn::zeroed() };
        self.state.direction = direction::CLIENT;
        self.state.turns += 1;
        (self.turn_client, self.state.turn_rcv_nxt) = (self.client, self.server);
    }

    /// The server writes.
    pub(crate) fn reply(&mut self, bytes: &[u8]) {
        self.wait(1);
        let payload = u32::try_from(bytes.len()).unwrap();
        let meta = ReplySegment {
            id: self.state.id,
            time_ns: self.now,
            offset: self.server,
            payload,
            ..ReplySegment::zeroed()
        };
        if self.state.first_byte_ns == 0 {
            self.state.first_byte_ns = self.now;
        }
        if self.state.direction == direction::CLIENT {
            self.state.current.first_byte_ns = self.now;
            self.state.current.client_bytes = self.client - self.turn_client;
            self.state.direction = direction::SERVER;
        }
        (self.state.current.last_ns, self.state.last_data_ns) = (self.now, self.now);
        self.server += payload;
        self.table.reply(&meta, bytes);
    }

    /// It ends.
    pub(crate) fn end(mut self, end: End) -> Connection {
        self.wait(1);
        match end {
            End::Server => self.state.peer_fin_ns = self.now,
            End::Client => self.state.local_fin_ns = self.now,
            End::Reset => self.state.rst_received_ns = self.now,
            End::Nobody => {}
        }
        if !matches!(end, End::Nobody) {
            self.state.closed_ns = self.now;
            self.state.current.server_bytes = self.server - self.state.turn_rcv_nxt;
            if self.state.direction == direction::CLIENT {
                self.state.current.client_bytes = self.client - self.turn_client;
            }
        }
        (self.state.bytes_sent, self.state.bytes_received) =
            (self.client.into(), self.server.into());
        self.table.close(&self.state, self.now)
    }
}
