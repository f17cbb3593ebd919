//! The fuzz targets: compiled, and each run for some minutes.

use std::fs;
use std::path::Path;

use super::run::Run;
use crate::invocation::Invocation;
use crate::machine;

/// Flags by which the compiler counts the branches that the fuzzer looks at; the same as cargo-fuzz's,
/// without a sanitizer, which a stable compiler does not have.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table --cfg fuzzing -Cdebug-assertions \
                     -Ccodegen-units=1";

/// Builds all of them and runs each for `minutes`.
pub(crate) fn run(run: &mut Run, minutes: u32) {
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
    for fuzzed in targets(&run.root) {
        let call = Invocation::new(fuzz.join(triple()).join("release").join(&fuzzed))
            .arg(format!("-max_total_time={}", 60 * minutes))
            .args(["-max_len=4096", "-print_final_stats=0", "-verbosity=0"])
            .arg(format!("-artifact_prefix={}/", fuzz.display()));
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
