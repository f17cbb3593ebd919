//! The first and only file system of a virtual machine.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::archive::{self, Archive};
use super::cpio::Cpio;
use super::modules::{self, Module};
use super::scenarios::Scenario;
use crate::static_build::Arch;

/// The suite that the programs of the lab are from.
const SUITE: &str = "bookworm";
/// What the lab calls.
const PACKAGES: &[&str] = &["iproute2", "nftables", "tcpdump", "dash", "coreutils", "util-linux"];
/// What of those packages no test needs, as beginnings of paths.
const LEFT_OUT: &[&str] = &["/usr/share/", "/var/", "/boot/"];
/// The users that programs ask for.
const USERS: &str = "root:x:0:0:root:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n";
/// And their groups.
const GROUPS: &str = "root:x:0:\nnogroup:x:65534:\n";
/// What one test program may take in a machine without hardware of its own.
const LIMIT_SECONDS: u32 = 1200;

/// What a machine is made of.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    /// smtptrace, static.
    pub(super) tracer: &'a Path,
    /// The test programs and what they start, static.
    pub(super) tests: &'a [PathBuf],
    /// Where `lab-session` was built: test programs know it by that path.
    pub(super) session: &'a Path,
    /// The programs of the lab, unpacked.
    pub(super) userland: &'a Path,
    /// The directory of the kernel's modules.
    pub(super) modules: &'a Path,
    /// What runs: modules, each with a beginning of the names of its tests.
    pub(super) runs: &'a [(&'a Scenario, String)],
}

/// Unpacks the programs of the lab for `arch` below `directory`, at the first time only, and says where.
pub(super) fn userland(directory: &Path, arch: Arch) -> Result<PathBuf> {
    let root = directory.join("userland").join(arch.name());
    let stamp = root.with_extension("unpacked");
    let wanted = PACKAGES.join("\n");
    if !fs::read_to_string(&stamp).is_ok_and(|unpacked| unpacked == wanted) {
        eprintln!("xtask: fetching {} of Debian {SUITE} for {}", PACKAGES.join(", "), arch.name());
        let packages =
            Archive::open(&directory.join("apt"), SUITE, arch)?.download_whole(PACKAGES)?;
        archive::renew(&root)?;
        archive::unpack(&packages, &root)?;
        fs::write(&stamp, &wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    }
    Ok(root)
}

/// Writes the file system to `file`.
pub(super) fn write(contents: &Contents<'_>, file: &Path) -> Result<()> {
    let out = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    let mut cpio = Cpio::new(BufWriter::new(out));
    add(contents, &mut cpio)?;
    let mut out = cpio.finish().context("end of the archive")?;
    out.flush().with_context(|| format!("cannot write {}", file.display()))
}

fn add(contents: &Contents<'_>, cpio: &mut Cpio<BufWriter<File>>) -> Result<()> {
    cpio.device("/dev/console", (5, 1))?;
    for directory in ["/proc", "/sys", "/run", "/tmp", "/etc"] {
        cpio.directory(directory)?;
    }
    cpio.link("/var/run", Path::new("/run"))?;
    add_tree(cpio, contents.userland, contents.userland)?;
    cpio.file("/etc/passwd", USERS.as_bytes())?;
    cpio.file("/etc/group", GROUPS.as_bytes())?;
    let modules = modules::of_lab(contents.modules)?;
    for Module { name, content } in &modules {
        cpio.file(&format!("/vm/modules/{name}"), content)?;
    }
    add_program(cpio, "/vm/smtptrace", contents.tracer)?;
    cpio.link(&contents.session.to_string_lossy(), Path::new("/vm/tests/lab-session"))?;
    for program in contents.tests {
        let name = name(program);
        let path = if name == "guest-init" { "/init".into() } else { format!("/vm/tests/{name}") };
        add_program(cpio, &path, program)?;
    }
    cpio.file("/vm/plan", plan(&modules, contents.runs).as_bytes())?;
    Ok(())
}

fn add_program(cpio: &mut Cpio<BufWriter<File>>, path: &str, program: &Path) -> Result<()> {
    let content =
        fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    Ok(cpio.file(path, &content)?)
}

/// Adds what is in `directory`, which is `root` or below it.
fn add_tree(cpio: &mut Cpio<BufWriter<File>>, root: &Path, directory: &Path) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries.flatten() {
        let source = entry.path();
        let path = format!("/{}", source.strip_prefix(root)?.display());
        let kind = entry.file_type().with_context(|| format!("cannot look at {path}"))?;
        if LEFT_OUT.iter().any(|part| format!("{path}/").starts_with(part)) {
            continue;
        }
        if kind.is_symlink() {
            cpio.link(&path, &fs::read_link(&source)?)?;
        } else if kind.is_dir() {
            cpio.directory(&path)?;
            add_tree(cpio, root, &source)?;
        } else {
            add_program(cpio, &path, &source)?;
        }
    }
    Ok(())
}

/// The name of a test program: cargo appends a hash to it.
pub(super) fn name(program: &Path) -> String {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()) => {
            name.to_owned()
        }
        _ => name,
    }
}

/// What the first process does, as `guest-init` reads it.
fn plan(modules: &[Module], runs: &[(&Scenario, String)]) -> String {
    let mut lines: Vec<String> =
        modules.iter().map(|module| format!("module\t/vm/modules/{}", module.name)).collect();
    lines.push("hooks".into());
    for (Scenario { module, without, .. }, filter) in runs {
        let mut line = format!("run\t{module}\t{LIMIT_SECONDS}\t/vm/tests/e2e\t{filter}");
        line.push_str("\t--test-threads=1\t--nocapture");
        for (word, _) in *without {
            line.push_str("\t--skip\t");
            line.push_str(word);
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_lose_their_hash() {
        assert_eq!(name(Path::new("/t/deps/e2e-0123456789abcdef")), "e2e");
        assert_eq!(name(Path::new("/t/lab-session")), "lab-session");
        assert_eq!(name(Path::new("/t/guest-init")), "guest-init");
    }

    #[test]
    fn the_plan_loads_modules_and_runs_tests() {
        let modules = [Module { name: "veth.ko".into(), content: Vec::new() }];
        let scenario =
            Scenario { module: "endings", without: &[("killed", "no Postfix")], is_slow: false };
        let plan = plan(&modules, &[(&scenario, "endings::".into())]);
        assert_eq!(
            plan,
            "module\t/vm/modules/veth.ko\nhooks\nrun\tendings\t1200\t/vm/tests/e2e\tendings::\t\
             --test-threads=1\t--nocapture\t--skip\tkilled\n"
        );
    }
}
