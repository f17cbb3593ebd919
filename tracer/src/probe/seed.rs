//! Connections that were open before the hooks were attached.
//!
//! Called when every hook is attached, so that each connection is met: by the hooks if it is opened later, by an
//! iterator if it was open by then, and by both, which is one entry, in between. The kernel side makes the entries
//! (`tracer-ebpf/src/seed.rs`).

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read as _},
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, Ebpf,
    maps::{HashMap, MapData, PerCpuArray},
    programs::{Iter, ProgramError, iter::IterLink},
};
use tracer_analysis::recording::{HookState, HookStatus};
use tracer_common::{
    counters::{self, hook, reason},
    record::Holder,
};

use super::{
    Settings,
    attach::{cause, innermost},
    holders,
    namespaces::{self, Namespace},
};

type HolderBytes = [u8; size_of::<Holder>()];
type HolderMap = HashMap<MapData, u64, HolderBytes>;

/// Holder of a socket that none was found for: it is on its way between processes, or in the hands of one
/// that may not be looked at.
const NOBODY: Holder = Holder { cgroup: 0, pid: 0, uid: 0, comm: [0; 16] };

/// Name of the hook, and of the program that is best.
pub(crate) const HOOK: &str = "task_file";
/// The program that is next best.
pub(crate) const NEXT: &str = "tcp";
/// The program for connections of MPTCP, which the best one does not find.
pub(crate) const MPTCP: &str = "tcp_mptcp";
/// What it records.
const FACT: &str = "connections open before the start";
/// How often each place is looked at. A socket that is passed on meanwhile, from a process that was still to
/// be looked at to one that was looked at already, is missed: once, but hardly again.
const LOOKS: usize = 2;
/// How often the holders of the sockets of a namespace are looked for; those without are then taken as they
/// are.
const SEARCHES: usize = 3;
/// Sockets whose holders are looked for at once: what fits in the map.
const HOLDERS: usize = 16_384;

/// Ways to find open connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SeedBy {
    /// The open files of all processes
    #[value(name = "task_file")]
    TaskFile,
    /// The sockets of each network namespace
    Tcp,
}

/// Makes entries for open connections, and says how that went. Tracing goes on without.
/// `btf`: the kernel's own types.
pub(crate) fn seed(ebpf: &mut Ebpf, btf: Option<&Btf>, settings: &Settings) -> HookStatus {
    let mut status = HookStatus::attached(HOOK, FACT);
    let Some(btf) = btf else {
        return unavailable(status, "iterators need the types that the kernel itself shows");
    };
    let by_files = match settings.seed_by {
        Some(SeedBy::Tcp) => Err("not wanted".to_owned()),
        _ => by_files(ebpf, btf),
    };
    let reason = match by_files {
        Ok(has_mptcp) => {
            status.program = Some("iter".into());
            if has_mptcp && let Err(error) = by_namespaces(ebpf, btf, settings, MPTCP) {
                status.reason = Some(format!("those of MPTCP are not recorded: {error:#}"));
            }
            return status;
        }
        Err(reason) => reason,
    };
    if settings.seed_by == Some(SeedBy::TaskFile) {
        return unavailable(status, &reason);
    }
    match by_namespaces(ebpf, btf, settings, NEXT) {
        Ok(looked_at) => {
            status.state = HookState::Fallback;
            status.program = Some("iter".into());
            status.reason = Some(format!("task_file: {reason}; instead: tcp, {looked_at}"));
            status
        }
        Err(error) => unavailable(status, &format!("task_file: {reason}; tcp: {error:#}")),
    }
}

fn unavailable(mut status: HookStatus, reason: &str) -> HookStatus {
    status.state = HookState::Unavailable;
    status.reason = Some(format!("{reason}; not recorded: connections open before the start"));
    status
}

/// Looks at the open files of all processes, in all namespaces. Says whether there are connections of MPTCP.
fn by_files(ebpf: &mut Ebpf, btf: &Btf) -> Result<bool, String> {
    load(ebpf, btf, HOOK, HOOK).map_err(|error| cause(&error))?;
    let mut has_mptcp = false;
    for _ in 0..LOOKS {
        let link = attach(ebpf, HOOK).map_err(|error| cause(&error))?;
        let file = link.into_file().map_err(|error| innermost(&error))?;
        let told = read_to_end(file).map_err(|error| format!("the iterator fails: {error}"))?;
        has_mptcp |= !told.is_empty();
        if has_lost(ebpf) {
            break;
        }
    }
    Ok(has_mptcp)
}

