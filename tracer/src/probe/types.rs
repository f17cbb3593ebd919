//! The types of the running kernel: as it shows them, or from a file.

use std::{
    panic::resume_unwind,
    path::Path,
    sync::mpsc::{self, Receiver},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{Btf, EbpfLoader};
use tracer_common::config::Offsets;

use super::{
    offsets::{self, OffsetError},
    preflight::KERNEL_BTF,
};

/// What is known of the kernel's types.
pub(super) struct KernelTypes {
    /// Where the fields are.
    pub(super) offsets: Offsets,
    /// The kernel's own BTF, by which arguments of programs are typed. That of a file does not do: the
    /// numbers of its types need not be those of the kernel.
    pub(super) own: OwnTypes,
    /// Takes the object. It reads the kernel's own BTF when it is made, whatever one does.
    pub(super) loader: EbpfLoader<'static>,
}

/// The kernel's own BTF, if it shows it.
pub(crate) struct OwnTypes {
    btf: Option<Btf>,
    /// Is letting go of what it has read.
    reader: Option<JoinHandle<()>>,
}

impl OwnTypes {
    /// What programs are typed by.
    pub(crate) fn btf(&self) -> Option<&Btf> {
        self.btf.as_ref()
    }

    /// Waits until no thread is left that read them.
    pub(crate) fn finish_reading(&mut self) {
        if let Some(reader) = self.reader.take() {
            finish(reader);
        }
    }
}

impl KernelTypes {
    /// Reads them from `file`, or from what the kernel shows. If there are both, they must agree.
    pub(super) fn read(file: Option<&Path>) -> Result<Self> {
        let own = Path::new(KERNEL_BTF);
        if !is_shown() {
            return Ok(Self {
                offsets: of_file(file.unwrap_or(own))?,
                own: OwnTypes { btf: None, reader: None },
                loader: EbpfLoader::new(),
            });
        }
        // The offsets take longest by far, so all else is done meanwhile.
        let (reader, offsets) = read_beside(own)?;
        let btf = Btf::from_sys_fs();
        let loader = EbpfLoader::new();
        let Ok(offsets) = offsets.recv() else {
            finish(reader);
            return Err(anyhow!("cannot read the kernel's types: the thread for it ended"));
        };
        let offsets = offsets?;
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
        Ok(Self { offsets, own: OwnTypes { btf: Some(btf), reader: Some(reader) }, loader })
    }
}

type Answer = Result<Offsets, OffsetError>;

/// Reads the offsets on a thread, which answers before it lets go of the types: nobody need wait for that.
fn read_beside(path: &'static Path) -> Result<(JoinHandle<()>, Receiver<Answer>)> {
    let (sender, receiver) = mpsc::channel();
    let reader = thread::Builder::new()
        .spawn(move || {
            let (answer, _types) = match offsets::read_all(path) {
                Ok((offsets, types)) => (Ok(offsets), Some(types)),
                Err(error) => (Err(error), None),
            };
            let _ = sender.send(answer); // whoever asked may have failed meanwhile
        })
        .context("cannot start a thread to read the kernel's types")?;
    Ok((reader, receiver))
}

/// Waits for a thread; its panic becomes one of this thread.
fn finish(thread: JoinHandle<()>) {
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
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
