//! Probes on the read side of TLS libraries (`--tls-probes`).
//!
//! A probe belongs to a file, not to a process: it fires in every process that maps the file, also in
//! those that start later. So each library file is attached to once, when a process that opens or holds
//! a traced connection is first seen to map it.
//!
//! What such a process maps may be anybody's making. It is opened, and attached to, by a
//! [process apart](super::tls_attacher); it is read by a thread of its own here, without privileges. Neither
//! keeps the trace waiting.

use std::{
    collections::{HashMap, HashSet},
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf,
    maps::ProgramArray,
    programs::{ProgramError, ProgramFd, UProbe},
};
use tracer_analysis::{
    recording::{HookState, HookStatus},
    symbols::functions,
};

use super::{
    attach::cause,
    tls_attacher::{Attacher, Session},
    tls_libraries::{Candidate, Contents, path_of},
    uprobe,
};

/// Name of the hook that stands for the programs. Each library has a further one, named by its file.
pub(crate) const HOOK: &str = "tls_probes";

const FACT: &str = "messages under TLS, exactly";
const INSTEAD: &str = "instead: inferred from the lengths of turns";

/// The programs in the BPF object.
pub(crate) const PROGRAMS: [&str; 6] =
    ["tls_read", "tls_read_ex", "tls_control", "tls_return", NEXT, "tls_free"];

/// The program among them that hands over the next piece of a long read. It is called by itself and by
/// `tls_return`, and attached to nothing.
const NEXT: &str = "tls_next";

/// Libraries at most; each takes up to 11 descriptors.
const LIBRARIES: usize = 64;

/// Libraries that the processes of one user have attached to, at most: copies of one user's making leave room for the
/// others'.
const SHARE: usize = 8;

/// Libraries that could not be attached to and are told of, at most.
const TOLD: usize = 64;

/// No further file of a process is read after this time, for others wait. Nobody would attach to it any more.
const TIME: Duration = Duration::from_secs(super::tls_attacher::TIME as u64);

/// Files remembered that are no TLS library.
const OTHERS: usize = 4096;

/// Processes that wait to be looked at, at most; further ones are when they open the next connection.
const WAITING: usize = 256;

/// A process is looked at again after this time: it may be another one of the same id, or may have loaded
/// a library since.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A function to probe.
#[derive(Debug)]
struct Function {
    symbol: &'static str,
    /// Program at its entry.
    entry: &'static str,
    /// Whether its return is of interest.
    returns: bool,
    /// Whether a library without it is of no use.
    required: bool,
}

/// A TLS library, by what is probed of it.
#[derive(Debug)]
struct Library {
    name: &'static str,
    functions: &'static [Function],
}

const fn function(symbol: &'static str, entry: &'static str, required: bool) -> Function {
    Function { symbol, entry, returns: true, required }
}

const fn free(symbol: &'static str) -> Function {
    Function { symbol, entry: "tls_free", returns: false, required: true }
}

/// The read function comes first: a library without it is another one.
const KINDS: [Library; 2] = [
    Library {
        name: "OpenSSL",
        functions: &[
            function("SSL_read", "tls_read", true),
            function("SSL_read_ex", "tls_read_ex", false), // since 1.1.1
            function("SSL_do_handshake", "tls_control", true),
            function("SSL_connect", "tls_control", true),
            function("SSL_shutdown", "tls_control", true),
            free("SSL_free"),
        ],
    },
    Library {
        name: "GnuTLS",
        functions: &[
            function("gnutls_record_recv", "tls_read", true),
            function("gnutls_handshake", "tls_control", true),
            function("gnutls_bye", "tls_control", true),
            free("gnutls_deinit"),
        ],
    },
];

/// The probes of one trace.
#[derive(Debug)]
pub(crate) struct TlsProbes {
    /// Open for as long as the probes are to be there.
    uprobes: Vec<OwnedFd>,
    /// Processes looked at, and when.
    processes: HashMap<u32, Instant>,
    search: Search,
    /// That the search has ended, until it is told.
    ended: Option<HookStatus>,
}

