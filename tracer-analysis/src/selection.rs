//! Which senders are wanted, by the names of their units and containers.

use std::{fmt, str::FromStr};

use crate::origin::{containers, is_unit, managed_user, units};

/// Digits of the id of a container from which on its begin names it.
const PREFIX: usize = 12;

/// Senders that are wanted: in one of the units, if any are named, and in one of the containers, if any are
/// named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Units; empty for all.
    pub units: Vec<UnitPattern>,
    /// Containers; empty for all.
    pub containers: Vec<ContainerPattern>,
}

impl Selection {
    /// Whether everything is wanted.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty() && self.containers.is_empty()
    }

    /// Which names count.
    pub fn names(&self) -> Names {
        if self.containers.is_empty() { Names::OfHost } else { Names::All }
    }

    /// Whether what runs in the cgroup `path` is wanted; `None` if that cannot be said, because the path is
    /// not known.
    pub fn selects(&self, path: Option<&str>) -> Option<bool> {
        if self.is_empty() {
            return Some(true);
        }
        path.map(|path| {
            (self.units.is_empty() || self.units.iter().any(|it| it.matches(path, self.names())))
                && (self.containers.is_empty() || self.containers.iter().any(|it| it.matches(path)))
        })
    }
}

/// A name, or a pattern with `*` and `?`, was given that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a name, like postfix.service, or a pattern with * and ?; what the systemd manager of a user runs \
     with that before it: user@1000.service/postfix.service"
)]
pub struct WrongPattern;

/// A name or a pattern, of what the manager of the system or that of a user runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    /// The user, if it is of a user's manager: names there are the user's own.
    user: Option<u32>,
    pattern: String,
}

impl Name {
    /// Whether it is that of what is called `name`, by the manager of `user` or of the system.
    fn is_of(&self, user: Option<u32>, name: &str) -> bool {
        self.user == user && fits(&self.pattern, name)
    }
}

impl FromStr for Name {
    type Err = WrongPattern;

    fn from_str(text: &str) -> Result<Self, WrongPattern> {
        let (user, pattern) = match text.split_once('/') {
            Some((manager, pattern)) => (Some(managed_user(manager).ok_or(WrongPattern)?), pattern),
            None => (None, text),
        };
        let good = !pattern.is_empty() && !pattern.contains('/');
        good.then(|| Self { user, pattern: pattern.to_owned() }).ok_or(WrongPattern)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = self.user {
            write!(f, "user@{user}.service/")?;
        }
        f.write_str(&self.pattern)
    }
}

/// Which names of units count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Those that a systemd manager of the host gave.
    OfHost,
    /// Those in containers, too: the containers that are wanted are named.
    All,
}

/// A systemd unit by name, or units by a pattern. `user@1000.service/NAME` is one of the user's manager; without, it is
/// one of the system's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPattern(Name);

impl UnitPattern {
    /// Whether the cgroup `path` is that of such a unit, or below it.
    pub fn matches(&self, path: &str, names: Names) -> bool {
        let mut units = units(path).filter(|unit| names == Names::All || !unit.is_contained);
        units.any(|unit| self.0.is_of(unit.user, unit.name))
    }

    /// The begin of the name, without instance and suffix; for names that are alike.
    pub fn stem(&self) -> &str {
        self.0.pattern.split(['@', '.', '*', '?']).next().unwrap_or_default()
    }
}

impl FromStr for UnitPattern {
    type Err = WrongPattern;

    /// As systemctl(1) does, `postfix` stands for `postfix.service`.
    fn from_str(text: &str) -> Result<Self, WrongPattern> {
        let mut name: Name = text.parse()?;
        if !name.pattern.contains(['*', '?']) && !is_unit(&name.pattern) {
            name.pattern.push_str(".service");
        }
        Ok(Self(name))
    }
}

impl fmt::Display for UnitPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A container by name or id, or containers by a pattern. Twelve digits or more may be the begin of an id. That of a
/// user's manager is named as a [unit](UnitPattern) is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPattern(Name);

impl ContainerPattern {
    /// Whether the cgroup `path` is that of such a container, or below it.
    pub fn matches(&self, path: &str) -> bool {
        let Name { user, pattern } = &self.0;
        let is_begin =
            pattern.len() >= PREFIX && pattern.bytes().all(|byte| byte.is_ascii_hexdigit());
        containers(path).any(|(of, container)| {
            self.0.is_of(of, container)
                || is_begin
                    && of == *user
                    && container.len() == 64
                    && container.starts_with(pattern.as_str())
        })
    }
}

impl FromStr for ContainerPattern {
    type Err = WrongPattern;

