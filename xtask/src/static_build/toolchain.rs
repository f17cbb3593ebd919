//! Which compiler makes static binaries for a processor.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Arch;
use crate::invocation::Invocation;
use crate::machine;
use crate::plan::cross::{LIBRARY_PACKAGE, MissingLibrary};
use crate::toolchain::{DEBIAN_CARGO, DEBIAN_RUSTC};

/// A compiler, and what it compiles for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    arch: Arch,
    libc: Libc,
    compiler: Compiler,
    is_native: bool,
}

/// The C library that is linked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Libc {
    Gnu,
    Musl,
}

/// Whose compiler it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compiler {
    /// The one that compiled this program.
    Current,
    /// The one of Debian's package `rustc-web`, with a standard library of another architecture that is
    /// unpacked below the target directory.
    Distribution,
}

impl Toolchain {
    /// The best that is here: the current compiler with musl if that target is installed, else with glibc;
    /// for a target that the current compiler does not have, Debian's.
    pub(crate) fn choose(arch: Arch) -> Self {
        let sysroot = current_sysroot();
        let has_target = |target: &str| {
            let library = |root: &PathBuf| root.join("lib/rustlib").join(target).join("lib");
            sysroot.as_ref().is_some_and(|root| library(root).is_dir())
        };
        let is_native = Arch::native() == Some(arch);
        Self::choose_among(arch, is_native, has_target, |name| {
            machine::find_program(name).is_some()
        })
    }

    fn choose_among(
        arch: Arch,
        is_native: bool,
        has_target: impl Fn(&str) -> bool,
        has_program: impl Fn(&str) -> bool,
    ) -> Self {
        let musl = Self { arch, libc: Libc::Musl, compiler: Compiler::Current, is_native };
        let gnu = Self { libc: Libc::Gnu, ..musl };
        if has_target(&musl.target()) && has_program(&musl.c_compiler()) {
            musl
        } else if has_target(&gnu.target()) {
            gnu
        } else {
            Self { compiler: Compiler::Distribution, ..gnu }
        }
    }

    /// The processor.
    pub(crate) fn arch(self) -> Arch {
        self.arch
    }

    /// The name of the target.
    pub(crate) fn target(self) -> String {
        let libc = if self.libc == Libc::Musl { "musl" } else { "gnu" };
        format!("{}-unknown-linux-{libc}", self.arch.name())
    }

    /// The program that links, and compiles what is written in C.
    pub(crate) fn c_compiler(self) -> String {
        match (self.libc, self.is_native) {
            (Libc::Gnu, true) => "cc".to_owned(),
            (Libc::Gnu, false) => format!("{}-gcc", self.arch.gnu()),
            (Libc::Musl, true) => "musl-gcc".to_owned(),
            (Libc::Musl, false) => format!("{}-linux-musl-gcc", self.arch.name()),
        }
    }

    /// Whether its standard library is to be unpacked below the target directory.
    pub(crate) fn wants_library(self) -> bool {
        self.compiler == Compiler::Distribution
    }

    /// The packages of Debian that bring the C compiler and the C library, if one of them is missing.
    pub(crate) fn missing_packages(self) -> Vec<String> {
        if self.libc == Libc::Musl {
            return Vec::new(); // It was chosen because both are there.
        }
        let compiler = self.c_compiler();
        let question = Invocation::new(&compiler).arg("-print-file-name=libc.a");
        // The bare name comes back where there is no such file.
        let has_library = question.answer().is_some_and(|file| Path::new(file.trim()).is_file());
        if has_library {
            Vec::new()
        } else if self.is_native {
            vec!["gcc".into(), "libc6-dev".into()]
        } else {
            vec![
                format!("gcc-{}", self.arch.gnu().replace('_', "-")),
                format!("libc6-dev-{}-cross", self.arch.debian()),
            ]
        }
    }

    /// The standard library to be unpacked, if it is wanted and not there in the version of the compiler.
    pub(crate) fn missing_library(self, target: &Path) -> Option<MissingLibrary> {
        if !self.wants_library() {
            return None;
        }
        let directory = unpacked_library(target, self.arch);
        let question = ["-W", "-f", "${Version}", LIBRARY_PACKAGE];
        let version = Invocation::new("dpkg-query").args(question).answer().unwrap_or_default();
        let unpacked = fs::read_to_string(directory.join("version")).unwrap_or_default();
        (unpacked.trim() != version).then_some(MissingLibrary { directory, version })
    }

