//! The end-to-end tests on other kernels, in virtual machines: `cargo xtask test --vm`.
//!
//! `kernel` says which and has them fetched by `archive`; `initramfs` packs the programs and the tests; `qemu`
//! boots; `outcome` reads the console; `document` writes `docs/kernels.md`. What happens inside is
//! `tests/src/bin/guest-init`.

mod archive;
mod cpio;
mod document;
mod emulator;
mod initramfs;
mod kernel;
mod modules;
mod outcome;
mod qemu;
mod scenarios;

use std::fs::{self, File};
use std::io::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub(crate) use self::emulator::Emulator;
use self::kernel::Unpacked;
pub(crate) use self::kernel::{KERNELS, Kernel, named};
use self::outcome::{Outcome, Ran};
use self::scenarios::{SCENARIOS, Scenario};
use crate::checks::tally::Tally;
use crate::invocation::Invocation;
use crate::static_build::{self, Arch, Profile};

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
            Self::Quick => 25 * 60,
            Self::Whole => 120 * 60,
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
    /// Without debug information, as the tests: else they would not fit into a machine.
    tracer: PathBuf,
    tests: Vec<PathBuf>,
    /// Where `lab-session` was built.
    session: PathBuf,
    userland: PathBuf,
}

/// A kernel and all that its machine needs.
struct Ready {
    kernel: &'static Kernel,
    emulator: Emulator,
    unpacked: Unpacked,
    built: Arc<Built>,
}

/// Boots each of `kernels`, runs the tests in it and counts them. A kernel that cannot be had is one skip.
///
/// Everything is built before the first machine starts. Then as many run beside each other as this machine has
/// processors, and one more: each waits a quarter of its time.
pub(crate) fn test(
    root: &Path,
    target: &Path,
    kernels: &[&'static Kernel],
    extent: Extent,
    tally: &mut Tally,
) {
    let names: Vec<String> = kernels.iter().map(ToString::to_string).collect();
    println!("\n=== kernels {}", names.join(", "));
    let begin = Instant::now();
    let mut built = Vec::new();
    let ready: Vec<Ready> =
        kernels.iter().filter_map(|it| prepare(root, target, it, &mut built, tally)).collect();
    println!("=== programs and kernels: {:.1} s", begin.elapsed().as_secs_f64());
    let directory = target.join("vm");
    let beside = 1 + thread::available_parallelism().map_or(1, NonZero::get);
    for ready in ready.chunks(beside) {
        let ended: Vec<Tally> = thread::scope(|scope| {
            let machines: Vec<_> =
                ready.iter().map(|it| scope.spawn(|| run(&directory, it, extent))).collect();
            machines.into_iter().filter_map(|machine| machine.join().ok()).collect()
        });
        if ended.len() < ready.len() {
            tally.fail("a machine: its thread panicked, see above");
        }
        for (Ready { kernel, .. }, part) in ready.iter().zip(&ended) {
            tally.add(&kernel.to_string(), part);
        }
    }
    println!("=== kernels: {:.1} s", begin.elapsed().as_secs_f64());
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
    kernel: &'static Kernel,
    built: &mut Vec<Arc<Built>>,
    tally: &mut Tally,
) -> Option<Ready> {
    let directory = target.join("vm");
    let mut skip = |reason: &str| {
        println!("SKIPPED: {kernel}: {reason}");
        tally.skip(&format!("kernel {kernel}"), reason);
    };
    let emulator = match Emulator::of(kernel.arch, target) {
        Ok(emulator) => emulator,
        Err(reason) => {
            skip(&reason);
            return None;
        }
    };
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
    if let Some(built) = built.iter().find(|built| built.arch == kernel.arch) {
        return Some(Ready { kernel, emulator, unpacked, built: Arc::clone(built) });
    }
    match build(root, target, kernel.arch, userland) {
        Ok(new) => {
            let new = Arc::new(new);
            built.push(Arc::clone(&new));
            Some(Ready { kernel, emulator, unpacked, built: new })
        }
        Err(error) => {
            println!("{error:#}");
            tally.fail(format!("kernel {kernel}: static build: {error:#}"));
            None
        }
    }
}

fn build(root: &Path, target: &Path, arch: Arch, userland: PathBuf) -> Result<Built> {
    // For this processor it is built already: to be shipped, and tested without a machine.
    let is_native = Arch::native() == Some(arch);
    let profile = if is_native { Profile::Release } else { Profile::Emulated };
    let tracer = static_build::tracer(root, target, arch, profile)?;
    let names: Vec<&str> = SCENARIOS.iter().map(|it| it.program).collect();
    let tests = static_build::tests(root, target, arch, profile, &names)?;
    let session = tests.iter().find(|it| initramfs::name(it) == "lab-session").cloned();
    let session = session.context("cargo names no program `lab-session`")?;
    let directory = target.join("vm/programs").join(arch.name());
    let strip = |program: &PathBuf| static_build::strip(arch, program, &directory);
    let (tracer, tests) = (strip(&tracer)?, tests.iter().map(strip).collect::<Result<_>>()?);
    Ok(Built { arch, tracer, tests, session, userland })
}

/// Boots the machine and counts what happened in it.
fn run(directory: &Path, ready: &Ready, extent: Extent) -> Tally {
    let begin = Instant::now();
    let kernel = ready.kernel;
    println!(
        "{kernel}: {} on {}, emulated; its console: {}",
        ready.unpacked.package,
        ready.emulator.program.display(),
        log(directory, kernel, extent).display()
    );
    let mut outcome = Outcome::default();
    let stopped = boot(directory, ready, extent, &mut outcome)
        .unwrap_or_else(|error| Some(format!("{error:#}")));
    let mut tally = Tally::default();
    for program in &outcome.programs {
        tally.add(&program.name, &program.tally);
    }
    for trouble in outcome.troubles(stopped.as_deref()) {
        println!("{kernel}: {trouble}");
        tally.fail(trouble);
    }
    println!("{kernel}: over after {:.1} s", begin.elapsed().as_secs_f64());
    tally
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
    Ready { kernel, emulator, unpacked, built }: &Ready,
    extent: Extent,
    outcome: &mut Outcome,
) -> Result<Option<String>> {
    let place = directory.join("runs");
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    let file_system = place.join(format!("{kernel}.cpio"));
    let contents = initramfs::Contents {
        tracer: &built.tracer,
        tests: &built.tests,
        session: &built.session,
        userland: &built.userland,
        modules: &unpacked.modules,
        scenarios: &extent.scenarios(),
    };
    initramfs::write(&contents, &file_system)?;
    let log = log(directory, kernel, extent);
    let mut log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    for line in outcome::heading(&unpacked.package, &now(directory)) {
        writeln!(log, "{line}").context("cannot write the log")?;
    }
    let machine = qemu::Machine {
        emulator,
        arch: kernel.arch,
        image: &unpacked.image,
        initramfs: &file_system,
    };
    qemu::boot(&machine, extent.limit(), |line| {
        // The tests are counted also where the disk is full.
        let _ = writeln!(log, "{line}");
        if let Some(ran) = outcome.read(line) {
            show(kernel, ran);
        }
    })
}

/// One line for a program, and all it printed if it failed.
fn show(kernel: &Kernel, ran: &Ran) {
    let [passed, failed, skipped] = ran.tally.counts();
    let mut text = format!(
        "{kernel}: {}: {passed} passed, {failed} failed, {skipped} skipped in {} s\n",
        ran.name, ran.seconds
    );
    if failed > 0 {
        text.push_str(&ran.lines.join("\n"));
    }
    println!("{}", text.trim_end());
}
