//! From what was found on a machine to the steps that bring in what is missing: pure functions.

pub(crate) mod cross;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::apt;
use crate::invocation::Invocation;
use crate::machine::Privilege;
use crate::toolchain::{BPF_TARGET, BpfCompiler, LINKER_VERSION, NEXTEST_VERSION, Version};

/// Debian's compiler with a prebuilt `core` for BPF.
pub(crate) const COMPILER_PACKAGES: &[&str] =
    &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// What bpf-linker is built against.
pub(crate) const LLVM_PACKAGES: &[&str] =
    &["llvm-22-dev", "libpolly-22-dev", "clang-22", "zlib1g-dev", "libzstd-dev", "libxml2-dev"];

/// Debian's clippy for the compiler of [`COMPILER_PACKAGES`].
pub(crate) const CLIPPY_PACKAGE: &str = "rust-web-clippy";

/// Where [`LLVM_PACKAGES`] put LLVM.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// The version of cargo-deny that is installed where there is none.
const DENY_VERSION: &str = "0.20.2";

/// The programs the tests call, each with the Debian package that brings it.
pub(crate) const TEST_PROGRAMS: &[(&str, &str)] = &[
    ("postfix", "postfix"),
    ("smtp-sink", "postfix"),
    ("smtp-source", "postfix"),
    ("tcpdump", "tcpdump"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("ps", "procps"),
    ("jq", "jq"),
    ("python3", "python3"),
    ("pip3", "python3-pip"),
    ("openssl", "openssl"),
    ("gnutls-cli", "gnutls-bin"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
    ("bpftool", "bpftool"),
    ("chromium", "chromium"),
    ("tmux", "tmux"),
    ("rpmbuild", "rpm"),
    ("lintian", "lintian"),
    ("systemd-analyze", "systemd"),
    ("dpkg", "dpkg"),
    ("xz", "xz-utils"),
];

/// The programs that emulate machines with other kernels, each with the Debian package that brings it. They are
/// unpacked below the target directory: apt may have to remove another part of QEMU to install them.
pub(crate) const EMULATORS: &[(&str, &str)] =
    &[("qemu-system-x86_64", "qemu-system-x86"), ("qemu-system-aarch64", "qemu-system-arm")];

/// Mail servers that Debian does not install beside Postfix. They are downloaded only: each test unpacks
/// them where nobody else sees them.
pub(crate) const MAIL_SERVERS: &[&str] = &["exim4-daemon-light", "opensmtpd"];

/// What building needs, as it was found.
#[derive(Clone, Debug)]
pub(crate) struct BuildFound {
    /// How root is reached.
    pub(crate) privilege: Privilege,
    /// What compiles for BPF.
    pub(crate) compiler: Option<BpfCompiler>,
    /// The bpf-linker that is installed.
    pub(crate) linker: Option<Version>,
    /// apt can install [`COMPILER_PACKAGES`].
    pub(crate) apt_offers_compiler: bool,
    /// apt can install [`LLVM_PACKAGES`].
    pub(crate) apt_offers_llvm: bool,
}

impl BuildFound {
    /// Whether an installed bpf-linker is new enough.
    pub(crate) fn linker_is_ready(&self) -> bool {
        self.linker.is_some_and(|version| version >= LINKER_VERSION)
    }

    /// Whether nothing has to be installed.
    pub(crate) fn is_ready(&self) -> bool {
        self.compiler.is_some() && self.linker_is_ready()
    }
}

/// What testing needs beyond building, as it was found.
#[derive(Clone, Debug)]
pub(crate) struct TestFound {
    /// How root is reached.
    pub(crate) privilege: Privilege,
    /// The packages for testing that apt can install; none where there is no apt.
    pub(crate) apt_offers: Vec<&'static str>,
    /// Those of [`TEST_PROGRAMS`] that are not there.
    pub(crate) missing_programs: Vec<&'static str>,
    /// Where packages of [`MAIL_SERVERS`] are.
    pub(crate) mail_servers: PathBuf,
    /// Those of [`MAIL_SERVERS`] that are not there.
    pub(crate) missing_mail_servers: Vec<&'static str>,
    /// Where packages of [`EMULATORS`] are unpacked.
    pub(crate) emulators: PathBuf,
    /// Packages of those of [`EMULATORS`] that are not there.
    pub(crate) missing_emulators: Vec<&'static str>,
    /// Clippy for the BPF compiler is missing, and it is to be had from this compiler.
    pub(crate) clippy_missing_for: Option<BpfCompiler>,
    /// cargo-deny is not there.
    pub(crate) deny_missing: bool,
    /// cargo-nextest is not there, or is older than what `.config/nextest.toml` asks for.
    pub(crate) nextest_missing: bool,
}

impl TestFound {
    /// Whether nothing has to be installed.
    pub(crate) fn is_ready(&self) -> bool {
        self.missing_programs.is_empty()
            && self.missing_mail_servers.is_empty()
            && self.missing_emulators.is_empty()
            && self.clippy_missing_for.is_none()
            && !self.deny_missing
            && !self.nextest_missing
    }
}

/// One thing to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// What is installed.
    pub(crate) installs: &'static str,
    /// How.
    pub(crate) call: Invocation,
    /// What the user can do where that fails.
    pub(crate) remedy: String,
}

/// The steps after which smtptrace can be built.
pub(crate) fn for_building(found: &BuildFound) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut packages = Vec::new();
    if found.compiler.is_none() && found.apt_offers_compiler {
        packages.extend(COMPILER_PACKAGES);
    }
    if !found.linker_is_ready() && found.apt_offers_llvm {
        packages.extend(LLVM_PACKAGES);
    }
    if !packages.is_empty() {
        steps.push(Step {
            installs: "Debian packages for building",
            call: apt::install(&packages, found.privilege),
            remedy: apt_remedy(found.privilege),
        });
    }
    if found.compiler.is_none() && !found.apt_offers_compiler {
        steps.push(nightly());
    }
    if !found.linker_is_ready() {
        steps.push(if found.apt_offers_llvm { linker_with_llvm_22() } else { linker() });
    }
    steps
}

