//! The fuzz targets: compiled with the address sanitizer, and each run for some minutes.
//!
//! A target begins with the inputs in `fuzz/corpus/NAME`, which are committed and which unit tests replay, and with those of
//! earlier runs below the target directory, to which it adds. What breaks it is named; put it, made small, into
//! `fuzz/corpus/NAME`, and it is replayed for good.

use std::fs;
use std::path::Path;

use super::run::Run;
use crate::invocation::Invocation;
use crate::machine;

/// Flags by which the compiler counts the branches that the fuzzer looks at, the same as cargo-fuzz's.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table --cfg fuzzing -Cdebug-assertions \
                     -Ccodegen-units=1 -Zsanitizer=address";

/// Most memory that a target may take, in MB, with what the sanitizer needs.
const MEMORY_MB: u32 = 2_048;

/// Builds all of them and runs each whose name contains one of `filters`, or all if there is none, for `minutes`.
pub(crate) fn run(run: &mut Run, filters: &[String], minutes: u32) {
    let name = "fuzz targets";
    if machine::find_program("c++").is_none() {
        run.tally.skip(name, "libFuzzer needs a C++ compiler, and there is no c++");
        return;
    }
    if !run.prepare("build of the fuzz targets", &build(&run.root, &run.target)) {
        run.tally.skip(name, "they could not be built");
        return;
    }
    let fuzz = run.target.join("fuzz");
    let is_wanted =
        |name: &String| filters.is_empty() || filters.iter().any(|it| name.contains(it.as_str()));
    for fuzzed in targets(&run.root).into_iter().filter(is_wanted) {
        let (kept, committed) =
            (fuzz.join("corpus").join(&fuzzed), run.root.join("fuzz/corpus").join(&fuzzed));
        if let Err(error) = fs::create_dir_all(&kept) {
            run.tally.fail(format!("fuzz {fuzzed}: cannot make {}: {error}", kept.display()));
            continue;
        }
        let call = Invocation::new(fuzz.join(triple()).join("release").join(&fuzzed))
            .arg(format!("-max_total_time={}", 60 * minutes))
            .arg(format!("-rss_limit_mb={MEMORY_MB}"))
            // A thread of a scope may still be ending when leaks are looked for: it would count as one.
            .args(["-detect_leaks=0", "-max_len=65536", "-print_final_stats=0", "-verbosity=0"])
            .arg(format!("-artifact_prefix={}/", fuzz.display()))
            .arg(&kept);
        // The fuzzer wants each directory it is told of.
        let call = if committed.is_dir() { call.arg(&committed) } else { call };
        run.check(&format!("fuzz {fuzzed}"), &call);
    }
}

fn build(root: &Path, target: &Path) -> Invocation {
    Invocation::cargo()
        .args(["build", "--release", "--manifest-path"])
        .arg(root.join("fuzz/Cargo.toml"))
        // With a target the flags are not those of build scripts, which would not link.
        .args(["--target", &triple(), "--target-dir"])
        .arg(target.join("fuzz"))
        // The stable compiler has the sanitizer, but not the flag.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", FLAGS)
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Names of the targets, as their files are called.
pub(crate) fn targets(root: &Path) -> Vec<String> {
    let files = fs::read_dir(root.join("fuzz/fuzz_targets")).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        files.filter_map(|file| Some(file.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn every_target_has_a_program() {
        let root = workspace::root();
        let names = targets(&root);
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap_or_default();
        assert!(names.len() > 3, "{names:?}");
        for name in names {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        }
    }
}
