//! The live view: what a trace sees, on the terminal, while it runs.
//!
//! `screen` has the terminal, `state` and `draw` are pure: from keys and a `snapshot` of the trace to lines.

mod column;
mod draw;
mod frames;
mod rates;
mod recent;
mod screen;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod theme;

use std::{
    future::poll_fn,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use crossterm::event::{Event, EventStream};
use futures_core::Stream as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};
use tracer_analysis::{
    connection::{Connection, Table, TurnSpans},
    destination::{Fold, Grouping},
    recording::{Header, HookState},
    report::Report,
    utc::Utc,
};
use tracer_common::record::ConnectionState;

use crate::{
    cli::{Format, TraceArgs},
    diagnostics,
    sink::quantity::duration,
};
use rates::Rates;
use recent::Recent;
use screen::Screen;
use snapshot::{Snapshot, Source, Title};
pub(crate) use state::Asked;
use state::{State, View};
use theme::Theme;

/// Connections that the kernel side holds, of which at most so many are looked at.
pub(crate) const LOOKED_AT: usize = 8192;

/// Time between two looks at the trace.
const PERIOD: Duration = Duration::from_secs(1);

/// What takes long is done less often: at most one part in so many of the time goes into it.
const LEISURE: u32 = 50;

/// How soon a frame is tried again that the terminal was not ready for.
const AGAIN: Duration = Duration::from_millis(20);

/// When something is to be done again.
#[derive(Debug)]
struct Pace(Option<Instant>);

impl Pace {
    fn is_due(&self) -> bool {
        self.0.is_none_or(|next| Instant::now() >= next)
    }

    /// It was begun at `begin` and is done.
    fn done(&mut self, begin: Instant) {
        let wait = (begin.elapsed() * LEISURE).max(PERIOD);
        self.0 = begin.checked_add(wait);
    }
}

/// What a look at the trace sees besides the connections that ended.
pub(crate) struct Seen<'a> {
    /// Now, in nanoseconds of `CLOCK_BOOTTIME`.
    pub(crate) now_ns: u64,
    /// The table of connections under way.
    pub(crate) table: &'a Table,
    /// The aggregates.
    pub(crate) fold: &'a Fold,
    /// Connections that the kernel side holds, at most [`LOOKED_AT`].
    pub(crate) held: &'a [ConnectionState],
    /// Whether these are all.
    pub(crate) held_all: bool,
    /// CPU time of the trace so far.
    pub(crate) own_cpu_us: Option<u64>,
}

/// The live view of a trace. Dropping it gives the terminal back.
pub(crate) struct Live {
    screen: Screen,
    keys: EventStream,
    hangup: Option<Signal>,
    state: State,
    started: Utc,
    by: Grouping,
    rates: Rates,
    recent: Recent,
    report: Option<Rc<Report>>,
    /// Connections have ended since the report was made.
    report_is_old: bool,
    report_pace: Pace,
    look_pace: Pace,
    /// Of what the last look saw.
    fingerprint: u64,
    /// The screen does not show the state.
    dirty: bool,
}

impl Live {
    /// Takes the terminal, if there is one and nothing else was asked for.
    pub(crate) fn start(args: &TraceArgs, header: &Header) -> Result<Option<Self>> {
        let to_stdout = args.output.format == Format::Text && args.output.output.is_none();
        if args.no_tui || !to_stdout || !screen::is_possible() {
            return Ok(None);
        }
        let by = args.output.grouping()?;
        let missing = header.hooks.iter().filter(|hook| hook.state == HookState::Unavailable);
        let ports: Vec<String> = header.filters.dport.iter().map(ToString::to_string).collect();
        let title = Title {
            host: header.host.clone(),
            ports: ports.join(","),
            group_by: by.by,
            interval: in_words(args.interval),
            hooks_missing: missing.count(),
        };
        let size = crossterm::terminal::size().context(NO_SCREEN)?;
        Ok(Some(Self {
            state: State::new(title, Theme::from_environment(), size),
            started: header.start,
            by,
            rates: Rates::new(header.start, args.interval, args.output.max_destinations),
            recent: Recent::default(),
            report: None,
            report_is_old: true,
            report_pace: Pace(None),
            look_pace: Pace(None),
            fingerprint: 0,
            dirty: true,
            hangup: None,
            screen: Screen::take().context(NO_SCREEN)?,
            keys: EventStream::new(),
        }))
    }

