//! The programs that emulate machines: installed, or unpacked below the target directory.

use std::path::{Path, PathBuf};

use crate::invocation::Invocation;
use crate::machine;
use crate::plan::EMULATORS;
use crate::static_build::Arch;
use crate::workspace;

/// An emulator that is there.
#[derive(Debug)]
pub(crate) struct Emulator {
    /// The program.
    pub(crate) program: PathBuf,
    /// Where its packages are unpacked; `None` if it is installed.
    unpacked: Option<PathBuf>,
}

impl Emulator {
    /// Looks for `program`, which Debian's `package` brings: on PATH, then below `target`, cargo's target directory.
    pub(crate) fn look(program: &str, package: &str, target: &Path) -> Option<Self> {
        if let Some(program) = machine::find_program(program) {
            return Some(Self { program, unpacked: None });
        }
        let unpacked = workspace::emulators(target).join(package).join("unpacked");
        let program = unpacked.join("usr/bin").join(program);
        machine::is_executable(&program).then_some(Self { program, unpacked: Some(unpacked) })
    }

    /// Looks for the one of `arch`; else says what is not there.
    pub(super) fn of(arch: Arch, target: &Path) -> Result<Self, String> {
        let wanted = format!("qemu-system-{}", arch.name());
        let (program, package) =
            EMULATORS.iter().find(|(program, _)| *program == wanted).ok_or(&wanted)?;
        Self::look(program, package, target).ok_or(format!("{wanted} is not installed"))
    }

    /// A call of it that ends with this program, even if that is killed.
    pub(super) fn call(&self) -> Invocation {
        let call = Invocation::new("setpriv").args(["--pdeathsig", "KILL"]).arg(&self.program);
        let (Some(unpacked), Some(native)) = (&self.unpacked, Arch::native()) else { return call };
        let at = |path: &str| unpacked.join(path).display().to_string();
        let of_system = format!("usr/lib/{}", native.gnu());
        let libraries = [at(&of_system), at(&format!("lib/{}", native.gnu()))];
        call.args(["-L", &at("usr/share/qemu"), "-L", &at("usr/share/seabios")])
            .env("QEMU_MODULE_DIR", at(&format!("{of_system}/qemu")))
            .env("LD_LIBRARY_PATH", libraries.join(":"))
    }
}