/// The further steps after which smtptrace can be tested.
pub(crate) fn for_testing(found: &TestFound) -> Vec<Step> {
    let mut steps = Vec::new();
    let packages = test_packages(found);
    if !packages.is_empty() {
        steps.push(Step {
            installs: "Debian packages for testing, without starting their services",
            call: apt::install_without_services(&packages, found.privilege),
            remedy: apt_remedy(found.privilege),
        });
    }
    steps.extend(below_target(
        found,
        &found.missing_mail_servers,
        "a mail server, as files below the target directory",
        |package| apt::download(package, &found.mail_servers),
        "the tests with that server",
    ));
    steps.extend(below_target(
        found,
        &found.missing_emulators,
        "an emulator, as files below the target directory",
        |package| apt::unpack(package, &found.emulators),
        "the tests on other kernels",
    ));
    if found.clippy_missing_for == Some(BpfCompiler::Nightly) {
        steps.push(Step {
            installs: "clippy for the BPF programs",
            call: Invocation::new("rustup").args([
                "component",
                "add",
                "clippy",
                "--toolchain",
                "nightly",
            ]),
            remedy: "run that command where there is a network".into(),
        });
    }
    if found.deny_missing {
        steps.push(from_cargo("cargo-deny", "cargo-deny (takes minutes)", DENY_VERSION));
    }
    if found.nextest_missing {
        let version = NEXTEST_VERSION.to_string();
        steps.push(from_cargo("cargo-nextest", "cargo-nextest (takes minutes)", &version));
    }
    steps
}

