//! Where a process runs, as the path of its cgroup tells: in which container, in which systemd unit.
//!
//! Container runtimes name the cgroup after the container. The forms: the runtimes of Docker, Podman, containerd
//! and CRI-O with the cgroup driver `systemd` (a scope named after runtime and container) and `cgroupfs` (a
//! directory named after the container alone), LXC and Incus (`lxc.payload.NAME`), and systemd-machined
//! (`machine-NAME.scope`, `systemd-nspawn@NAME.service`). Units: systemd.unit(5).

use std::fmt;

/// What the path of a cgroup says about the processes in it.
///
/// Whoever owns a cgroup names what is below it. So below a unit nothing counts as a unit, and what is below the
/// manager of a user (`user@1000.service`) is told apart by [`user`](Self::user): a user may name a unit
/// `postfix.service`. What is in a container names itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin<'a> {
    /// The container, the innermost if they are nested: 64 hexadecimal digits, or its name as the path has
    /// it. `None` outside of containers, and in those that do not show in the path.
    pub container: Option<&'a str>,
    /// The systemd unit of the host, or of a systemd within the container. `None` if there is none, or only
    /// that which a runtime made for the container.
    pub unit: Option<&'a str>,
    /// The user whose systemd manager runs the unit or container; `None` if it is that of the system.
    pub user: Option<u32>,
    /// The path of the cgroup of the unit or container; empty if there is neither.
    pub cgroup: &'a str,
}

/// A unit in whose cgroup a cgroup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit<'a> {
    /// The user whose systemd manager runs it; `None` if it is that of the system.
    pub user: Option<u32>,
    /// Its name, with the suffix.
    pub name: &'a str,
    /// Whether it is in a container, which gave the name.
    pub is_contained: bool,
}

impl fmt::Display for Unit<'_> {
    /// As `--unit` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.user {
            Some(user) => write!(f, "user@{user}.service/{}", self.name),
            None => f.write_str(self.name),
        }
    }
}

/// Suffixes of units whose processes are in a cgroup of their own. Slices only hold others.
const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// Digits of the id of a container, everywhere but at Amazon ECS.
const ID: usize = 64;

/// Reads the path of a cgroup, from the root of the hierarchy.
pub fn origin(path: &str) -> Origin<'_> {
    let mut origin = Origin::default();
    for Directory { name, user, kind, path } in directories(path) {
        match kind {
            Kind::Container(container) => {
                let container = Some(container);
                origin = Origin { container, unit: None, user, cgroup: path };
            }
            Kind::Unit => origin = Origin { unit: Some(name), user, cgroup: path, ..origin },
            Kind::Slice | Kind::Other => {}
        }
    }
    origin
}

/// All units in whose cgroup the cgroup `path` is, slices and the scopes of containers included, the outermost
/// first.
pub fn units(path: &str) -> impl Iterator<Item = Unit<'_>> {
    let mut inside = false;
    directories(path).filter_map(move |Directory { name, user, kind, .. }| {
        let is_contained = inside;
        let is_unit = match kind {
            Kind::Unit | Kind::Slice => true,
            Kind::Container(_) => {
                inside = true;
                has_suffix(name, &UNITS)
            }
            Kind::Other => false,
        };
        is_unit.then_some(Unit { user, name, is_contained })
    })
}

/// All containers in whose cgroup the cgroup `path` is, the outermost first, each with the user whose systemd manager
/// runs it.
pub fn containers(path: &str) -> impl Iterator<Item = (Option<u32>, &str)> {
    directories(path).filter_map(|it| match it.kind {
        Kind::Container(container) => Some((it.user, container)),
        _ => None,
    })
}

/// The user whose systemd manager the unit `name` is: 1000 of `user@1000.service`.
pub fn managed_user(name: &str) -> Option<u32> {
    name.strip_prefix("user@")?.strip_suffix(".service")?.parse().ok()
}

/// Whether `name` ends as units do whose processes are in a cgroup of their own, or as slices.
pub fn is_unit(name: &str) -> bool {
    has_suffix(name, &UNITS) || has_suffix(name, &[".slice"])
}

/// One directory on the path of a cgroup.
struct Directory<'a> {
    name: &'a str,
    /// The path up to here.
    path: &'a str,
    /// The user in whose manager's cgroup it is.
    user: Option<u32>,
    kind: Kind<'a>,
}

/// What a directory is the cgroup of.
enum Kind<'a> {
    Container(&'a str),
    Unit,
    Slice,
    /// No unit, or what the owner of a unit calls one.
    Other,
}

