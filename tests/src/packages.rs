//! Mail servers that cannot be installed beside Postfix: their packages are unpacked over the file system
//! of one process and its children, and nobody else sees them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::lab::Lab;

/// A mail server that comes as Debian packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// Exim, with GnuTLS.
    Exim,
    /// OpenSMTPD, with OpenSSL.
    Opensmtpd,
}

impl Package {
    /// Its name, as apt knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exim => "exim4-daemon-light",
            Self::Opensmtpd => "opensmtpd",
        }
    }

    /// Where `cargo xtask test` puts the package and the libraries it needs that are not installed:
    /// below `$SMTPTRACE_MAIL_SERVERS`, or the target directory of this workspace.
    pub fn directory(self) -> PathBuf {
        let all = env::var_os("SMTPTRACE_MAIL_SERVERS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/mail-servers"),
            PathBuf::from,
        );
        all.join(self.name())
    }

    /// Why it cannot be used; `None` if it can.
    pub fn missing(self) -> Option<String> {
        let directory = self.directory();
        let is_package = |file: PathBuf| file.extension().is_some_and(|it| it == "deb");
        let found = fs::read_dir(&directory)
            .is_ok_and(|files| files.flatten().any(|file| is_package(file.path())));
        (!found).then(|| {
            format!(
                "no packages of {} in {}: `cargo xtask test` fetches them",
                self.name(),
                directory.display()
            )
        })
    }

    /// A command that runs `program` with the package unpacked over `/usr`, `/etc` and `/var/lib`, in a
    /// mount namespace that ends with its last process. It may write there; the machine is not changed.
    pub fn command(self, lab: &Lab, program: &str) -> Result<Command> {
        let scratch = lab.file(&format!("{}.root", self.name()));
        fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.args([include_str!("packages/private_root.sh"), "private_root"]);
        command.arg(self.directory()).arg(scratch).arg(program);
        Ok(command)
    }
}