    /// Cargo with this compiler.
    pub(crate) fn cargo(self) -> Invocation {
        match self.compiler {
            Compiler::Current => Invocation::cargo(),
            Compiler::Distribution => Invocation::new(DEBIAN_CARGO).env("RUSTC", DEBIAN_RUSTC),
        }
    }

    /// Cargo with the flags that make programs static and free of the paths of this machine.
    pub(crate) fn flagged(self, root: &Path, target: &Path) -> Result<Invocation> {
        let maps = path_maps(root)?;
        let mut flags = OsString::from("-Ctarget-feature=+crt-static");
        let mut c_flags = OsString::new();
        for map in &maps {
            flags.push("\x1f--remap-path-prefix=");
            flags.push(map);
            c_flags.push(" -ffile-prefix-map=");
            c_flags.push(map);
        }
        if !self.is_native {
            flags.push("\x1f-Clinker=");
            flags.push(self.c_compiler());
        }
        if self.wants_library() {
            flags.push("\x1f--sysroot=");
            flags.push(unpacked_library(target, self.arch).join("usr"));
        }
        Ok(self.cargo().env("CARGO_ENCODED_RUSTFLAGS", flags).env("CFLAGS", c_flags))
    }
}

/// Where Debian's standard library for another processor is unpacked.
pub(crate) fn unpacked_library(target: &Path, arch: Arch) -> PathBuf {
    target.join("cross").join(arch.name())
}

/// Where the compiler that compiled this program keeps its libraries.
fn current_sysroot() -> Option<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let answer = Invocation::new(rustc).args(["--print", "sysroot"]).answer()?;
    Some(PathBuf::from(answer.trim()))
}

/// `FROM=TO` for the sources of the workspace and of the crates from registries.
fn path_maps(root: &Path) -> Result<Vec<OsString>> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set: where cargo keeps its crates is unknown")?;
    let registries = home.join("registry/src");
    let mut maps = vec![map(root, "/smtptrace")];
    let found = fs::read_dir(&registries).with_context(|| {
        format!("crates are looked for in {}, which cannot be read", registries.display())
    })?;
    // The name of a registry's directory is a hash of its address: mirrors have other ones.
    for registry in found {
        maps.push(map(&registry?.path(), "/crates"));
    }
    maps.sort();
    Ok(maps)
}

fn map(from: &Path, to: &str) -> OsString {
    let mut map = from.as_os_str().to_owned();
    map.push("=");
    map.push(to);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(arch: Arch, is_native: bool, targets: &[&str], programs: &[&str]) -> (String, bool) {
        let toolchain = Toolchain::choose_among(
            arch,
            is_native,
            |target| targets.contains(&target),
            |program| programs.contains(&program),
        );
        (toolchain.target(), toolchain.wants_library())
    }

    #[test]
    fn an_installed_target_is_taken_and_debians_compiler_fills_in() {
        let gnu = ["x86_64-unknown-linux-gnu"];
        let native = chosen(Arch::X86_64, true, &gnu, &["cc"]);
        assert_eq!(native, ("x86_64-unknown-linux-gnu".into(), false));
        let foreign = chosen(Arch::Aarch64, false, &gnu, &["cc"]);
        assert_eq!(foreign, ("aarch64-unknown-linux-gnu".into(), true));
    }

    #[test]
    fn musl_is_preferred_where_its_c_compiler_is_there_too() {
        let targets = ["x86_64-unknown-linux-gnu", "x86_64-unknown-linux-musl"];
        let without = chosen(Arch::X86_64, true, &targets, &["cc"]);
        assert_eq!(without.0, "x86_64-unknown-linux-gnu");
        let with = chosen(Arch::X86_64, true, &targets, &["cc", "musl-gcc"]);
        assert_eq!(with.0, "x86_64-unknown-linux-musl");
    }

    #[test]
    fn cross_compilers_have_the_name_of_the_processor() {
        let cross = |libc| Toolchain {
            arch: Arch::Aarch64,
            libc,
            compiler: Compiler::Current,
            is_native: false,
        };
        assert_eq!(cross(Libc::Gnu).c_compiler(), "aarch64-linux-gnu-gcc");
        assert_eq!(cross(Libc::Musl).c_compiler(), "aarch64-linux-musl-gcc");
    }
}
