//! `cargo xtask setup`: installs what is missing for building, and for `test` what testing needs.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::dist;
use crate::machine::{self, Privilege};
use crate::plan::cross::CrossFound;
use crate::plan::{self, BuildFound, Step, TestFound};
use crate::python;
use crate::static_build::Toolchain;
use crate::times;
use crate::toolchain::{self, BpfCompiler, LINKER_VERSION, NEXTEST_VERSION};
use crate::vm::Emulator;
use crate::workspace;

/// Runs the command.
pub(crate) fn run() -> Result<ExitCode> {
    for_building(&workspace::root())?;
    Ok(ExitCode::SUCCESS)
}

/// Installs what building needs. Where all is there, it only looks.
pub(crate) fn for_building(root: &Path) -> Result<()> {
    let mut found = look_for_building();
    if !found.is_ready() {
        if machine::has_apt() {
            apt::update(found.privilege, root);
            found.apt_offers_compiler = apt::offers(plan::COMPILER_PACKAGES);
            found.apt_offers_llvm = apt::offers(plan::LLVM_PACKAGES);
        }
        for step in plan::for_building(&found) {
            install(&step, root)?;
        }
        found = look_for_building();
    }
    match (found.compiler, found.linker) {
        (Some(compiler), Some(linker)) if linker >= LINKER_VERSION => {
            eprintln!("xtask: building: {compiler}; bpf-linker {linker}");
            Ok(())
        }
        (None, _) => bail!(
            "everything was installed, yet no compiler for BPF is found: neither {} with a core \
             for {} nor rustup's nightly with rust-src; `cargo xtask doctor` says more",
            toolchain::DEBIAN_RUSTC,
            toolchain::BPF_TARGET
        ),
        (_, linker) => bail!(
            "bpf-linker {LINKER_VERSION} was installed, yet {} is found: is an older one earlier on \
             PATH?",
            linker.map_or("none that runs".to_owned(), |version| version.to_string())
        ),
    }
}

/// Installs what testing needs beyond building. Programs that cannot be installed here are named;
/// the tests that want them are then skipped.
pub(crate) fn for_testing(root: &Path, target: &Path) -> Result<()> {
    let mut failed = Vec::new();
    let mut found = look_for_testing(target);
    if !found.is_ready() {
        if machine::has_apt() {
            apt::update(found.privilege, root);
            found.apt_offers = apt::offered(&plan::all_test_packages());
        }
        for step in plan::for_testing(&found) {
            if let Err(error) = install(&step, root) {
                eprintln!("xtask: {error:#}");
                failed.push(step.installs);
            }
        }
    }
    if !python::is_ready(target) {
        let step = python::install(target);
        match install(&step, root) {
            Ok(()) => python::remember(target),
            Err(error) => {
                eprintln!("xtask: {error:#}");
                failed.push(step.installs);
            }
        }
    }
    let found = look_for_testing(target);
    let TestFound { missing_programs, missing_mail_servers, missing_emulators, .. } = found;
    let missing = [missing_programs, missing_mail_servers, missing_emulators].concat();
    if missing.is_empty() {
        eprintln!("xtask: testing: all programs are there");
    } else {
        eprintln!(
            "xtask: testing: not found: {}; install them, or the tests that need them are skipped",
            missing.join(", ")
        );
    }
    if !failed.is_empty() {
        bail!("could not install {}; the reasons are above", failed.join("; "));
    }
    Ok(())
}

/// Installs what static binaries of `toolchain` need beyond building.
pub(crate) fn for_static(toolchain: Toolchain, root: &Path, target: &Path) -> Result<()> {
    for_building(root)?;
    let found = look_for_static(toolchain, target);
    if found.is_ready() {
        return Ok(());
    }
    if machine::has_apt() {
        apt::update(found.privilege, root);
        for step in plan::cross::for_static(&found) {
            install(&step, root)?;
        }
    } else if !found.missing_packages.is_empty() {
        bail!(
            "missing, by Debian's names: {}; install what this system calls them",
            found.missing_packages.join(", ")
        );
    }
    Ok(())
}

/// Installs what packing needs.
pub(crate) fn for_packing(root: &Path) -> Result<()> {
    let missing = dist::PROGRAMS.iter().filter(|(name, _)| machine::find_program(name).is_none());
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    if !machine::has_apt() {
        bail!(
            "missing, by Debian's names: {}; install what this system calls them",
            packages.join(", ")
        );
    }
    let privilege = Privilege::look();
    apt::update(privilege, root);
    install(&plan::for_packing(&packages, privilege), root)
}

/// What is there for static binaries of `toolchain`.
pub(crate) fn look_for_static(toolchain: Toolchain, target: &Path) -> CrossFound {
    let arch = toolchain.arch();
    CrossFound {
        privilege: Privilege::look(),
        arch: arch.debian(),
        missing_packages: toolchain.missing_packages(),
        missing_library: toolchain.missing_library(target),
    }
}

/// What is there for building.
pub(crate) fn look_for_building() -> BuildFound {
    BuildFound {
        privilege: Privilege::look(),
        compiler: BpfCompiler::look(),
        linker: toolchain::version_of("bpf-linker"),
        apt_offers_compiler: false,
        apt_offers_llvm: false,
    }
}

/// What is there for testing; `target` is cargo's target directory.
pub(crate) fn look_for_testing(target: &Path) -> TestFound {
    let mail_servers = workspace::mail_servers(target);
    let not_there = |name: &&str| !has_package(&mail_servers.join(name));
    let missing_mail_servers = plan::MAIL_SERVERS.iter().copied().filter(not_there).collect();
    let missing = |name: &str| machine::find_program(name).is_none();
    let not_to_be_had =
        |(name, package): &&(&str, &str)| Emulator::look(name, package, target).is_none();
    let missing_emulators = plan::EMULATORS.iter().filter(not_to_be_had);
    let programs = plan::TEST_PROGRAMS.iter().map(|(program, _)| *program);
    TestFound {
        privilege: Privilege::look(),
        apt_offers: Vec::new(),
        missing_programs: programs.filter(|name| missing(name)).collect(),
        missing_mail_servers,
        mail_servers,
        missing_emulators: missing_emulators.map(|(_, package)| *package).collect(),
        emulators: workspace::emulators(target),
        clippy_missing_for: BpfCompiler::look().filter(|compiler| !compiler.has_clippy()),
        deny_missing: toolchain::find_cargo_program("cargo-deny").is_none(),
        nextest_missing: toolchain::version_of("cargo-nextest")
            .is_none_or(|it| it < NEXTEST_VERSION),
    }
}

/// Whether there is a package in `directory`.
fn has_package(directory: &Path) -> bool {
    let is_package = |path: &Path| path.extension().is_some_and(|it| it == "deb");
    fs::read_dir(directory).is_ok_and(|files| files.flatten().any(|file| is_package(&file.path())))
}

fn install(step: &Step, root: &Path) -> Result<()> {
    let Step { installs, call, remedy } = step;
    eprintln!("xtask: installing {installs}: {call}");
    times::measure(&format!("set-up: {installs}"), || call.run(root))
        .with_context(|| format!("could not install {installs}. What to do: {remedy}"))
}
