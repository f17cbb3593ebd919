//! The end-to-end tests on other kernels, in virtual machines: `cargo xtask test --vm`.
//!
//! `kernel` says which and has them fetched by `archive`; `initramfs` packs the programs and the tests; `qemu`
//! boots; `outcome` reads the console; `document` writes `docs/kernels.md`. What happens inside is
//! `tests/src/bin/guest-init`.

mod archive;
mod cpio;
mod document;
mod initramfs;
mod kernel;
mod modules;
mod outcome;
mod qemu;
mod scenarios;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::kernel::Unpacked;
pub(crate) use self::kernel::{KERNELS, Kernel, named};
use self::outcome::{Outcome, Ran};
use self::scenarios::{SCENARIOS, Scenario};
use crate::checks::tally::Tally;
use crate::invocation::Invocation;
use crate::machine;
use crate::static_build::{self, Arch};

/// How much is run on each kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What does not take long.
    Quick,
    /// Everything.
    Whole,
}

impl Extent {
    fn scenarios(self) -> Vec<&'static Scenario> {
        SCENARIOS.iter().filter(|it| self == Self::Whole || !it.is_slow).collect()
    }

    /// When a machine is stopped.
    fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Quick => 15 * 60,
            Self::Whole => 40 * 60,
        })
    }
}

/// The kernels of `cargo xtask test --vm --quick`.
pub(crate) fn quickly_tested() -> Vec<&'static Kernel> {
    KERNELS.iter().filter(|kernel| kernel.is_in_quick_run).collect()
}

/// Programs and tests for one architecture.
struct Built {
    arch: Arch,
    tracer: PathBuf,
    tests: Vec<PathBuf>,
    userland: PathBuf,
}

