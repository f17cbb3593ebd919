//! Who holds a socket: the process that has it among its open files.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use tracer_common::record::Holder;

use super::load::command_name;

/// The holder of each of these sockets, which are named by inode number. Of several the one with the lowest process id that
/// `is_wanted`; those that have none are left out.
pub(super) fn of(
    sockets: &HashSet<u64>,
    is_wanted: impl Fn(&Holder) -> bool,
) -> HashMap<u64, Holder> {
    let cgroups = cgroup_mount();
    let mut found = HashMap::new();
    for pid in processes() {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let mut holder = None;
        let Ok(files) = fs::read_dir(process.join("fd")) else { continue };
        for file in files.flatten() {
            let target = fs::read_link(file.path()).unwrap_or_default();
            let Some(socket) = socket(&target).filter(|it| sockets.contains(it)) else { continue };
            let holder = holder.get_or_insert_with(|| describe(pid, &process, cgroups.as_deref()));
            if is_wanted(holder) {
                found.entry(socket).or_insert(*holder);
            }
        }
    }
    found
}

/// Every process, by id.
fn processes() -> Vec<u32> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> =
        names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// The inode number in `socket:[4711]`.
fn socket(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn describe(pid: u32, process: &Path, cgroups: Option<&Path>) -> Holder {
    let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
    let text = |name: &str| String::from_utf8_lossy(&read(name)).into_owned();
    let status = text("status");
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let cgroup = text("cgroup");
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"));
    let directory = path.zip(cgroups).and_then(|(path, mount)| mount.join(path).metadata().ok());
    Holder {
        cgroup: directory.map_or(0, |directory| directory.ino()),
        pid,
        uid: uid.split_whitespace().next().and_then(|uid| uid.parse().ok()).unwrap_or(u32::MAX),
        comm: command_name(text("comm").trim_end_matches('\n')),
    }
}

/// Where the hierarchy of cgroups v2 is mounted.
fn cgroup_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd as _};

    use super::*;

    #[test]
    fn own_socket_is_held_by_this_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let inode = socket(&link).unwrap();
        let sockets = HashSet::from([inode, u64::MAX]);
        let found = of(&sockets, |_| true);
        assert_eq!(found.len(), 1, "the other one does not exist");
        let holder = found[&inode];
        assert_eq!(holder.pid, std::process::id());
        assert_eq!(holder.uid, fs::metadata("/proc/self").unwrap().uid());
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(holder.comm, command_name(comm.trim_end()));
        assert!(of(&sockets, |holder| holder.pid != std::process::id()).is_empty());
    }

    #[test]
    fn only_sockets_have_a_number() {
        assert_eq!(socket(Path::new("socket:[4711]")), Some(4711));
        for other in ["pipe:[4711]", "/dev/null", "socket:[]", ""] {
            assert_eq!(socket(Path::new(other)), None);
        }
    }
}