/// How libraries are looked for.
#[derive(Debug)]
enum Search {
    /// It has not begun.
    Ready(Box<Searcher>),
    /// On a thread of its own.
    Running { pids: SyncSender<u32>, found: Receiver<Probed> },
    /// There is nobody who could attach.
    Off,
}

/// What came of a library.
#[derive(Debug)]
struct Probed {
    status: HookStatus,
    uprobes: Vec<OwnedFd>,
}

impl TlsProbes {
    /// Loads the programs and attaches them to the libraries that the user names. The first status is
    /// that of the programs. Without programs there are no probes, but the trace goes on. Without an `attacher`
    /// no other libraries are looked for.
    pub(crate) fn start(
        ebpf: &mut Ebpf,
        libraries: &[PathBuf],
        attacher: Option<Attacher>,
    ) -> Result<(Option<Self>, Vec<HookStatus>)> {
        let mut hook = HookStatus::attached(HOOK, FACT);
        for name in PROGRAMS {
            if let Err(error) = program(ebpf, name).and_then(UProbe::load) {
                hook.state = HookState::Unavailable;
                hook.reason = Some(format!("uprobe: {}; {INSTEAD}", cause(&error)));
                return Ok((None, vec![hook]));
            }
        }
        link_next(ebpf).context("lets `tls_return` call `tls_next`")?;
        hook.program = Some("uprobe".into());
        let programs = Programs::of(ebpf)?;
        let (mut uprobes, mut statuses, mut known) = (Vec::new(), vec![hook], HashSet::new());
        for path in libraries {
            let option = || format!("--tls-library {}", path.display());
            let candidate = Candidate::open(path).with_context(option)?;
            if !known.insert(candidate.identity) {
                continue;
            }
            let file = CString::new(path_of(candidate.file.as_fd()))?;
            let open = |offset, returns| uprobe::open(&file, offset, returns);
            let probed = programs.attach(&candidate, open).with_context(option)?;
            if probed.status.state == HookState::Unavailable {
                bail!("{}: {}", option(), probed.status.reason.unwrap_or_default());
            }
            uprobes.extend(probed.uprobes);
            statuses.push(probed.status);
        }
        if let ([hook], true) = (&mut statuses[..], known.is_empty()) {
            hook.state = HookState::Fallback;
            hook.reason = Some(format!(
                "no process with a traced connection was seen to map OpenSSL or GnuTLS; {INSTEAD}"
            ));
        }
        let search = attacher.map_or(Search::Off, |attacher| {
            let places = Places::of(known);
            Search::Ready(Box::new(Searcher { attacher, programs, places, told: 0, slow: false }))
        });
        Ok((Some(Self { uprobes, processes: HashMap::new(), search, ended: None }), statuses))
    }

    /// Has the TLS libraries of process `pid` looked at. A thread is started for it, so privileges must have
    /// been given up by now.
    pub(crate) fn look_at(&mut self, pid: u32) {
        if let Search::Ready(_) = self.search {
            let started = match std::mem::replace(&mut self.search, Search::Off) {
                Search::Ready(searcher) => searcher.start(),
                other => Ok(other),
            };
            match started {
                Ok(search) => self.search = search,
                Err(error) => self.end(&format!("no thread could be started: {error}")),
            }
        }
        let Search::Running { pids, .. } = &self.search else { return };
        let now = Instant::now();
        let recent = |then: &Instant| now.duration_since(*then) < LOOK_AGAIN;
        if self.processes.get(&pid).is_some_and(recent) {
            return;
        }
        if self.processes.len() >= OTHERS {
            self.processes.retain(|_, then| recent(then));
        }
        match pids.try_send(pid) {
            Ok(()) if self.processes.len() < OTHERS => {
                self.processes.insert(pid, now);
            }
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => {
                self.end("the thread that looks for them has ended");
            }
        }
    }