fn directories(path: &str) -> impl Iterator<Item = Directory<'_>> {
    let (mut parent, mut end, mut in_unit, mut user) = ("", 0, false, None);
    path.split('/').map(move |name| {
        end += name.len();
        let here = &path[..end];
        end += 1; // the slash
        let outer = user;
        let kind = if let Some(container) = container(name, parent) {
            in_unit = false;
            Kind::Container(container)
        } else if in_unit {
            Kind::Other
        } else if has_suffix(name, &UNITS) {
            // Only the first: what is below is the user's own.
            let managed = managed_user(name).filter(|_| outer.is_none());
            (user, in_unit) = (outer.or(managed), managed.is_none());
            Kind::Unit
        } else if has_suffix(name, &[".slice"]) {
            Kind::Slice
        } else {
            Kind::Other
        };
        parent = name;
        Directory { name, path: here, user: outer, kind }
    })
}

fn has_suffix(name: &str, suffixes: &[&str]) -> bool {
    suffixes.iter().any(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
}

/// The container that `component`, a directory in `parent`, is the cgroup of.
fn container<'a>(component: &'a str, parent: &str) -> Option<&'a str> {
    if let Some(name) = component.strip_prefix("lxc.payload.") {
        return known(name);
    }
    if matches!(parent, "lxc" | "lxc.payload") {
        return known(component);
    }
    let scope = component.strip_suffix(".scope");
    if let (Some(name), "machine.slice") =
        (scope.and_then(|it| it.strip_prefix("machine-")), parent)
    {
        // libvirt registers virtual machines in the same way.
        return known(name).filter(|name| !name.starts_with("qemu"));
    }
    let nspawn = component.strip_prefix("systemd-nspawn@");
    if let Some(name) = nspawn.and_then(|it| it.strip_suffix(".service")) {
        return known(name);
    }
    // `docker-ID.scope`, `kubepods-pod123.slice:cri-containerd:ID`, `ID`.
    let name = scope.unwrap_or(component);
    let (runtime, id) = name.rsplit_once(['-', ':']).unwrap_or(("", name));
    // The process that watches over a container is outside of it.
    (is_id(id) && !runtime.ends_with("conmon")).then_some(id).or_else(|| task(component))
}

fn known(name: &str) -> Option<&str> {
    (!name.is_empty()).then_some(name)
}

