//! Senders that are wanted, and of which there is no cgroup.

use std::{collections::BTreeSet, fmt};

use tracer_analysis::{origin::units, selection::Selection};

use crate::sink::safe;

/// Names that are suggested at most.
const SUGGESTED: usize = 4;

/// A unit or a container that is wanted and not there. It may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Absent {
    /// `unit` or `container`.
    what: &'static str,
    name: String,
    /// Units that are there, and have a name like it.
    alike: Vec<String>,
}

/// Those of `wanted` that none of the cgroups `paths` belongs to.
pub(super) fn absent(wanted: &Selection, paths: &[&str]) -> Vec<Absent> {
    let units = wanted
        .units
        .iter()
        .filter(|unit| !paths.iter().any(|path| unit.matches(path, wanted.names())));
    let units = units.map(|unit| Absent {
        what: "unit",
        name: unit.to_string(),
        alike: alike(unit.stem(), paths),
    });
    let containers = wanted.containers.iter();
    let containers = containers.filter(|it| !paths.iter().any(|path| it.matches(path)));
    units
        .chain(containers.map(|container| Absent {
            what: "container",
            name: container.to_string(),
            alike: Vec::new(),
        }))
        .collect()
}

fn alike(stem: &str, paths: &[&str]) -> Vec<String> {
    let all: BTreeSet<_> = paths.iter().flat_map(|path| units(path)).collect();
    let alike = all.into_iter().filter(|unit| !stem.is_empty() && unit.name.contains(stem));
    alike.take(SUGGESTED).map(|unit| unit.to_string()).collect()
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {} {} runs now; it is recorded when it does", self.what, safe(&self.name))?;
        if !self.alike.is_empty() {
            let alike: Vec<String> = self.alike.iter().map(|name| safe(name)).collect();
            write!(f, " (there is: {})", alike.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told_with_names_like_it() {
        let wanted = Selection {
            units: ["postfix", "exim4", "nullmailer"].map(|it| it.parse().unwrap()).to_vec(),
            containers: ["mail", "web"].map(|it| it.parse().unwrap()).to_vec(),
        };
        let paths = [
            "/system.slice/system-postfix.slice/postfix@-.service",
            "/system.slice/exim4.service",
            "/lxc.payload.web",
        ];
        let told: Vec<String> = absent(&wanted, &paths).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "no unit postfix.service runs now; it is recorded when it does \
                 (there is: postfix@-.service, system-postfix.slice)",
                "no unit nullmailer.service runs now; it is recorded when it does",
                "no container mail runs now; it is recorded when it does",
            ]
        );
    }
}