    /// Looks for no further libraries. Those that were found stay attached to.
    fn end(&mut self, why: &str) {
        self.ended = Some(unavailable("further TLS libraries", why).status);
    }

    /// The status of each library that was attached to since the last call, or could not be.
    pub(crate) fn found(&mut self) -> Vec<HookStatus> {
        let mut statuses = Vec::new();
        if let Search::Running { found, .. } = &self.search {
            for Probed { status, uprobes } in found.try_iter() {
                self.uprobes.extend(uprobes);
                statuses.push(status);
            }
        }
        if let Some(ended) = self.ended.take() {
            self.search = Search::Off;
            statuses.push(ended);
        }
        statuses
    }
}

/// Looks for libraries, and attaches to them by another process.
#[derive(Debug)]
struct Searcher {
    attacher: Attacher,
    programs: Programs,
    places: Places,
    /// Libraries that could not be attached to, as far as they were told of.
    told: usize,
    /// Whether it was said that a process could not be looked at.
    slow: bool,
}

impl Searcher {
    fn start(mut self: Box<Self>) -> io::Result<Search> {
        let (pids, asked) = sync_channel(WAITING);
        let (to_us, found) = channel();
        let search = move || {
            for pid in asked {
                let outcome = self.process(pid, &mut |probed| to_us.send(probed).is_ok());
                if let Err(error) = outcome
                    && !std::mem::replace(&mut self.slow, true)
                {
                    let reason = format!("process {pid} cannot be looked at: {error}");
                    let _ = to_us.send(unavailable("a TLS library", &reason)); // nobody listens any more
                }
            }
        };
        thread::Builder::new().name("tls-libraries".into()).spawn(search)?;
        Ok(Search::Running { pids, found })
    }

    /// Attaches to the libraries of process `pid` that are not yet known, and passes on what came of each for as
    /// long as somebody wants it.
    fn process(&mut self, pid: u32, found: &mut impl FnMut(Probed) -> bool) -> io::Result<()> {
        let mut session = self.attacher.look_at(pid)?;
        let mut candidates = Vec::new();
        while let Some(offered) = session.next()? {
            candidates.push(offered);
        }
        let begun = Instant::now();
        for offered in candidates {
            if begun.elapsed() >= TIME {
                return Err(io::Error::other("it took too long to read its libraries"));
            }
            let probed = self.candidate(&mut session, offered.number, &offered.candidate)?;
            if !probed.is_none_or(&mut *found) {
                break;
            }
        }
        Ok(())
    }

    /// An error says nothing of the file: it may be attached to when it is seen again.
    fn candidate(
        &mut self,
        session: &mut Session,
        number: usize,
        it: &Candidate,
    ) -> io::Result<Option<Probed>> {
        let user = session.user();
        match self.places.of_file(it.identity, user) {
            Place::Known => return Ok(None),
            Place::None { why } => {
                return Ok(why.map(|why| unavailable("further TLS libraries", &why)));
            }
            Place::Free => {}
        }
        let open = |offset, returns| session.attach(number, offset, returns);
        let outcome = self.programs.attach(it, open);
        if session.is_lost() {
            return Err(io::Error::other("it took too long to attach to its libraries"));
        }
        match outcome {
            Ok(probed) if probed.status.state == HookState::Unavailable => {
                self.places.leave(it.identity);
                self.told += 1;
                Ok((self.told <= TOLD).then_some(probed))
            }
            Ok(probed) => {
                self.places.take(it.identity, user);
                Ok(Some(probed))
            }
            Err(NoTlsLibrary { .. }) => {
                self.places.leave(it.identity);
                Ok(None)
            }
        }
    }
}

