//! From what was found on a machine to the steps that bring in what is missing: pure functions.

use crate::apt;
use crate::invocation::Invocation;
use crate::machine::Privilege;
use crate::toolchain::{BPF_TARGET, BpfCompiler, LINKER_VERSION, Version};

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
    ("setpriv", "util-linux"),
    ("bpftool", "bpftool"),
];

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
    /// Clippy for the BPF compiler is missing, and it is to be had from this compiler.
    pub(crate) clippy_missing_for: Option<BpfCompiler>,
    /// cargo-deny is not there.
    pub(crate) deny_missing: bool,
}

impl TestFound {
    /// Whether nothing has to be installed.
    pub(crate) fn is_ready(&self) -> bool {
        self.missing_programs.is_empty() && self.clippy_missing_for.is_none() && !self.deny_missing
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
        steps.push(deny());
    }
    steps
}

/// All packages that testing may ask apt for.
pub(crate) fn all_test_packages() -> Vec<&'static str> {
    let mut packages: Vec<&str> = TEST_PROGRAMS.iter().map(|(_, package)| *package).collect();
    packages.dedup();
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

/// cargo-deny, compiled for a short build: its own release profile links with full optimisation.
fn deny() -> Step {
    Step {
        installs: "cargo-deny (takes minutes)",
        call: Invocation::cargo()
            .args(["install", "cargo-deny", "--locked", "--version", DENY_VERSION])
            .without_env("CARGO_TARGET_DIR")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
        remedy: "see cargo's message above; any cargo-deny on PATH will do".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE_DEBIAN: BuildFound = BuildFound {
        privilege: Privilege::Sudo,
        compiler: None,
        linker: None,
        apt_offers_compiler: true,
        apt_offers_llvm: true,
    };
    const BARE_OTHER: BuildFound =
        BuildFound { apt_offers_compiler: false, apt_offers_llvm: false, ..BARE_DEBIAN };
    const TESTED: TestFound = TestFound {
        privilege: Privilege::Root,
        apt_offers: Vec::new(),
        missing_programs: Vec::new(),
        clippy_missing_for: None,
        deny_missing: false,
    };

    fn building(found: &BuildFound) -> Vec<String> {
        for_building(found).iter().map(|step| step.call.to_string()).collect()
    }

    fn testing(found: &TestFound) -> Vec<&'static str> {
        for_testing(found).iter().map(|step| step.installs).collect()
    }

    #[test]
    fn a_bare_debian_gets_packages_and_the_linker() {
        let calls = building(&BARE_DEBIAN);
        assert_eq!(calls.len(), 2, "{calls:?}");
        assert!(calls[0].starts_with("sudo env DEBIAN_FRONTEND=noninteractive apt-get install"));
        assert!(calls[0].contains("libstd-rust-web-dev-bpf llvm-22-dev libpolly-22-dev"));
        assert!(calls[1].starts_with(
            "LLVM_PREFIX=/usr/lib/llvm-22 LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker"
        ));
        assert!(calls[1].contains("--version 0.13.0 --no-default-features --features llvm-22"));
    }

    #[test]
    fn elsewhere_rustup_and_cargo_do_it() {
        let calls = building(&BARE_OTHER);
        assert_eq!(
            calls,
            [
                "rustup toolchain install nightly --profile minimal --component rust-src",
                "cargo install bpf-linker --locked --version 0.13.0",
            ]
        );
    }

    #[test]
    fn nothing_is_done_twice() {
        let found = BuildFound {
            compiler: Some(BpfCompiler::Distribution),
            linker: Some(LINKER_VERSION),
            ..BARE_DEBIAN
        };
        assert!(found.is_ready());
        assert_eq!(for_building(&found), []);
        assert!(TESTED.is_ready());
        assert_eq!(for_testing(&TESTED), []);
    }

    #[test]
    fn an_old_linker_is_replaced_and_a_newer_one_kept() {
        let compiler = Some(BpfCompiler::Nightly);
        let old = BuildFound { compiler, linker: Some(Version(0, 9, 15)), ..BARE_OTHER };
        assert_eq!(building(&old), ["cargo install bpf-linker --locked --version 0.13.0"]);
        let newer = BuildFound { compiler, linker: Some(Version(0, 14, 1)), ..BARE_OTHER };
        assert!(newer.is_ready());
    }

    #[test]
    fn an_apt_without_the_compiler_still_gives_llvm() {
        let calls = building(&BuildFound { apt_offers_compiler: false, ..BARE_DEBIAN });
        assert_eq!(calls.len(), 3, "{calls:?}");
        assert!(calls[0].contains("llvm-22-dev") && !calls[0].contains("rustc-web"));
        assert!(calls[1].starts_with("rustup toolchain install nightly"));
        assert!(calls[2].contains("--features llvm-22"));
    }

    #[test]
    fn only_missing_programs_are_installed() {
        let found = TestFound {
            apt_offers: all_test_packages(),
            missing_programs: vec!["smtp-sink", "smtp-source", "jq"],
            clippy_missing_for: Some(BpfCompiler::Distribution),
            ..TESTED
        };
        assert_eq!(test_packages(&found), ["postfix", "jq", "rust-web-clippy"]);
    }

    #[test]
    fn a_package_that_apt_does_not_know_is_left_out() {
        let found =
            TestFound { apt_offers: vec!["jq"], missing_programs: vec!["jq", "bpftool"], ..TESTED };
        assert_eq!(test_packages(&found), ["jq"]);
    }

    #[test]
    fn without_apt_only_cargo_and_rustup_install() {
        let found = TestFound {
            missing_programs: vec!["jq"],
            clippy_missing_for: Some(BpfCompiler::Nightly),
            deny_missing: true,
            ..TESTED
        };
        assert_eq!(testing(&found), ["clippy for the BPF programs", "cargo-deny (takes minutes)"]);
    }

    #[test]
    fn without_root_the_remedy_says_so() {
        let steps = for_building(&BuildFound { privilege: Privilege::Missing, ..BARE_DEBIAN });
        assert!(steps[0].remedy.contains("needs root"), "{}", steps[0].remedy);
    }
}