/// Boots each of `kernels`, runs the tests in it and counts them. A kernel that cannot be had is one
/// skip.
pub(crate) fn test(
    root: &Path,
    target: &Path,
    kernels: &[&'static Kernel],
    extent: Extent,
    tally: &mut Tally,
) {
    let directory = target.join("vm");
    let mut built: Vec<Built> = Vec::new();
    for kernel in kernels {
        println!("\n=== kernel {kernel}");
        let begin = Instant::now();
        if let Some(unpacked) = prepare(root, target, kernel, &mut built, tally)
            && let Some(built) = built.iter().find(|built| built.arch == kernel.arch)
        {
            run(&directory, kernel, &unpacked, built, extent, tally);
        }
        println!("=== kernel {kernel}: {:.1} s", begin.elapsed().as_secs_f64());
    }
}

/// Writes `docs/kernels.md` anew, from the last run on each kernel.
pub(crate) fn document(root: &Path, target: &Path, tally: &mut Tally) {
    if let Err(error) = document::write(root, &target.join("vm")) {
        tally.fail(format!("docs/kernels.md: {error:#}"));
    }
}

/// Fetches and builds what `kernel` needs. `None` if that is impossible here: then it is counted.
fn prepare(
    root: &Path,
    target: &Path,
    kernel: &Kernel,
    built: &mut Vec<Built>,
    tally: &mut Tally,
) -> Option<Unpacked> {
    let directory = target.join("vm");
    let emulator = qemu::program(kernel.arch);
    let mut skip = |reason: &str| {
        println!("SKIPPED: {kernel}: {reason}");
        tally.skip(&format!("kernel {kernel}"), reason);
    };
    if machine::find_program(emulator).is_none() {
        skip(&format!("{emulator} is not installed"));
        return None;
    }
    let fetched = kernel
        .fetch(&directory)
        .and_then(|unpacked| Ok((unpacked, initramfs::userland(&directory, kernel.arch)?)));
    let (unpacked, userland) = match fetched {
        Ok(fetched) => fetched,
        Err(error) => {
            skip(&format!("{error:#}"));
            return None;
        }
    };
    if !built.iter().any(|built| built.arch == kernel.arch) {
        match build(root, target, kernel.arch, userland) {
            Ok(new) => built.push(new),
            Err(error) => {
                println!("{error:#}");
                tally.fail(format!("kernel {kernel}: static build: {error:#}"));
                return None;
            }
        }
    }
    Some(unpacked)
}

fn build(root: &Path, target: &Path, arch: Arch, userland: PathBuf) -> Result<Built> {
    let tracer = static_build::tracer(root, target, arch)?;
    let names: Vec<&str> = SCENARIOS.iter().map(|it| it.program).collect();
    let tests = static_build::tests(root, target, arch, &names)?;
    Ok(Built { arch, tracer, tests, userland })
}

/// Boots `kernel`, and adds what happened to `tally`.
fn run(
    directory: &Path,
    kernel: &Kernel,
    unpacked: &Unpacked,
    built: &Built,
    extent: Extent,
    tally: &mut Tally,
) {
    println!("{} on {}, emulated", unpacked.package, qemu::program(kernel.arch));
    let mut outcome = Outcome::default();
    let stopped = boot(directory, kernel, unpacked, built, extent, &mut outcome)
        .unwrap_or_else(|error| Some(format!("{error:#}")));
    let name = kernel.to_string();
    for program in &outcome.programs {
        tally.add(&name, &program.tally);
    }
    for trouble in outcome.troubles(stopped.as_deref()) {
        println!("{trouble}");
        tally.fail(format!("{kernel}: {trouble}"));
    }
}

/// Where the console of `kernel` is kept.
fn log(directory: &Path, kernel: &Kernel, extent: Extent) -> PathBuf {
    let part = if extent == Extent::Quick { ".quick" } else { "" };
    directory.join("runs").join(format!("{kernel}{part}.log"))
}

/// The day, and the commit that is tested if this is a checkout.
fn now(root: &Path) -> String {
    let day = Invocation::new("date").args(["-u", "+%Y-%m-%d"]).answer().unwrap_or_default();
    let commit = Invocation::new("git").arg("-C").arg(root).args(["rev-parse", "--short", "HEAD"]);
    format!("{} {}", day.trim(), commit.answer().unwrap_or_default().trim()).trim().to_owned()
}

/// Packs the file system and boots; says why the machine had to be stopped, if it had.
fn boot(
    directory: &Path,
    kernel: &Kernel,
    unpacked: &Unpacked,
    built: &Built,
    extent: Extent,
    outcome: &mut Outcome,
) -> Result<Option<String>> {
    let place = directory.join("runs");
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    let file_system = place.join(format!("{kernel}.cpio"));
    let contents = initramfs::Contents {
        arch: kernel.arch,
        scratch: &directory.join("programs").join(kernel.arch.name()),
        tracer: &built.tracer,
        tests: &built.tests,
        userland: &built.userland,
        modules: &unpacked.modules,
        scenarios: &extent.scenarios(),
    };
    initramfs::write(&contents, &file_system)?;
    let log = log(directory, kernel, extent);
    println!("its console: {}", log.display());
    let mut log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    for line in outcome::heading(&unpacked.package, &now(directory)) {
        writeln!(log, "{line}").context("cannot write the log")?;
    }
    let machine =
        qemu::Machine { arch: kernel.arch, image: &unpacked.image, initramfs: &file_system };
    qemu::boot(&machine, extent.limit(), |line| {
        // The tests are counted also where the disk is full.
        let _ = writeln!(log, "{line}");
        if let Some(ran) = outcome.read(line) {
            show(ran);
        }
    })
}

/// One line for a program, and all it printed if it failed.
fn show(ran: &Ran) {
    let [passed, failed, skipped] = ran.tally.counts();
    if failed > 0 {
        println!("{}", ran.lines.join("\n"));
    }
    println!(
        "{}: {passed} passed, {failed} failed, {skipped} skipped in {} s",
        ran.name, ran.seconds
    );
}