/// Looks at the sockets of each network namespace that can be found and entered, with `program`. Says what was
/// looked at.
fn by_namespaces(ebpf: &mut Ebpf, btf: &Btf, settings: &Settings, program: &str) -> Result<String> {
    let map = ebpf.take_map("HOLDERS").context("the BPF object has no map HOLDERS")?;
    let mut map: HolderMap = HashMap::try_from(map)?;
    load(ebpf, btf, program, NEXT).map_err(|error| anyhow!(cause(&error)))?;
    let found = namespaces::all(&settings.netns);
    let (mut looked_at, mut refused) = (0, None);
    for namespace in &found {
        match (0..LOOKS).try_for_each(|_| look_at(ebpf, &mut map, namespace, settings, program)) {
            Ok(()) => looked_at += 1,
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if looked_at == 0 => Err(error),
        Some(error) => Ok(format!(
            "in {looked_at} of {} network namespaces; others cannot be looked at: {error:#}",
            found.len()
        )),
        None => Ok(format!("in {looked_at} network namespaces")),
    }
}

/// Makes entries for the sockets of one namespace.
fn look_at(
    ebpf: &mut Ebpf,
    map: &mut HolderMap,
    namespace: &Namespace,
    settings: &Settings,
    program: &str,
) -> Result<()> {
    for search in 1..=SEARCHES {
        if has_lost(ebpf) {
            break;
        }
        let sockets = read_within(ebpf, namespace, program)?;
        let sockets = sockets.chunks_exact(8).filter_map(|it| it.try_into().ok());
        let sockets: HashSet<u64> = sockets.map(u64::from_ne_bytes).take(HOLDERS).collect();
        if sockets.is_empty() {
            break;
        }
        let mut holders = holders::of(&sockets, |holder| settings.let_through(holder));
        if search == SEARCHES && settings.let_through(&NOBODY) {
            for socket in &sockets {
                holders.entry(*socket).or_insert(NOBODY);
            }
        }
        for (socket, holder) in &holders {
            map.insert(socket, bytemuck::cast::<Holder, HolderBytes>(*holder), 0)?;
        }
        if !holders.is_empty() {
            read_within(ebpf, namespace, program)?;
        }
        for socket in holders.keys() {
            map.remove(socket)?;
        }
    }
    Ok(())
}

fn read_within(ebpf: &mut Ebpf, namespace: &Namespace, program: &str) -> Result<Vec<u8>> {
    let link = attach(ebpf, program).map_err(|error| anyhow!(cause(&error)))?;
    // The iterator belongs to the namespace in which it is opened, whoever reads it.
    let open = || link.into_file().map_err(|error| anyhow!(innermost(&error)));
    read_to_end(namespace.enter(open)?).context("the iterator fails")
}

/// Loads the program `name` for the iterator `kind`.
fn load(ebpf: &mut Ebpf, btf: &Btf, name: &str, kind: &str) -> Result<(), ProgramError> {
    program(ebpf, name)?.load(kind, btf)
}

fn attach(ebpf: &mut Ebpf, name: &str) -> Result<IterLink, ProgramError> {
    let program = program(ebpf, name)?;
    let id = program.attach()?;
    program.take_link(id)
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Iter, ProgramError> {
    ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()
}

/// Whether there was no room for a connection. It was counted: another look would count it again.
fn has_lost(ebpf: &Ebpf) -> bool {
    let Some(drops) = ebpf.map("DROPS") else { return false };
    let index = counters::index(hook::TASK_FILE, reason::CONNECTIONS_FULL);
    PerCpuArray::<_, u64>::try_from(drops)
        .and_then(|drops| drops.get(&index, 0))
        .is_ok_and(|counts| counts.iter().any(|count| *count > 0))
}

/// Reads what an iterator has to say; its program runs meanwhile.
fn read_to_end(mut file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match file.read_to_end(&mut bytes) {
            Ok(_) => return Ok(bytes),
            // After a million objects without a word the kernel lets the reader breathe.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
