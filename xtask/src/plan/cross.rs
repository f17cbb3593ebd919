//! What building static binaries needs beyond building.

use std::path::PathBuf;

use super::{Step, apt_remedy};
use crate::apt;
use crate::machine::Privilege;

/// Debian's standard library of Rust, for the compiler of [`super::COMPILER_PACKAGES`].
pub(crate) const LIBRARY_PACKAGE: &str = "libstd-rust-web-dev";

/// What building for one processor needs, as it was found.
#[derive(Clone, Debug)]
pub(crate) struct CrossFound {
    /// How root is reached.
    pub(crate) privilege: Privilege,
    /// Debian's name of the processor.
    pub(crate) arch: &'static str,
    /// The packages that bring a missing C compiler or C library.
    pub(crate) missing_packages: Vec<String>,
    /// The standard library that is missing.
    pub(crate) missing_library: Option<MissingLibrary>,
}

/// A standard library of another architecture to be unpacked.
#[derive(Clone, Debug)]
pub(crate) struct MissingLibrary {
    /// Where to.
    pub(crate) directory: PathBuf,
    /// The version of the compiler, which it must have too.
    pub(crate) version: String,
}

impl CrossFound {
    /// Whether nothing has to be installed.
    pub(crate) fn is_ready(&self) -> bool {
        self.missing_packages.is_empty() && self.missing_library.is_none()
    }
}

/// The steps after which static binaries can be built.
pub(crate) fn for_static(found: &CrossFound) -> Vec<Step> {
    let mut steps = Vec::new();
    if !found.missing_packages.is_empty() {
        let packages: Vec<&str> = found.missing_packages.iter().map(String::as_str).collect();
        steps.push(Step {
            installs: "a C compiler and a static C library",
            call: apt::install(&packages, found.privilege),
            remedy: apt_remedy(found.privilege),
        });
    }
    if let Some(library) = &found.missing_library {
        steps.push(Step {
            installs: "Rust's standard library for another processor, below the target directory",
            call: apt::unpack_foreign(
                LIBRARY_PACKAGE,
                &library.version,
                found.arch,
                &library.directory,
            ),
            remedy:
                "see apt's message above; or add the target to the toolchain that runs cargo, with \
                     `rustup target add`"
                    .into(),
        });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: CrossFound = CrossFound {
        privilege: Privilege::Root,
        arch: "arm64",
        missing_packages: Vec::new(),
        missing_library: None,
    };

    #[test]
    fn nothing_is_done_twice() {
        assert!(READY.is_ready());
        assert_eq!(for_static(&READY), []);
    }

    #[test]
    fn the_library_has_the_version_of_the_compiler() {
        let library =
            MissingLibrary { directory: "/t/cross/aarch64".into(), version: "1.96.0-1".into() };
        let found = CrossFound {
            missing_packages: vec!["gcc-aarch64-linux-gnu".into()],
            missing_library: Some(library),
            ..READY
        };
        assert!(!found.is_ready());
        let calls: Vec<String> =
            for_static(&found).iter().map(|step| step.call.to_string()).collect();
        assert_eq!(calls.len(), 2, "{calls:?}");
        assert!(calls[0].ends_with(" gcc-aarch64-linux-gnu"), "{calls:?}");
        let expected = "unpack /t/cross/aarch64 arm64 libstd-rust-web-dev 1.96.0-1";
        assert!(calls[1].ends_with(expected), "{calls:?}");
    }
}
