//! Builds the BPF object for embedding, with the compiler that has a `core` for BPF.
//!
//! Debian and Ubuntu ship one (`libstd-rust-web-dev-bpf`); elsewhere a rustup nightly builds `core`
//! from `rust-src`. `cargo xtask setup` installs whichever fits.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Debian's compiler. By path: rustup's would come first on `PATH`.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const TARGET: &str = "bpfel-unknown-none";

fn main() {
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root = package.parent().unwrap_or(&package).to_owned();
    for input in ["tracer-ebpf", "tracer-common", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    let out = PathBuf::from(variable("OUT_DIR"));
    // A directory of its own, because cargo holds the lock of the outer one. It lies beside the
    // profiles (`target/PROFILE/build/PACKAGE/out`), so that all of them share one build.
    let target_dir = out.ancestors().nth(4).unwrap_or(&out).join("bpf");

    let mut build = compiler();
    build
        .current_dir(root.join("tracer-ebpf"))
        .args(["build", "--release", "--locked", "--package", "tracer-ebpf", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&root))
        .env("PATH", path_with_cargo_bin())
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CARGO_TARGET_DIR");
    let object = target_dir.join(TARGET).join("release/tracer-ebpf");
    run(&mut build);
    copy(&object, &out.join("tracer-ebpf.o"));
}

fn compiler() -> Command {
    if debian_has_bpf_core() {
        let mut cargo = Command::new(DEBIAN_CARGO);
        // aya-ebpf uses unstable features.
        cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
        cargo
    } else {
        let mut cargo = Command::new("rustup");
        cargo
            .args(["run", "nightly", "cargo", "-Z", "build-std=core"])
            .env_remove("RUSTC")
            .env_remove("RUSTUP_TOOLCHAIN");
        cargo
    }
}

fn debian_has_bpf_core() -> bool {
    Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]).output().is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout);
        Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).is_dir()
    })
}

/// The flags, which map away where the sources lie: two directories give the same object.
fn rust_flags(root: &Path) -> String {
    let arch = variable("CARGO_CFG_TARGET_ARCH");
    let arch = if arch.starts_with("riscv64") { "riscv64" } else { &arch };
    let mut flags = vec![
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2".to_owned(),
        "-Clinker=bpf-linker".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("--remap-path-prefix={}=/smtptrace", root.display()),
    ];
    // The name of a registry's directory is a hash of its address: mirrors have other ones.
    let registries = fs::read_dir(cargo_home().join("registry/src")).into_iter().flatten();
    let mut maps: Vec<String> = registries
        .flatten()
        .map(|registry| format!("--remap-path-prefix={}=/crates", registry.path().display()))
        .collect();
    maps.sort();
    flags.extend(maps);
    flags.join("\x1f")
}

fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    )
}

/// `PATH`, with the place where `cargo install` puts bpf-linker behind it.
fn path_with_cargo_bin() -> String {
    format!("{}:{}/bin", variable("PATH"), cargo_home().display())
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| fail(&format!("environment variable {name}: {error}")))
}

fn run(command: &mut Command) {
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!(
            "building the BPF programs failed ({status}): {command:?}\n\
             `cargo xtask doctor` says what is missing, `cargo xtask setup` installs it"
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fail(&format!(
            "no compiler for the BPF programs ({error}): {command:?}\n\
             `cargo xtask setup` installs one"
        )),
        Err(error) => fail(&format!("cannot run {command:?}: {error}")),
    }
}

fn copy(from: &Path, to: &Path) {
    if let Err(error) = fs::copy(from, to) {
        fail(&format!("cannot copy {} to {}: {error}", from.display(), to.display()));
    }
}

fn fail(message: &str) -> ! {
    for line in message.lines() {
        println!("cargo:warning={line}");
    }
    std::process::exit(1)
}
