//! The crates that are in the binary: what cargo resolved, without what only builds or tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::invocation::Invocation;
use crate::static_build::Arch;

/// The program, and the BPF programs that are embedded in it.
const ROOTS: [&str; 2] = ["tracer", "tracer-ebpf"];

/// One crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Crate {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Cargo's name for it, which no other crate has.
    pub(crate) id: String,
    /// Its licence, an SPDX expression.
    pub(crate) license: Option<String>,
    /// Where its sources are.
    pub(crate) directory: PathBuf,
    /// The SHA-256 sum of what the registry holds; none for crates of this workspace.
    pub(crate) checksum: Option<String>,
    /// The crates it uses, by cargo's names.
    pub(crate) uses: BTreeSet<String>,
}

impl Crate {
    /// Whether it belongs to this workspace.
    pub(crate) fn is_ours(&self) -> bool {
        self.checksum.is_none()
    }
}

/// All crates that are in the binary, by name and version.
#[derive(Clone, Debug)]
pub(crate) struct Crates(pub(crate) Vec<Crate>);

impl Crates {
    /// Those of a binary for `arch`.
    pub(crate) fn of(root: &Path, arch: Arch) -> Result<Self> {
        let question = Invocation::cargo()
            .args(["metadata", "--locked", "--format-version", "1", "--filter-platform"])
            .arg(format!("{}-unknown-linux-gnu", arch.name()))
            .arg("--manifest-path")
            .arg(root.join("Cargo.toml"));
        let answer = question
            .answer()
            .with_context(|| format!("`{question}` failed; run it by hand to see why"))?;
        let metadata: Value =
            serde_json::from_str(&answer).context("cargo's metadata is no JSON")?;
        Ok(Self::resolved(&metadata, &checksums(&super::read(&root.join("Cargo.lock"))?)))
    }

    fn resolved(metadata: &Value, checksums: &BTreeMap<(String, String), String>) -> Self {
        let packages: BTreeMap<&str, &Value> =
            list(&metadata["packages"]).iter().map(|it| (text(&it["id"]), it)).collect();
        let nodes: BTreeMap<&str, &Value> =
            list(&metadata["resolve"]["nodes"]).iter().map(|it| (text(&it["id"]), it)).collect();
        let is_root = |id: &&str| {
            packages
                .get(id)
                .is_some_and(|it| it["source"].is_null() && ROOTS.contains(&text(&it["name"])))
        };
        let mut open: Vec<&str> = packages.keys().copied().filter(is_root).collect();
        let mut seen: BTreeSet<&str> = open.iter().copied().collect();
        let mut crates = Vec::new();
        while let Some(id) = open.pop() {
            let (Some(package), Some(node)) = (packages.get(id), nodes.get(id)) else { continue };
            let uses: BTreeSet<&str> = linked(node)
                .filter(|id| packages.get(id).is_some_and(|it| !is_macro(it)))
                .collect();
            open.extend(uses.iter().filter(|id| seen.insert(id)));
            crates.push(described(package, &uses, checksums));
        }
        crates.sort();
        Self(crates)
    }
}

fn described(
    package: &Value,
    uses: &BTreeSet<&str>,
    checksums: &BTreeMap<(String, String), String>,
) -> Crate {
    let (name, version) = (text(&package["name"]).to_owned(), text(&package["version"]).to_owned());
    let manifest = Path::new(text(&package["manifest_path"]));
    Crate {
        checksum: checksums.get(&(name.clone(), version.clone())).cloned(),
        name,
        version,
        id: text(&package["id"]).to_owned(),
        // Some crates still write the form of old: `MIT/Apache-2.0`.
        license: package["license"].as_str().map(|it| it.replace('/', " OR ")),
        directory: manifest.parent().unwrap_or(manifest).to_owned(),
        uses: uses.iter().map(|id| (*id).to_owned()).collect(),
    }
}

/// The crates that are linked into the one of `node`: neither those that build it nor those that test it.
fn linked(node: &Value) -> impl Iterator<Item = &str> {
    let is_linked = |it: &&Value| list(&it["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    list(&node["deps"]).iter().filter(is_linked).map(|it| text(&it["pkg"]))
}

/// Whether a package runs in the compiler only.
fn is_macro(package: &Value) -> bool {
    let mut kinds = list(&package["targets"]).iter().flat_map(|it| list(&it["kind"]));
    kinds.any(|kind| kind == "proc-macro")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The sums in the text of `Cargo.lock`, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let packages = lock.split("[[package]]").skip(1);
    let field = |package: &str, name: &str| {
        let start = format!("{name} = \"");
        let value = package.lines().find_map(|line| line.strip_prefix(&start))?;
        value.strip_suffix('"').map(str::to_owned)
    };
    packages
        .filter_map(|it| {
            Some(((field(it, "name")?, field(it, "version")?), field(it, "checksum")?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sums_are_those_of_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \
                    \"b\"\nversion = \"2.0.0\"\nchecksum = \"00ff\"\n";
        let sums = checksums(lock);
        assert_eq!(sums.len(), 1);
        assert_eq!(sums[&("b".to_owned(), "2.0.0".to_owned())], "00ff");
    }

    #[test]
    fn only_what_is_linked_counts() {
        let package = |name: &str, kind: &str| {
            json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "source": null,
                   "manifest_path": format!("/{name}/Cargo.toml"), "targets": [{"kind": [kind]}]})
        };
        let uses =
            |name: &str, kind: Option<&str>| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [package("tracer", "bin"), package("linked", "lib"), package("below", "lib"),
                         package("derive", "proc-macro"), package("builds", "lib"), package("tests", "lib")],
            "resolve": {"nodes": [
                {"id": "tracer", "deps": [uses("linked", None), uses("derive", None),
                                          uses("builds", Some("build")), uses("tests", Some("dev"))]},
                {"id": "linked", "deps": [uses("below", None)]},
                {"id": "below", "deps": []}]}});
        let crates = Crates::resolved(&metadata, &BTreeMap::new()).0;
        let names: Vec<&str> = crates.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["below", "linked", "tracer"]);
        assert_eq!(crates[0].license.as_deref(), Some("MIT OR Apache-2.0"));
        assert_eq!(crates[2].uses, ["linked".to_owned()].into());
    }
}