/// A step for each of the `missing` packages that apt has and that are not to be installed. `tests`: what is skipped
/// without it.
fn below_target(
    found: &TestFound,
    missing: &[&'static str],
    installs: &'static str,
    call: impl Fn(&str) -> Invocation,
    tests: &str,
) -> impl Iterator<Item = Step> {
    let offered = missing.iter().filter(|package| found.apt_offers.contains(package));
    offered.map(move |package| Step {
        installs,
        call: call(package),
        remedy: format!("see apt's message above; without it {tests} are skipped"),
    })
}

/// The step after which smtptrace can be packed.
pub(crate) fn for_packing(packages: &[&str], privilege: Privilege) -> Step {
    Step {
        installs: "Debian packages for packing",
        call: apt::install(packages, privilege),
        remedy: apt_remedy(privilege),
    }
}

/// All packages that testing may ask apt for.
pub(crate) fn all_test_packages() -> Vec<&'static str> {
    let mut packages: Vec<&str> = TEST_PROGRAMS.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    packages.extend(MAIL_SERVERS);
    packages.extend(EMULATORS.iter().map(|(_, package)| *package));
    packages.push(CLIPPY_PACKAGE);
    packages
}

/// Those of the packages that bring something missing and are to be had.
fn test_packages(found: &TestFound) -> Vec<&'static str> {
    let mut packages = all_test_packages();
    packages.retain(|package| {
        let brings_clippy = *package == CLIPPY_PACKAGE
            && found.clippy_missing_for == Some(BpfCompiler::Distribution);
        let brings_program = TEST_PROGRAMS
            .iter()
            .any(|(program, from)| from == package && found.missing_programs.contains(program));
        found.apt_offers.contains(package) && (brings_clippy || brings_program)
    });
    packages
}

fn apt_remedy(privilege: Privilege) -> String {
    match privilege {
        Privilege::Missing => "installing packages needs root, and sudo is not installed: run \
                               `cargo xtask setup` as root once"
            .into(),
        _ => "see apt's message above; if it says that a package would be removed, install \
              the packages by hand and decide there"
            .into(),
    }
}

fn nightly() -> Step {
    Step {
        installs: "rustup's nightly, to compile core for BPF",
        call: Invocation::new("rustup")
            .args(["toolchain", "install", "nightly", "--profile", "minimal"])
            .args(["--component", "rust-src"]),
        remedy: format!(
            "install rustup and run that command, or install a rustc in /usr/bin that has a \
             prebuilt core for {BPF_TARGET} (on Debian: {})",
            COMPILER_PACKAGES.join(" ")
        ),
    }
}

/// The bpf-linker of the pinned version. What it leaves behind while building must not grow our
/// own target directory.
fn linker() -> Step {
    Step {
        installs: "bpf-linker",
        call: Invocation::cargo()
            .args(["install", "bpf-linker", "--locked", "--version"])
            .arg(LINKER_VERSION.to_string())
            .without_env("CARGO_TARGET_DIR"),
        remedy: format!(
            "bpf-linker {LINKER_VERSION} is built against LLVM 23: install LLVM's development \
             files and set LLVM_PREFIX to their directory; for an older LLVM add \
             `--no-default-features --features llvm-22` (or llvm-21) to the command; or put a \
             bpf-linker binary that its project released on PATH"
        ),
    }
}

/// The same against the LLVM of [`LLVM_PACKAGES`]. Both variables are needed: one is read by
/// llvm-sys, the other by bpf-linker's own build script.
fn linker_with_llvm_22() -> Step {
    let step = linker();
    Step {
        call: step
            .call
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_PREFIX", LLVM_PREFIX)
            .env("LLVM_SYS_221_PREFIX", LLVM_PREFIX),
        remedy: format!(
            "see the compiler's message above; the Debian packages it needs are {}",
            LLVM_PACKAGES.join(" ")
        ),
        ..step
    }
}

/// A program of cargo's registry, compiled for a short build: its own release profile may link with full optimisation.
fn from_cargo(name: &'static str, installs: &'static str, version: &str) -> Step {
    Step {
        installs,
        call: Invocation::cargo()
            .args(["install", name, "--locked", "--version", version])
            .without_env("CARGO_TARGET_DIR")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
        remedy: format!("see cargo's message above; or put {name} {version} or newer on PATH"),
    }
}
