//! Packages of Debian suites, fetched by an apt with lists, state and cache of its own: the sources and the
//! packages of this machine stay as they are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::invocation::Invocation;
use crate::machine;
use crate::static_build::Arch;

/// Debian's keys, of `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Variable with the address of a mirror of Debian, for machines whose own sources are not Debian's. That of
/// security updates is the same with `-security` behind it.
const MIRROR: &str = "SMTPTRACE_DEBIAN_MIRROR";

/// One suite for one architecture.
#[derive(Debug)]
pub(super) struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// Fetches the list of packages of `suite` for `arch`; keeps it below `directory`.
    ///
    /// # Errors
    /// If there is no apt, no key of Debian, no network, or the suite is no longer there.
    pub(super) fn open(directory: &Path, suite: &str, arch: Arch) -> Result<Self> {
        ensure!(machine::find_program("apt-get").is_some(), "there is no apt-get");
        ensure!(
            Path::new(KEYRING).is_file(),
            "there is no {KEYRING}; install debian-archive-keyring"
        );
        let arch = arch.debian();
        let directory = directory.join(format!("{suite}-{arch}"));
        for part in
            ["lists/partial", "cache/archives/partial", "etc/parts", "etc/preferences.d", "state"]
        {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let acquire = Invocation::new("apt-config").args(["dump", "Acquire"]).answer();
        write(&directory.join("status"), "")?;
        write(&directory.join("etc/sources.list"), &source(suite)?)?;
        write(&directory.join("apt.conf"), &configuration(&directory, arch, acquire.as_deref()))?;
        let archive = Self { directory };
        archive
            .apt_get(&["-o", "APT::Update::Error-Mode=any", "update"])
            .run(&archive.directory)
            .with_context(|| format!("the packages of {suite} for {arch} cannot be listed"))?;
        Ok(archive)
    }

    /// The packages of the kernel that the metapackage `meta` stands for: first the one with the name of the kernel, then
    /// those that hold its files where that one does not.
    pub(super) fn kernel(&self, meta: &str) -> Result<Vec<String>> {
        let images = self.depends(meta, &["linux-image-"])?;
        let image = images.first().with_context(|| format!("{meta} names no kernel"))?;
        let parts = self.depends(image, &["linux-binary-", "linux-modules-"])?;
        Ok([vec![image.clone()], parts].concat())
    }

    /// Those packages that `package` depends on whose names have one of these beginnings.
    fn depends(&self, package: &str, beginnings: &[&str]) -> Result<Vec<String>> {
        let question = self.apt("apt-cache").args(["depends", "--important", package]);
        let answer = question.answer().with_context(|| format!("there is no package {package}"))?;
        Ok(depends(&answer, beginnings))
    }

    /// Fetches `packages` alone and returns the files.
    pub(super) fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>> {
        let place = self.directory.join("packages");
        renew(&place)?;
        self.apt_get(&["download"]).args(packages).run(&place)?;
        let files = files(&place)?;
        ensure!(files.len() == packages.len(), "apt downloaded only {files:?}");
        Ok(files)
    }

    /// Fetches `wanted` and all they need, and returns the files.
    pub(super) fn download_whole(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let options = ["-y", "--no-install-recommends", "--download-only", "install"];
        self.apt_get(&options).args(wanted).run(&self.directory)?;
        files(&self.directory.join("cache/archives"))
    }

    /// A call of one of apt's programs that knows nothing but this suite.
    fn apt(&self, program: &str) -> Invocation {
        Invocation::new(program)
            .env("LC_ALL", "C")
            .env("APT_CONFIG", self.directory.join("apt.conf"))
    }

    fn apt_get(&self, arguments: &[&str]) -> Invocation {
        self.apt("apt-get").arg("-qq").args(arguments)
    }
}

/// Unpacks packages into `root`, over what is there.
pub(super) fn unpack(packages: &[PathBuf], root: &Path) -> Result<()> {
    fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
    for package in packages {
        Invocation::new("dpkg").arg("-x").arg(package).arg(root).run(root)?;
    }
    Ok(())
}