    /// Takes a connection that ended.
    pub(crate) fn ended(&mut self, connection: &Connection) {
        self.report_is_old = true;
        self.rates.ended(connection);
        self.recent.add(connection);
    }

    /// Takes the turns of a connection that ended, by its id.
    pub(crate) fn turns(&mut self, id: &str, turns: TurnSpans) {
        self.recent.turns(id, turns);
    }

    /// Whether it wants a new report: connections have ended, and the last one is some time ago.
    pub(crate) fn wants_report(&self) -> bool {
        let old = self.report_is_old && (!self.state.paused || self.report.is_none());
        old && self.look_pace.is_due() && self.report_pace.is_due()
    }

    /// Takes a report whose making was begun at `begin`.
    pub(crate) fn report(&mut self, report: Report, begin: Instant) {
        self.report = Some(Rc::new(report));
        self.report_is_old = false;
        self.report_pace.done(begin);
    }

    /// Whether it is time to look at the trace.
    pub(crate) fn wants_look(&self) -> bool {
        self.look_pace.is_due()
    }

    /// Looks at the trace, and draws what has changed. `begin`: when the facts were begun to be gathered.
    pub(crate) fn look(&mut self, seen: &Seen<'_>, begin: Instant) -> io::Result<()> {
        if let Some(report) = self.report.clone() {
            self.take_in(seen, &report);
        }
        self.look_pace.done(begin);
        self.draw()
    }

    fn take_in(&mut self, seen: &Seen<'_>, report: &Rc<Report>) {
        let source = Source {
            now: seen.table.utc(seen.now_ns),
            now_ns: seen.now_ns,
            started: self.started,
            by: self.by,
            report,
            fold: seen.fold,
            table: seen.table,
            held: seen.held,
            held_all: seen.held_all,
            rates: &self.rates,
            recent: &self.recent,
            own_cpu_us: seen.own_cpu_us,
            notice: diagnostics::last_held(),
        };
        let stands = self.state.paused.then(|| self.state.snapshot.take()).flatten();
        let old = self.state.snapshot.take();
        let fingerprint = fingerprint(&source);
        let ages_show = self.state.view != View::Destinations && !seen.held.is_empty();
        let new = match (stands, old) {
            (Some(stands), _) => standing(&self.state, stands, &source),
            (None, Some(old))
                if fingerprint == self.fingerprint
                    && !ages_show
                    && has_wanted(&self.state, &old) =>
            {
                self.state.snapshot = Some(old);
                return;
            }
            (None, old) => {
                let new = moving(&self.state, old.as_ref(), &source);
                self.dirty |= old.as_ref() != Some(&new);
                new
            }
        };
        self.dirty |= self.state.paused;
        self.fingerprint = fingerprint;
        self.state.snapshot = Some(new);
    }

    /// Draws, if the screen does not show the state and the terminal is ready.
    pub(crate) fn draw(&mut self) -> io::Result<()> {
        if self.screen.is_ready()? && self.dirty {
            self.dirty = false;
            let state = &self.state;
            self.screen.draw(|frame| draw::draw(state, frame))?;
        }
        Ok(())
    }

    /// Waits for what the user asks next.
    async fn next(&mut self) -> io::Result<Asked> {
        let hangup = match &mut self.hangup {
            Some(hangup) => hangup,
            none => none.insert(signal(SignalKind::hangup())?),
        };
        let keys = &mut self.keys;
        let event = tokio::select! {
            // Of a terminal that is gone; or of somebody who wants the recording to be opened again.
            _ = hangup.recv() => {
                return Ok(if screen::is_possible() { Asked::Nothing } else { Asked::End });
            }
            event = poll_fn(|context| std::pin::Pin::new(&mut *keys).poll_next(context)) => event,
            () = sleep(AGAIN), if self.dirty => {
                self.draw()?;
                return Ok(Asked::Nothing);
            }
        };
        let asked = match event.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))? {
            Event::Key(key) => self.state.key(key),
            Event::Resize(width, height) => {
                self.state.size = (width, height);
                self.screen.resize()?;
                Asked::Drawing
            }
            _ => Asked::Nothing,
        };
        self.dirty |= matches!(asked, Asked::Drawing | Asked::Facts);
        if asked == Asked::Facts {
            self.look_pace = Pace(None);
        }
        self.draw()?;
        Ok(asked)
    }
}

