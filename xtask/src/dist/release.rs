//! What is released: its version and the time that all its files have.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::invocation::Invocation;

/// A version of the sources.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    /// Where the sources are.
    pub(crate) root: PathBuf,
    /// The version, as cargo knows it.
    pub(crate) version: String,
    /// The time of the commit, in seconds since 1970.
    pub(crate) epoch: u64,
}

impl Release {
    /// The sources in `root`. Their time is that of the commit, or `$SOURCE_DATE_EPOCH`.
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let question =
            Invocation::new("git").arg("-C").arg(root).args(["log", "-1", "--format=%ct"]);
        let epoch = env::var("SOURCE_DATE_EPOCH")
            .ok()
            .or_else(|| question.answer())
            .and_then(|seconds| seconds.trim().parse().ok())
            .with_context(|| {
                format!(
                    "the time of the release is unknown: `{question}` gives none; set \
                     SOURCE_DATE_EPOCH to its seconds since 1970"
                )
            })?;
        Ok(Self { root: root.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), epoch })
    }

    /// The time in a form of `date`, in UTC and English.
    pub(crate) fn date(&self, form: &str) -> Result<String> {
        let question = Invocation::new("date").env("LC_ALL", "C").args([
            "-u",
            "-d",
            &format!("@{}", self.epoch),
            form,
        ]);
        let answer = question.answer().with_context(|| format!("`{question}` failed"))?;
        Ok(answer.trim().to_owned())
    }

    /// `call` with the time where packing programs look for it.
    pub(crate) fn dated(&self, call: Invocation) -> Invocation {
        call.env("SOURCE_DATE_EPOCH", self.epoch.to_string()).env("LC_ALL", "C").env("TZ", "UTC")
    }
}
