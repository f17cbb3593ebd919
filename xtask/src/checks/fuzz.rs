//! The fuzz targets: compiled, and each run for a moment.

use std::fs;
use std::path::Path;

use crate::checks::step::Step;
use crate::checks::tally::Tally;
use crate::invocation::Invocation;
use crate::machine;

/// Inputs that each target is given: enough to see that it runs and would find a panic at the first byte.
const INPUTS: &str = "-runs=20000";

/// Flags by which the compiler counts the branches that the fuzzer looks at; the same as cargo-fuzz's,
/// without a sanitizer, which a stable compiler does not have.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table --cfg fuzzing -Cdebug-assertions \
                     -Ccodegen-units=1";

/// Builds all of them and runs each.
pub(crate) fn run(root: &Path, target: &Path, tally: &mut Tally) {
    let name = "fuzz targets";
    if machine::find_program("c++").is_none() {
        tally.skip(name, "libFuzzer needs a C++ compiler, and there is no c++");
        return;
    }
    let build = Step::preparation("build of the fuzz targets", build(root, target));
    if !build.run(root, tally) {
        tally.skip(name, "they could not be built");
        return;
    }
    for fuzzed in targets(root) {
        let programs = target.join("fuzz").join(triple()).join("release");
        let call = Invocation::new(programs.join(&fuzzed))
            .args([INPUTS, "-seed=1", "-max_len=4096", "-print_final_stats=0"])
            .arg(format!("-artifact_prefix={}/", target.join("fuzz").display()));
        Step::check("fuzz target", call).run(root, tally);
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
fn targets(root: &Path) -> Vec<String> {
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
