//! The end-to-end tests on other kernels, in virtual machines: `cargo xtask vm`.
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
mod test_output;

use std::fs::{self, File};
use std::io::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};

pub(crate) use self::emulator::Emulator;
use self::kernel::Unpacked;
pub(crate) use self::kernel::{KERNELS, Kernel, named};
use self::outcome::{Outcome, Ran};
use self::scenarios::SCENARIOS;
pub(crate) use self::scenarios::Scenario;
use crate::checks::run::Run;
use crate::checks::tally::Tally;
use crate::static_build::{self, Arch};
use crate::{times, workspace};

/// How much is run on each kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What does not take long.
    Quick,
    /// Everything.
    Whole,
    /// One module, or one test of it.
    Only {
        /// The module.
        scenario: Scenario,
        /// `MODULE::`, or `MODULE::TEST`.
        filter: &'static str,
    },
}

impl Part {
    /// The part of this name: `MODULE` or `MODULE::TEST`.
    ///
    /// # Errors
    /// If that module does not run in virtual machines: says which do, and which kernels there are.
    pub(crate) fn of(name: &str) -> Result<Self> {
        let (module, test) = name.split_once("::").unwrap_or((name, ""));
        let Some(scenario) = SCENARIOS.iter().find(|it| it.module == module) else {
            let modules: Vec<&str> = SCENARIOS.iter().map(|it| it.module).collect();
            let kernels: Vec<String> = KERNELS.iter().map(ToString::to_string).collect();
            bail!(
                "`{name}` is neither a kernel nor a module of tests for virtual machines.\nKernels: {}\nModules: {}",
                kernels.join(", "),
                modules.join(", ")
            );
        };
        // The command line lives as long as the program.
        Ok(Self::Only { scenario: *scenario, filter: format!("{module}::{test}").leak() })
    }

    /// The modules of this part, in the order in which they run.
    pub(crate) fn scenarios(self) -> impl Iterator<Item = &'static Scenario> {
        SCENARIOS.iter().filter(move |it| match self {
            Self::Quick => !it.is_slow,
            Self::Whole => true,
            Self::Only { scenario, .. } => scenario == **it,
        })
    }

    /// The tests of `scenario` that run: a beginning of their names.
    fn filter(self, scenario: &Scenario) -> String {
        match self {
            Self::Only { filter, .. } => filter.to_owned(),
            Self::Quick | Self::Whole => format!("{}::", scenario.module),
        }
    }

    /// When a machine is stopped.
    fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Quick | Self::Only { .. } => 25 * 60,
            Self::Whole => 120 * 60,
        })
    }
}

/// The kernels of `cargo xtask test`.
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
pub(crate) fn test(run: &mut Run, kernels: &[&'static Kernel], part: Part) {
    let names: Vec<String> = kernels.iter().map(ToString::to_string).collect();
    println!("\n=== kernels {}", names.join(", "));
    let mut built = Vec::new();
    let ready: Vec<Ready> = kernels.iter().filter_map(|it| prepare(run, it, &mut built)).collect();
    let directory = run.target.join("vm");
    let begin = Instant::now();
    let beside = 1 + thread::available_parallelism().map_or(1, NonZero::get);
    for ready in ready.chunks(beside) {
        let ended: Vec<Tally> = thread::scope(|scope| {
            let machines: Vec<_> = ready
                .iter()
                .map(|it| scope.spawn(|| boot_and_count(&directory, it, part)))
                .collect();
            machines.into_iter().filter_map(|machine| machine.join().ok()).collect()
        });
        if ended.len() < ready.len() {
            run.tally.fail("a machine: its thread panicked, see above");
        }
        for (Ready { kernel, .. }, part) in ready.iter().zip(&ended) {
            run.tally.add(&kernel.to_string(), part);
        }
    }
    times::keep("virtual machines", begin.elapsed());
}

/// Writes `docs/kernels.md` anew, from the last run on each kernel.
pub(crate) fn document(run: &mut Run) {
    if let Err(error) = document::write(&run.root, &run.target.join("vm")) {
        run.tally.fail(format!("docs/kernels.md: {error:#}"));
    }
}

/// Fetches and builds what `kernel` needs. `None` if that is impossible here: then it is counted.
fn prepare(run: &mut Run, kernel: &'static Kernel, built: &mut Vec<Arc<Built>>) -> Option<Ready> {
    let directory = run.target.join("vm");
    let Run { root, target, tally } = run;
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
    let fetched = times::measure(&format!("packages for {kernel}"), || {
        Ok((kernel.fetch(&directory)?, initramfs::userland(&directory, kernel.arch)?))
    });
    let (unpacked, userland) = match fetched {
        Ok(fetched) => fetched,
        Err(error) => {
            let error: Error = error;
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
    let tracer = static_build::tracer(root, target, arch)?;
    let tests = static_build::tests(root, target, arch)?;
    let session = tests.iter().find(|it| initramfs::name(it) == "lab-session").cloned();
    let session = session.context("cargo names no program `lab-session`")?;
    let directory = target.join("vm/programs").join(arch.name());
    let strip = |program: &PathBuf| static_build::strip(arch, program, &directory);
    let (tracer, tests) = (strip(&tracer)?, tests.iter().map(strip).collect::<Result<_>>()?);
    Ok(Built { arch, tracer, tests, session, userland })
}

/// Boots the machine and counts what happened in it.
fn boot_and_count(directory: &Path, ready: &Ready, part: Part) -> Tally {
    let begin = Instant::now();
    let kernel = ready.kernel;
    println!(
        "{kernel}: {} on {}, emulated; its console: {}",
        ready.unpacked.package,
        ready.emulator.program.display(),
        log(directory, kernel, part).display()
    );
    let mut outcome = Outcome::default();
    let stopped = boot(directory, ready, part, &mut outcome)
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
fn log(directory: &Path, kernel: &Kernel, part: Part) -> PathBuf {
    let of_part = match part {
        Part::Quick => ".quick",
        Part::Whole => "",
        Part::Only { .. } => ".only",
    };
    directory.join("runs").join(format!("{kernel}{of_part}.log"))
}

/// Packs the file system and boots; says why the machine had to be stopped, if it had.
fn boot(
    directory: &Path,
    Ready { kernel, emulator, unpacked, built }: &Ready,
    part: Part,
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
        runs: &part.scenarios().map(|it| (it, part.filter(it))).collect::<Vec<_>>(),
    };
    initramfs::write(&contents, &file_system)?;
    let log = log(directory, kernel, part);
    let mut log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    for line in outcome::heading(&unpacked.package, &workspace::day_and_commit(directory)) {
        writeln!(log, "{line}").context("cannot write the log")?;
    }
    let machine = qemu::Machine {
        emulator,
        arch: kernel.arch,
        image: &unpacked.image,
        initramfs: &file_system,
    };
    qemu::boot(&machine, part.limit(), |line| {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_or_one_of_its_tests_is_a_part() {
        let part = Part::of("endings::client_is_killed").unwrap();
        let [endings] = part.scenarios().collect::<Vec<_>>()[..] else { panic!("{part:?}") };
        assert_eq!(
            (endings.module, part.filter(endings).as_str()),
            ("endings", "endings::client_is_killed")
        );
        assert_eq!(Part::of("tiers").unwrap().filter(&SCENARIOS[1]), "tiers::");
        let error = Part::of("4.19").unwrap_err().to_string();
        assert!(
            error.contains("5.10-x86_64, 6.1-x86_64") && error.contains("families, tiers"),
            "{error}"
        );
        assert!(Part::Quick.scenarios().count() < Part::Whole.scenarios().count());
    }
}
