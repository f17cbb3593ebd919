//! Plans for machines of several kinds.

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
    mail_servers: PathBuf::new(),
    missing_mail_servers: Vec::new(),
    emulators: PathBuf::new(),
    missing_emulators: Vec::new(),
    clippy_missing_for: None,
    deny_missing: false,
    nextest_missing: false,
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
fn mail_servers_are_downloaded_and_not_installed() {
    let found = TestFound {
        apt_offers: all_test_packages(),
        mail_servers: "/t/mail-servers".into(),
        missing_mail_servers: vec!["opensmtpd"],
        ..TESTED
    };
    assert!(!found.is_ready());
    assert!(test_packages(&found).is_empty());
    let [step] = for_testing(&found).try_into().unwrap();
    let call = step.call.to_string();
    assert!(call.ends_with("download /t/mail-servers opensmtpd"), "{call}");
    assert!(for_testing(&TestFound { apt_offers: Vec::new(), ..found }).is_empty());
}

#[test]
fn emulators_are_unpacked_and_not_installed() {
    let found = TestFound {
        apt_offers: all_test_packages(),
        emulators: "/t/emulators".into(),
        missing_emulators: vec!["qemu-system-arm"],
        ..TESTED
    };
    assert!(!found.is_ready());
    assert!(test_packages(&found).is_empty());
    let [step] = for_testing(&found).try_into().unwrap();
    let call = step.call.to_string();
    assert!(call.ends_with("unpack /t/emulators qemu-system-arm"), "{call}");
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
        nextest_missing: true,
        ..TESTED
    };
    assert_eq!(
        testing(&found),
        [
            "clippy for the BPF programs",
            "cargo-deny (takes minutes)",
            "cargo-nextest (takes minutes)"
        ]
    );
    let calls: Vec<String> = for_testing(&found).iter().map(|step| step.call.to_string()).collect();
    assert!(
        calls[2].contains("cargo install cargo-nextest --locked --version 0.9.143"),
        "{calls:?}"
    );
}

#[test]
fn without_root_the_remedy_says_so() {
    let steps = for_building(&BuildFound { privilege: Privilege::Missing, ..BARE_DEBIAN });
    assert!(steps[0].remedy.contains("needs root"), "{}", steps[0].remedy);
}
