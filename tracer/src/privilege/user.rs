//! The user as whom a trace goes on that root began.

use std::{fmt, fs, str::FromStr};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::prctl,
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

/// Where users are listed. The C library's own way would load further libraries into a static binary.
const USERS: &str = "/etc/passwd";
/// Taken if nobody else is named: the service's own user, or the one who owns nothing.
const USUAL: [&str; 2] = ["smtptrace", "nobody"];
/// `nobody` where no user is listed: what the kernel shows for users that it cannot name.
const OVERFLOW: u32 = 65_534;

/// What `--user` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserSelector {
    name: String,
    user: User,
}

/// Ids of a user and of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    uid: u32,
    gid: u32,
}

impl FromStr for UserSelector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let listed = fs::read_to_string(USERS).unwrap_or_default();
        let user = find(&listed, text).ok_or_else(|| {
            format!("no such user in {USERS}; name one of them, or numbers as UID:GID")
        })?;
        Ok(Self { name: text.to_owned(), user })
    }
}

impl fmt::Display for UserSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl User {
    /// The one that was `chosen`, or else the usual one. `None` if this process is to stay as it is: it is not
    /// root's, or `--user root` says so.
    pub(crate) fn to_become(chosen: Option<&UserSelector>) -> Option<Self> {
        let user = match chosen {
            Some(chosen) => chosen.user,
            None => Self::usual(&fs::read_to_string(USERS).unwrap_or_default()),
        };
        (Uid::effective().is_root() && user.uid != 0).then_some(user)
    }

    fn usual(listed: &str) -> Self {
        let found = USUAL.iter().find_map(|name| find(listed, name).filter(|it| it.uid != 0));
        found.unwrap_or(Self { uid: OVERFLOW, gid: OVERFLOW })
    }

    /// Makes this process that user's, in that group only. With `keep`, permitted capabilities outlast it.
    pub(super) fn become_it(self, keep: bool) -> Result<()> {
        let what = || format!("cannot go on as user {} with group {}", self.uid, self.gid);
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        prctl::set_keepcaps(keep).with_context(what)?;
        setgroups(&[]).with_context(what)?;
        setresgid(gid, gid, gid).with_context(what)?;
        setresuid(uid, uid, uid).with_context(what)?;
        prctl::set_keepcaps(false).with_context(what)?;
        if setresuid(uid, Uid::from_raw(0), uid).is_ok() {
            bail!("{}: it could be undone", what());
        }
        Ok(())
    }
}

/// The user of this name in the lines of passwd(5), or of these numbers.
fn find(listed: &str, name: &str) -> Option<User> {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        let (uid, gid) = name.split_once(':').unwrap_or((name, name));
        return valid(uid, gid);
    }
    listed.lines().find_map(|line| {
        let mut fields = line.split(':');
        let mut field = || fields.next();
        let (listed, _, uid, gid) = (field()?, field()?, field()?, field()?);
        (listed == name && !name.is_empty()).then(|| valid(uid, gid))?
    })
}

/// The last number stands for no user in the calls that set ids.
fn valid(uid: &str, gid: &str) -> Option<User> {
    let number = |text: &str| text.parse().ok().filter(|it| *it != u32::MAX);
    Some(User { uid: number(uid)?, gid: number(gid)? })
}

#[cfg(test)]
mod tests {
    use caps::CapSet;

    use super::*;
    use crate::privilege::{
        capabilities,
        process::{End, Process},
    };

    const LISTED: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533::/:/x\nbad:x:a:b\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(find(LISTED, "root"), Some(User { uid: 0, gid: 0 }));
        assert_eq!(find(LISTED, "nobody"), Some(User { uid: 65_534, gid: 65_533 }));
        assert_eq!(find(LISTED, "12:34"), Some(User { uid: 12, gid: 34 }));
        assert_eq!(find(LISTED, "12"), Some(User { uid: 12, gid: 12 }));
        for name in ["bad", "none", "", "x", "4294967295", "1:x", "-1"] {
            assert_eq!(find(LISTED, name), None, "{name}");
        }
    }

    #[test]
    fn the_usual_user_is_never_root() {
        assert_eq!(User::usual(LISTED), User { uid: 65_534, gid: 65_533 });
        let own = format!("{LISTED}smtptrace:x:990:991::/:/x\n");
        assert_eq!(User::usual(&own), User { uid: 990, gid: 991 });
        assert_eq!(User::usual("smtptrace:x:0:0::/:/x").uid, OVERFLOW);
        assert_eq!(User::usual("").uid, OVERFLOW);
    }

    /// As on kernels that let nobody without `CAP_BPF` read a map.
    #[test]
    fn a_capability_outlasts_the_change_only_if_it_is_kept() {
        if !Uid::effective().is_root() {
            ::tests::skip!("not root: nobody else can become another user");
        }
        let nobody = User { uid: OVERFLOW, gid: OVERFLOW };
        for kept in [capabilities::MAP_ACCESS, &[]] {
            let process = Process::start(&[], || {
                let left = capabilities::keep_only(kept, Some(nobody)).unwrap_or_default();
                let ids = (Uid::effective().as_raw(), Gid::effective().as_raw());
                let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
                ids == (OVERFLOW, OVERFLOW)
                    && nix::unistd::getgroups().is_ok_and(|groups| groups.is_empty())
                    && left.len() == kept.len()
                    && effective.len() == kept.len()
                    && setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_err()
            });
            assert_eq!(process.unwrap().end(), End::Done, "{} kept", kept.len());
        }
    }
}
