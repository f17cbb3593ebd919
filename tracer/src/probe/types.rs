//! The types of the running kernel: as it shows them, or from a file.

use std::{panic::resume_unwind, path::Path, thread};

use anyhow::{Context as _, Result, ensure};
use aya::Btf;
use tracer_common::config::Offsets;

use super::{offsets, preflight::KERNEL_BTF};

/// What is known of the kernel's types.
#[derive(Debug)]
pub(super) struct KernelTypes {
    /// Where the fields are.
    pub(super) offsets: Offsets,
    /// The kernel's own BTF, by which arguments of programs are typed. That of a file does not do: the
    /// numbers of its types need not be those of the kernel.
    pub(super) own: Option<Btf>,
}

impl KernelTypes {
    /// Reads them from `file`, or from what the kernel shows. If there are both, they must agree.
    pub(super) fn read(file: Option<&Path>) -> Result<Self> {
        let own = Path::new(KERNEL_BTF);
        if !is_shown() {
            return Ok(Self { offsets: of_file(file.unwrap_or(own))?, own: None });
        }
        // Each takes long and they have nothing in common but the file.
        let (offsets, btf) = thread::scope(|scope| {
            let offsets = scope.spawn(|| offsets::read(own));
            let btf = Btf::from_sys_fs();
            (offsets.join(), btf)
        });
        let offsets = offsets.unwrap_or_else(|panic| resume_unwind(panic))?;
        let btf =
            btf.with_context(|| format!("cannot read the kernel's types from {KERNEL_BTF}"))?;
        if let Some(file) = file {
            ensure!(
                of_file(file)? == offsets,
                "{} describes another kernel than the running one: fields are at other places in it than \
                 in {KERNEL_BTF}; leave --btf out, this kernel shows its own types",
                file.display()
            );
        }
        Ok(Self { offsets, own: Some(btf) })
    }
}

fn of_file(file: &Path) -> Result<Offsets> {
    offsets::read(file).context(
        "--btf needs the types of the running kernel, as BTFHub has them or pahole makes them",
    )
}

/// Whether the kernel shows its own types.
pub(crate) fn is_shown() -> bool {
    Path::new(KERNEL_BTF).exists()
}
