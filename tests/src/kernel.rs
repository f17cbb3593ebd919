//! The kernel that the tests run on.

use std::fs;

use anyhow::{Context as _, Result, bail};

/// Its version as two numbers: `(6, 1)`.
pub fn version() -> Result<(u32, u32)> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the release")?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        bail!("release {release:?}")
    };
    Ok((major, minor))
}
