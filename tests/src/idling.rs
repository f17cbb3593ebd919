//! Sessions that idle by a schedule, and what became of them.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{attempt, session::Session};

/// What a session that idled by a schedule went through: the truth that a record is held against.
#[derive(Debug)]
pub struct Idled {
    /// Gaps that ended in an answered command, from the answer before to the command.
    pub survived: Vec<Duration>,
    /// The session was found dead.
    pub died: Option<Death>,
}

/// How a session was found dead.
#[derive(Debug)]
pub struct Death {
    /// Time without data before the command that found it dead.
    pub gap: Duration,
    /// From that command until the client knew or gave up.
    pub cost: Duration,
    /// From that command until the client had closed.
    pub lasted: Duration,
    /// What the client was told; `None` if it gave up waiting or got the end of the stream.
    pub error: Option<io::Error>,
}

/// Says EHLO, then for each gap waits and sends RSET. Gives up waiting for an answer after `patience`, and
/// closes at once, dead or alive. A client that idles for longer than it means to, or gets an answer late, is a
/// [disturbance](attempt).
pub fn idle(mut session: Session, gaps: &[Duration], patience: Duration) -> Result<Idled> {
    let mut begun = Instant::now();
    session.begin()?;
    session.options().set_read_timeout(Some(patience))?;
    let mut answered = Instant::now();
    let mut survived = Vec::with_capacity(gaps.len());
    for gap in gaps {
        thread::sleep(gap.saturating_sub(answered.elapsed()));
        // Both that the client learned of the answer late, and that it slept for too long.
        attempt::expect_in_time("a command, and the idle time after it,", begun, *gap);
        let written = Instant::now();
        match session.command("RSET", "250") {
            Ok(_) => {
                survived.push(written - answered);
                answered = Instant::now();
                begun = written;
            }
            Err(error) => {
                let cost = written.elapsed();
                let told = error.downcast::<io::Error>().ok();
                let error = told.filter(|error| error.kind() != io::ErrorKind::WouldBlock);
                session.close();
                let (gap, lasted) = (written - answered, written.elapsed());
                return Ok(Idled { survived, died: Some(Death { gap, cost, lasted, error }) });
            }
        }
    }
    Ok(Idled { survived, died: None })
}