    fn from_str(text: &str) -> Result<Self, WrongPattern> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ContainerPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether `name` is what `pattern` says: `*` is any number of characters, `?` any one. A backslash is one:
/// names of units have them. Takes time in proportion to the product of the lengths.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut of) = (0, 0);
    // Where to go on if the last star has to take one byte more.
    let mut star = None;
    while of < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[of] => (at, of) = (at + 1, of + 1),
            _ => {
                let Some((begin, taken)) = star else { return false };
                star = Some((begin, taken + 1));
                (at, of) = (begin + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6df79a0a53f3a1ec1d7a0d0a6d8f3b2c9f5e4d3c2b1a09f8e7d6c5b4a3928170";

    fn unit(pattern: &str, path: &str) -> bool {
        pattern.parse::<UnitPattern>().unwrap().matches(path, Names::OfHost)
    }

    fn container(pattern: &str, path: &str) -> bool {
        pattern.parse::<ContainerPattern>().unwrap().matches(path)
    }

    #[test]
    fn units_by_name_and_pattern() {
        let path = "/system.slice/system-postfix.slice/postfix@-.service/worker";
        for yes in ["postfix@-", "postfix@-.service", "postfix@*", "p*x@?.service", "system.slice"]
        {
            assert!(unit(yes, path), "{yes}");
        }
        for no in ["postfix", "postfix@", "postfix@-.scope", "worker", "work*", "-.service", "?"] {
            assert!(!unit(no, path), "{no}");
        }
        let quadlet = format!("/system.slice/mail.service/libpod-payload-{ID}");
        assert!(unit("mail", &quadlet), "a container that a unit runs is in the unit");
        assert!(unit("a\\x2db", "/system.slice/a\\x2db.service"));
        assert!(unit("session-3.scope", "/user.slice/session-3.scope"));
        assert_eq!("postfix@-.service".parse::<UnitPattern>().unwrap().stem(), "postfix");
    }

    #[test]
    fn containers_by_name_pattern_and_begin_of_the_id() {
        let path = format!("/lxc.payload.mail/system.slice/docker-{ID}.scope");
        for yes in [ID, &ID[..12], &ID[..13], "6df79a0a*", "mail", "m*"] {
            assert!(container(yes, &path), "{yes}");
        }
        for no in [&ID[..11], &ID[1..], "6df79a0a53f4", "mai", "docker*"] {
            assert!(!container(no, &path), "{no}");
        }
        assert!(container("abcdefabcdef", "/lxc.payload.abcdefabcdef"));
        assert!(!container("abcdefabcdef", "/lxc.payload.abcdefabcdef0"), "names are whole");
    }

    #[test]
    fn what_a_user_named_is_asked_for_with_the_user() {
        let manager = "/user.slice/user-1000.slice/user@1000.service";
        let own = format!("{manager}/app.slice/postfix.service");
        for yes in ["user@1000.service/postfix", "user@1000.service/p*", "user@1000", "user.slice"]
        {
            assert!(unit(yes, &own), "{yes}");
        }
        for no in ["postfix", "post*", "*.service/postfix", "user@1001.service/postfix"] {
            assert!(
                !no.parse::<UnitPattern>().is_ok_and(|it| it.matches(&own, Names::All)),
                "{no}"
            );
        }
        for own in
            ["postfix.service", "lxc.payload.x/postfix.service", "lxc.payload.x/y/postfix.service"]
        {
            let path = format!("/system.slice/web.service/{own}");
            assert!(!unit("postfix", &path) && unit("web", &path), "it named that itself: {own}");
        }
        let rootless = format!("{manager}/user.slice/libpod-{ID}.scope");
        assert!(!container(&ID[..12], &rootless));
        assert!(container(&format!("user@1000.service/{}", &ID[..12]), &rootless));
        let text = "user@1000.service/postfix.service";
        assert_eq!(text.parse::<UnitPattern>().unwrap().to_string(), text);
    }

    #[test]
    fn both_must_hold() {
        let select = |units: &[&str], containers: &[&str]| Selection {
            units: units.iter().map(|it| it.parse().unwrap()).collect(),
            containers: containers.iter().map(|it| it.parse().unwrap()).collect(),
        };
        let path = Some("/lxc.payload.mail/system.slice/exim4.service");
        assert_eq!(select(&[], &[]).selects(None), Some(true));
        assert_eq!(select(&["exim4"], &[]).selects(None), None, "not known");
        assert_eq!(select(&["postfix", "exim4"], &[]).selects(path), Some(false), "of a container");
        assert_eq!(select(&["postfix", "exim4"], &["mail"]).selects(path), Some(true));
        assert_eq!(select(&["exim4"], &["mail"]).selects(path), Some(true));
        assert_eq!(select(&["exim4"], &["web"]).selects(path), Some(false));
        assert_eq!(select(&["postfix"], &["mail"]).selects(path), Some(false));
    }

    #[test]
    fn what_cannot_be_a_name() {
        let wrong = ["", "/", "/system.slice/postfix.service", "user@1000.service/", "x/postfix"];
        for wrong in wrong {
            assert_eq!(wrong.parse::<UnitPattern>(), Err(WrongPattern));
            assert_eq!(wrong.parse::<ContainerPattern>(), Err(WrongPattern));
        }
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("**", "x", true),
            ("?", "", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("*a", "aaaa", true),
            ("a", "ab", false),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
        let hard = format!("{}b", "*a".repeat(50));
        assert!(!fits(&hard, &"a".repeat(255)), "and soon");
    }
}
