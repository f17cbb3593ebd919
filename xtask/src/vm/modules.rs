//! The kernel modules that the lab needs, each after those it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::invocation::Invocation;

/// Modules of the lab: its links, its firewalls, and the socket statistics of its ground truth. One that a kernel
/// has built in, or knows under another name, is no module there and is left out.
const WANTED: &[&str] = &[
    "veth",
    "tcp_diag",
    "nf_tables",
    "nft_ct",
    "nft_counter",
    "nft_chain_nat",
    "nft_limit",
    "nft_masq",
    "nft_nat",
    "nft_numgen",
    "nft_reject_inet",
    "nf_conntrack_netlink",
    "nfnetlink_cttimeout",
    "af_packet",
    "af_packet_diag",
];

/// A module, not compressed.
#[derive(Debug)]
pub(super) struct Module {
    /// Its file name.
    pub(super) name: String,
    /// Its content.
    pub(super) content: Vec<u8>,
}

/// The modules of the lab below `directory`, in the order in which they can be loaded.
pub(super) fn of_lab(directory: &Path) -> Result<Vec<Module>> {
    let files = files(directory)?;
    let mut order = Order { files: &files, seen: BTreeSet::new(), modules: Vec::new() };
    for name in WANTED {
        order.add(name)?;
    }
    ensure!(!order.modules.is_empty(), "no module of the lab in {}", directory.display());
    Ok(order.modules)
}

struct Order<'a> {
    files: &'a BTreeMap<String, PathBuf>,
    seen: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Order<'_> {
    /// Adds `name` after what it depends on.
    fn add(&mut self, name: &str) -> Result<()> {
        let Some(file) = self.files.get(name) else { return Ok(()) };
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let content = content(file)?;
        for dependency in dependencies(&content) {
            self.add(&dependency)?;
        }
        self.modules.push(Module { name: format!("{name}.ko"), content });
        Ok(())
    }
}

/// All modules below `directory`, by their names.
fn files(directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                directories.push(path);
            } else if let Some(name) = module_name(&path) {
                found.insert(name, path);
            }
        }
    }
    Ok(found)
}

/// The kernel's name of the module in the file `nf-tables.ko.xz`.
fn module_name(file: &Path) -> Option<String> {
    let (name, compression) = file.file_name()?.to_str()?.split_once(".ko")?;
    ["", ".xz", ".zst", ".gz"].contains(&compression).then(|| name.replace('-', "_"))
}

/// The module in `file`, without compression.
fn content(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(file).with_context(|| format!("cannot read {}", file.display())),
    };
    let call = Invocation::new(program).args(["-d", "-c"]).arg(file);
    let output = call
        .command()
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("`{call}` could not be started; is it installed?"))?;
    ensure!(output.status.success(), "`{call}` failed with {}", output.status);
    Ok(output.stdout)
}

/// The modules that `module` names in its section `.modinfo`, as `depends=a,b`.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module() {
        let module = b"\x7fELF...\0license=GPL\0depends=nf_conntrack,nf-tables\0name=nft_ct\0";
        assert_eq!(dependencies(module), ["nf_conntrack", "nf_tables"]);
        assert!(dependencies(b"\0depends=\0name=veth\0").is_empty());
        assert!(dependencies(b"nothing").is_empty());
    }

    #[test]
    fn names_of_modules() {
        assert_eq!(module_name(Path::new("/m/nf-tables.ko.xz")).as_deref(), Some("nf_tables"));
        assert_eq!(module_name(Path::new("/m/veth.ko")).as_deref(), Some("veth"));
        assert_eq!(module_name(Path::new("/m/modules.order")), None);
    }
}