/// An empty directory at `place`.
pub(super) fn renew(place: &Path) -> Result<()> {
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("cannot remove {}", place.display()))?;
    }
    fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The packages in `directory`.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "deb"));
    files.sort();
    Ok(files)
}

/// The line of the list of sources for `suite`, from the mirror that this machine uses itself.
fn source(suite: &str) -> Result<String> {
    let targets = Invocation::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
        .answer()
        .unwrap_or_default();
    let name = if suite.ends_with("-security") { "debian-security" } else { "debian" };
    let own = env::var(MIRROR).ok();
    let own = own.map(|address| address + name.trim_start_matches("debian"));
    let mirror = own.as_deref().or_else(|| mirror(&targets, name)).with_context(|| {
        format!(
            "the sources of this machine's apt have no address that ends in {name}: set {MIRROR} to that \
             of a mirror of Debian"
        )
    })?;
    Ok(format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))
}

/// Among the addresses of the machine's sources, one a line, the one that ends in `name`.
fn mirror<'a>(targets: &'a str, name: &str) -> Option<&'a str> {
    let mut addresses = targets.lines().map(|line| line.trim().trim_end_matches('/'));
    addresses.find(|address| address.rsplit('/').next() == Some(name))
}

/// Everything in `directory`; of the machine's configuration only how it fetches (proxies).
fn configuration(directory: &Path, arch: &str, acquire: Option<&str>) -> String {
    let directory = directory.display();
    format!(
        "{}\n\
         Dir \"{directory}\";\n\
         Dir::Etc \"etc\";\n\
         Dir::Etc::main \"none\";\n\
         Dir::Etc::parts \"parts\";\n\
         Dir::Etc::sourcelist \"sources.list\";\n\
         Dir::Etc::sourceparts \"parts\";\n\
         Dir::State \"state\";\n\
         Dir::State::lists \"{directory}/lists\";\n\
         Dir::State::status \"{directory}/status\";\n\
         Dir::Cache \"cache\";\n\
         #clear APT::Architectures;\n\
         APT::Architecture \"{arch}\";\n\
         APT::Architectures {{ \"{arch}\"; }};\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n",
        acquire.unwrap_or_default()
    )
}

/// The packages in the output of `apt-cache depends` whose names have one of these beginnings.
fn depends(answer: &str, beginnings: &[&str]) -> Vec<String> {
    let packages = answer.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let wanted = packages.filter(|name| beginnings.iter().any(|it| name.starts_with(it)));
    wanted.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_mirror_is_taken() {
        let targets = "http://mirror.example/debian-security/\nhttps://mirror.example/debian/\n";
        assert_eq!(mirror(targets, "debian"), Some("https://mirror.example/debian"));
        assert_eq!(
            mirror(targets, "debian-security"),
            Some("http://mirror.example/debian-security")
        );
        assert_eq!(mirror("http://archive.example/ubuntu/\n", "debian"), None);
    }

    #[test]
    fn packages_are_picked_by_their_beginning() {
        let answer = "linux-image-cloud-amd64\n  Depends: linux-base-cloud-amd64\n  \
                      Depends: linux-image-6.1.0-56-cloud-amd64\n  Breaks: linux-image-old\n";
        assert_eq!(depends(answer, &["linux-image-"]), ["linux-image-6.1.0-56-cloud-amd64"]);
        assert!(depends(answer, &["linux-binary-"]).is_empty());
    }

    #[test]
    fn nothing_of_the_machine_but_its_proxies() {
        let proxy = "Acquire::http::Proxy \"http://proxy.example:3128\";";
        let text = configuration(Path::new("/t/apt"), "arm64", Some(proxy));
        assert!(text.starts_with(proxy), "{text}");
        assert!(text.contains("Dir::State::status \"/t/apt/status\";"), "{text}");
        assert!(!text.contains("/etc/apt"), "{text}");
    }
}