/// `10 s`, `1 min`.
fn in_words(time: Duration) -> String {
    let words = duration(time.as_secs_f64());
    if time.as_secs() < 10 { words } else { words.trim_end_matches(" 0 s").to_owned() }
}

const NO_SCREEN: &str = "cannot draw on the terminal; --no-tui does without";

/// Waits for what the user of the live view asks next; forever if there is none. A terminal that fails is
/// given back: the trace goes on without it.
pub(crate) async fn asked(live: &mut Option<Live>) -> Asked {
    let Some(view) = live else { return std::future::pending().await };
    match view.next().await {
        Ok(asked) => asked,
        Err(error) => give_up(live, &error),
    }
}

/// Gives the terminal back because of `error`. If the terminal itself is gone, the trace ends, as it would
/// without a live view: its hangup may have come and gone unheard.
pub(crate) fn give_up(live: &mut Option<Live>, error: &io::Error) -> Asked {
    *live = None;
    if !screen::is_possible() {
        return Asked::End;
    }
    diagnostics::say(
        diagnostics::Level::Warning,
        &format!("the live view ended, tracing goes on: {error}"),
    );
    Asked::Nothing
}

/// A new snapshot, with what the view needs.
fn moving(state: &State, old: Option<&Snapshot>, source: &Source<'_>) -> Snapshot {
    let mut new = source.snapshot();
    if let Some(key) = state.wanted() {
        let same = old.filter(|old| old.report == new.report).and_then(|old| old.detail.as_ref());
        new.detail = Some(match same.filter(|detail| detail.key == key) {
            Some(detail) => {
                let connections = source.connections(key);
                snapshot::Detail { connections, ..detail.clone() }
            }
            None => source.detail(key),
        });
    }
    new.connection = state.wanted_connection().and_then(|id| source.connection(id));
    new
}

/// The snapshot that stands while the view is paused, with what the view needs and it lacks.
fn standing(state: &State, mut stands: Snapshot, source: &Source<'_>) -> Snapshot {
    if !has_wanted(state, &stands) {
        if let Some(key) = state.wanted().filter(|key| !has_detail(&stands, key)) {
            stands.detail = Some(source.detail(key));
        }
        stands.connection = state.wanted_connection().and_then(|id| source.connection(id));
    }
    stands
}

fn has_detail(shown: &Snapshot, key: &str) -> bool {
    shown.detail.as_ref().is_some_and(|detail| detail.key == key)
}

fn has_wanted(state: &State, shown: &Snapshot) -> bool {
    let has_connection =
        |id: &str| shown.connection.as_ref().is_some_and(|ended| ended.connection.id == id);
    state.wanted().is_none_or(|key| has_detail(shown, key))
        && state.wanted_connection().is_none_or(has_connection)
}

/// A number that changes when something else is to be shown.
fn fingerprint(source: &Source<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let elapsed = source.now.micros_since(source.started) / 1_000_000;
    (if elapsed < 60 { elapsed } else { elapsed / 60 }).hash(&mut hasher);
    std::ptr::from_ref::<Report>(source.report).hash(&mut hasher);
    source.notice.hash(&mut hasher);
    let current = source.rates.interval(source.now);
    let quiet = source.held.is_empty() && source.rates.opened(current).iter().all(|n| *n == 0);
    if !quiet {
        current.hash(&mut hasher);
    }
    for state in source.held {
        hasher.write(bytemuck::bytes_of(state));
    }
    hasher.finish()
}