/// Which files are attached to, and how many more may be.
#[derive(Debug)]
struct Places {
    /// Files that are attached to.
    taken: HashSet<(u64, u64)>,
    /// How many of them were found in processes of each user.
    shares: HashMap<Option<u32>, usize>,
    /// Files that are no TLS library, and those that could not be attached to.
    others: HashSet<(u64, u64)>,
    /// Whether it was said that there are too many.
    is_told: bool,
}

/// The place of a file.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Nothing is to be done.
    Known,
    /// It may be attached to.
    Free,
    /// It is one too many; the reason, if it was not yet told.
    None { why: Option<String> },
}

impl Places {
    fn of(named: HashSet<(u64, u64)>) -> Self {
        let (shares, others) = (HashMap::new(), HashSet::new());
        Self { taken: named, shares, others, is_told: false }
    }

    fn of_file(&mut self, identity: (u64, u64), user: Option<u32>) -> Place {
        if self.taken.contains(&identity) || self.others.contains(&identity) {
            return Place::Known;
        }
        let why = if self.taken.len() >= LIBRARIES {
            format!("{LIBRARIES} are attached to")
        } else if self.shares.get(&user).is_some_and(|share| *share >= SHARE) {
            let of = user.map_or_else(|| "unknown users".into(), |user| format!("user {user}"));
            format!("{SHARE} that processes of {of} map are attached to")
        } else {
            return Place::Free;
        };
        let is_told = std::mem::replace(&mut self.is_told, true);
        Place::None { why: (!is_told).then_some(why) }
    }

    fn take(&mut self, identity: (u64, u64), user: Option<u32>) {
        self.taken.insert(identity);
        *self.shares.entry(user).or_default() += 1;
    }

    fn leave(&mut self, identity: (u64, u64)) {
        if self.others.len() >= OTHERS {
            self.others.clear();
        }
        self.others.insert(identity);
    }
}

fn unavailable(name: &str, reason: &str) -> Probed {
    let mut status = HookStatus::attached(name, FACT);
    status.state = HookState::Unavailable;
    status.reason = Some(format!("{reason}; {INSTEAD}"));
    Probed { status, uprobes: Vec::new() }
}

/// Puts [`NEXT`], which is loaded, where its callers look for it.
fn link_next(ebpf: &mut Ebpf) -> Result<()> {
    let next = program(ebpf, NEXT)?.fd()?.try_clone()?;
    let map = ebpf.map_mut("TLS_NEXT").context("no map TLS_NEXT")?;
    Ok(ProgramArray::try_from(map)?.set(0, &next, 0)?)
}

/// A file that has none of the functions.
#[derive(Debug, thiserror::Error)]
#[error(
    "neither SSL_read nor gnutls_record_recv is in it ({reason}); name the libssl.so or libgnutls.so that \
     the mail server maps (`grep -E 'ssl|tls' /proc/PID/maps` shows it)"
)]
struct NoTlsLibrary {
    reason: String,
}