fn is_id(text: &str) -> bool {
    text.len() == ID && is_hexadecimal(text)
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Amazon ECS on Fargate: 32 hexadecimal digits of the task, and a number.
fn task(component: &str) -> Option<&str> {
    let (task, number) = component.split_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (task.len() == 32 && is_hexadecimal(task) && is_number).then_some(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6df79a0a53f3a1ec1d7a0d0a6d8f3b2c9f5e4d3c2b1a09f8e7d6c5b4a3928170";

    fn check(path: &str, container: Option<&str>, unit: Option<&str>) {
        let path = path.replace("ID", ID);
        let container = container.map(|it| it.replace("ID", ID));
        let found = origin(&path);
        assert_eq!((found.container, found.unit), (container.as_deref(), unit), "{path}");
    }

    #[test]
    fn a_name_counts_only_if_its_owner_may_give_it() {
        let found = |path| {
            let Origin { unit, user, cgroup, .. } = origin(path);
            (unit.unwrap_or_default(), user, cgroup)
        };
        let systems = "/system.slice/postfix.service";
        assert_eq!(found(systems), ("postfix.service", None, systems));
        assert_eq!(found("/system.slice/postfix.service/worker").2, systems);
        // A user's own unit of that name.
        let users = "/user.slice/user-1000.slice/user@1000.service/app.slice/postfix.service";
        assert_eq!(found(users), ("postfix.service", Some(1000), users));
        // A user who names a cgroup as if it were another user's manager, or the system's.
        let nested = "/user.slice/user-1000.slice/user@1000.service/user@0.service/postfix.service";
        let (unit, user, _) = found(nested);
        assert_eq!((unit, user), ("user@0.service", Some(1000)));
        // A service that may make cgroups below its own.
        let delegated = "/system.slice/web.service/system.slice/postfix.service";
        assert_eq!(found(delegated), ("web.service", None, "/system.slice/web.service"));
        let manager = "/user.slice/user-1000.slice/user@1000.service";
        assert_eq!(found(manager), ("user@1000.service", None, manager));
        assert_eq!(found("/session-3.scope/x"), ("session-3.scope", None, "/session-3.scope"));
        let rootless = format!("{manager}/user.slice/libpod-{ID}.scope");
        let inside = format!("{rootless}/container/system.slice/postfix.service");
        assert_eq!(found(&inside), ("postfix.service", Some(1000), inside.as_str()));
        assert_eq!(containers(&inside).collect::<Vec<_>>(), [(Some(1000), ID)]);
    }

    #[test]
    fn containers_of_docker_and_podman() {
        let id = Some("ID");
        check("/system.slice/docker-ID.scope", id, None);
        check("/docker/ID", id, None);
        check("/docker/ID/system.slice/postfix.service", id, Some("postfix.service"));
        check("/machine.slice/libpod-ID.scope", id, None);
        check("/machine.slice/libpod-ID.scope/container", id, None);
        check("/libpod_parent/libpod-ID", id, None);
        let rootless =
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container";
        check(rootless, id, None);
        let pod = "/machine.slice/machine-libpod_pod_ID.slice/libpod-ID.scope/container";
        check(pod, id, None);
        let quadlet = "/system.slice/mail.service/libpod-payload-ID";
        check(quadlet, id, None);
    }

    #[test]
    fn who_watches_over_a_container_is_outside() {
        let conmon = format!("libpod-conmon-{ID}.scope");
        check("/machine.slice/libpod-conmon-ID.scope", None, Some(&conmon));
        let conmon = format!("crio-conmon-{ID}.scope");
        check("/kubepods.slice/crio-conmon-ID.scope", None, Some(&conmon));
        check("/lxc.monitor.mail", None, None);
    }

    #[test]
    fn containers_of_kubernetes() {
        let pod = "kubepods-burstable-pod0f6d5a2e_7d1b_4f3a_9d59_6f0c1c0f3b4e.slice";
        for runtime in ["cri-containerd", "crio", "docker"] {
            let path = format!("/kubepods.slice/kubepods-burstable.slice/{pod}/{runtime}-ID.scope");
            check(&path, Some("ID"), None);
        }
        check("/kubepods/burstable/pod0f6d5a2e-7d1b-4f3a-9d59-6f0c1c0f3b4e/ID", Some("ID"), None);
        let colons = format!("/system.slice/containerd.service/{pod}:cri-containerd:ID");
        check(&colons, Some("ID"), None);
        let nested =
            format!("/docker/{}/kubelet/kubepods/besteffort/pod7/ID", ID.replace('6', "7"));
        check(&nested, Some("ID"), None);
    }

    #[test]
    fn containers_with_names() {
        check("/lxc.payload.mail", Some("mail"), None);
        let service = "/lxc.payload.mail/system.slice/system-postfix.slice/postfix@-.service";
        check(service, Some("mail"), Some("postfix@-.service"));
        check("/lxc/mail/init.scope", Some("mail"), Some("init.scope"));
        check("/lxc.payload/mail", Some("mail"), None);
        check("/machine.slice/machine-mail.scope/payload", Some("mail"), None);
        let nspawn =
            "/machine.slice/systemd-nspawn@mail\\x2d1.service/payload/system.slice/exim4.service";
        check(nspawn, Some("mail\\x2d1"), Some("exim4.service"));
        let vm = "machine-qemu\\x2d1\\x2dmail.scope";
        check("/machine.slice/machine-qemu\\x2d1\\x2dmail.scope/libvirt/emulator", None, Some(vm));
        let task = "5e0a1b2c3d4e5f60718293a4b5c6d7e8-1234567890";
        check(
            "/ecs/5e0a1b2c3d4e5f60718293a4b5c6d7e8/5e0a1b2c3d4e5f60718293a4b5c6d7e8-1234567890",
            Some(task),
            None,
        );
    }

    #[test]
    fn units_of_the_host() {
        check("/", None, None);
        check("", None, None);
        check("/system.slice/postfix.service", None, Some("postfix.service"));
        check(
            "/system.slice/system-postfix.slice/postfix@-.service",
            None,
            Some("postfix@-.service"),
        );
        check("/system.slice", None, None);
        check("/user.slice/user-0.slice/session-3.scope", None, Some("session-3.scope"));
        let user = "/user.slice/user-1000.slice/user@1000.service/app.slice/mutt.service";
        check(user, None, Some("mutt.service"));
        check("/system.slice/postfix.service/worker", None, Some("postfix.service"));
        check("/system.slice/ssh.socket", None, Some("ssh.socket"));
    }

    #[test]
    fn what_only_looks_like_a_container() {
        let upper = ID.to_uppercase();
        check(&format!("/docker/{upper}"), None, None);
        check(&format!("/docker/{}", &ID[1..]), None, None);
        check("/lxc.payload.", None, None);
        check("/.service/.scope", None, None);
        check("/system.slice/a-1.service", None, Some("a-1.service"));
        check("//é/..", None, None);
    }
}