/// The loaded programs, by name.
#[derive(Debug)]
struct Programs(HashMap<&'static str, ProgramFd>);

impl Programs {
    fn of(ebpf: &mut Ebpf) -> Result<Self> {
        let mut programs = HashMap::new();
        for name in PROGRAMS {
            programs.insert(name, program(ebpf, name)?.fd()?.try_clone()?);
        }
        Ok(Self(programs))
    }

    /// Attaches to one file by `open`, which makes a uprobe at a place in it, at the entry of a function or at its
    /// return. The status says whether it worked; an error means that the file is no TLS library.
    fn attach(
        &self,
        candidate: &Candidate,
        mut open: impl FnMut(u64, bool) -> io::Result<OwnedFd>,
    ) -> Result<Probed, NoTlsLibrary> {
        let (library, places) = find_library(&candidate.file)?;
        let fact = format!("{FACT} ({})", library.name);
        let mut status = HookStatus::attached(&candidate.name, &fact);
        let mut uprobes = Vec::new();
        match self.attach_all(library, &places, &mut open, &mut uprobes) {
            Ok(()) => status.program = Some("uprobe".into()),
            Err(reason) => {
                uprobes.clear();
                status.state = HookState::Unavailable;
                status.reason = Some(format!("uprobe: {reason}; {INSTEAD}"));
            }
        }
        Ok(Probed { status, uprobes })
    }

    fn attach_all(
        &self,
        library: &Library,
        places: &[Option<u64>],
        open: &mut impl FnMut(u64, bool) -> io::Result<OwnedFd>,
        uprobes: &mut Vec<OwnedFd>,
    ) -> Result<(), String> {
        let mut attach = |offset, returns, name| -> io::Result<()> {
            let program = self.0.get(name).ok_or(io::ErrorKind::NotFound)?;
            let uprobe = open(offset, returns)?;
            uprobe::run(program.as_fd(), uprobe.as_fd())?;
            uprobes.push(uprobe);
            Ok(())
        };
        for (function, place) in library.functions.iter().zip(places) {
            let place = match place {
                Some(place) => *place,
                None if function.required => return Err(format!("no {} in it", function.symbol)),
                None => continue,
            };
            attach(place, false, function.entry).map_err(|error| error.to_string())?;
            if function.returns {
                attach(place, true, "tls_return").map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

/// Which library a file is, and where the functions to probe lie in it.
fn find_library(file: &File) -> Result<(&'static Library, Vec<Option<u64>>), NoTlsLibrary> {
    let names: Vec<&str> = KINDS.iter().flat_map(|it| it.functions).map(|it| it.symbol).collect();
    let places = Contents::of(file).map_err(Into::into).and_then(|it| functions(&it, &names));
    let places = places.map_err(|error| NoTlsLibrary { reason: error.to_string() })?;
    let mut rest = &places[..];
    for library in &KINDS {
        let (own, others) = rest.split_at(library.functions.len().min(rest.len()));
        if own.first().is_some_and(Option::is_some) {
            return Ok((library, own.to_vec()));
        }
        rest = others;
    }
    Err(NoTlsLibrary { reason: "no such symbol".into() })
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut UProbe, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_has_ended_is_told_once() {
        let (pids, _) = sync_channel(1);
        let (to_us, found) = channel();
        let search = Search::Running { pids, found };
        let (uprobes, processes) = (Vec::new(), HashMap::new());
        let mut probes = TlsProbes { uprobes, processes, search, ended: None };
        to_us.send(unavailable("before", "it was found")).unwrap();
        probes.look_at(1);
        probes.look_at(2);
        let names: Vec<_> = probes.found().into_iter().map(|it| it.hook).collect();
        assert_eq!(names, ["before", "further TLS libraries"]);
        probes.look_at(3);
        assert!(probes.found().is_empty());
    }

    #[test]
    fn copies_of_one_user_leave_room_for_others() {
        let mut places = Places::of(HashSet::from([(0, 0)]));
        assert_eq!(places.of_file((0, 0), None), Place::Known);
        for file in 1..=SHARE as u64 {
            assert_eq!(places.of_file((1, file), Some(1000)), Place::Free);
            places.take((1, file), Some(1000));
        }
        let Place::None { why: Some(why) } = places.of_file((1, 99), Some(1000)) else {
            panic!("the share is not kept")
        };
        assert!(why.contains("user 1000"), "{why}");
        assert_eq!(places.of_file((1, 99), Some(1000)), Place::None { why: None }, "told once");
        assert_eq!(places.of_file((1, 99), Some(0)), Place::Free);
        // Those that could not be attached to take no place.
        for file in 0..100 {
            places.leave((2, file));
            assert_eq!(places.of_file((2, file), Some(0)), Place::Known);
        }
        assert_eq!(places.of_file((1, 99), Some(0)), Place::Free);
        for file in 0..u32::try_from(LIBRARIES).unwrap() {
            places.take((3, file.into()), Some(file));
        }
        assert_eq!(places.of_file((1, 99), Some(5000)), Place::None { why: None });
    }
}
