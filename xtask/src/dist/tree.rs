//! The files that are installed, laid out as the form of package wants them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Crates, Release, read, third_party};
use crate::invocation::Invocation;

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Whose customs are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One directory, to be unpacked anywhere.
    Tarball,
    /// `/`, as Debian's policy says.
    Debian,
    /// `/`, as Fedora's guidelines say.
    Rpm,
}

impl Layout {
    /// A name for its directory.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tarball => "tarball",
            Self::Debian => "deb",
            Self::Rpm => "rpm",
        }
    }

    fn completion(self, shell: &str) -> String {
        let (directory, file) = match (shell, self) {
            ("bash", _) => ("bash-completion/completions", "smtptrace"),
            ("fish", _) => ("fish/vendor_completions.d", "smtptrace.fish"),
            (_, Self::Debian) => ("zsh/vendor-completions", "_smtptrace"),
            (_, _) => ("zsh/site-functions", "_smtptrace"),
        };
        let share = if self == Self::Tarball { "share" } else { "usr/share" };
        format!("{share}/{directory}/{file}")
    }

    /// `path`, which begins with `usr/`, in this layout.
    fn place(self, path: &str) -> &str {
        if self == Self::Tarball { path.strip_prefix("usr/").unwrap_or(path) } else { path }
    }
}

/// What is laid out.
pub(super) struct Parts<'a> {
    pub(super) release: &'a Release,
    pub(super) crates: &'a Crates,
    /// A binary that runs here.
    pub(super) native: &'a Path,
    /// The binary that is installed.
    pub(super) stripped: &'a Path,
}

/// A directory with all the files.
#[derive(Debug)]
pub(super) struct Tree {
    directory: PathBuf,
}

impl Tree {
    /// Lays out `parts` in `directory`, which is not there yet.
    pub(super) fn lay_out(directory: &Path, layout: Layout, parts: &Parts) -> Result<Self> {
        let tree = Self { directory: directory.to_owned() };
        let bytes = fs::read(parts.stripped).context("cannot read the stripped binary")?;
        tree.put(layout.place("usr/bin/smtptrace"), &bytes, 0o755)?;
        tree.put_generated(layout, parts.native)?;
        tree.put_service(layout, &parts.release.root)?;
        tree.put_documents(layout, parts)?;
        Ok(tree)
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// All files, as paths from the root, sorted.
    pub(super) fn files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        let mut open = vec![self.directory.clone()];
        while let Some(directory) = open.pop() {
            let entries = fs::read_dir(&directory)
                .with_context(|| format!("cannot list {}", directory.display()))?;
            for path in entries.flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    open.push(path);
                } else if let Ok(inside) = path.strip_prefix(&self.directory) {
                    files.push(inside.to_string_lossy().into_owned());
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Writes a file with all directories above it; no umask has a say.
    pub(super) fn put(&self, path: &str, bytes: &[u8], mode: u32) -> Result<PathBuf> {
        let file = self.directory.join(path);
        let above = file.parent().unwrap_or(&self.directory);
        fs::create_dir_all(above).with_context(|| format!("cannot make {}", above.display()))?;
        fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        set_mode(&file, mode)?;
        let inside = above.ancestors().take_while(|it| it.starts_with(&self.directory));
        for directory in inside {
            set_mode(directory, 0o755)?;
        }
        Ok(file)
    }

    /// The same, compressed without a time in it.
    pub(super) fn put_compressed(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let file = self.put(path, bytes, 0o644)?;
        Invocation::new("gzip").args(["-9", "-n"]).arg(file).run(&self.directory)
    }

    fn put_generated(&self, layout: Layout, native: &Path) -> Result<()> {
        let pages = self.directory.join(layout.place("usr/share/man/man1"));
        fs::create_dir_all(&pages).with_context(|| format!("cannot make {}", pages.display()))?;
        let generate = || Invocation::new(native).arg("generate");
        generate().arg("man").arg(&pages).run(&self.directory)?;
        for page in fs::read_dir(&pages).context("cannot list the manual pages")?.flatten() {
            let name = page.file_name().to_string_lossy().into_owned();
            let path = format!("{}/{name}", layout.place("usr/share/man/man1"));
            let text = fs::read(page.path()).context("cannot read a manual page")?;
            self.put_compressed(&path, &text)?;
        }
        for shell in SHELLS {
            let call = generate().args(["completions", shell]);
            let text = call.answer().with_context(|| format!("`{call}` failed"))?;
            self.put(&layout.completion(shell), text.as_bytes(), 0o644)?;
        }
        Ok(())
    }

    fn put_service(&self, layout: Layout, root: &Path) -> Result<()> {
        let (unit, tmpfiles, defaults) = match layout {
            Layout::Tarball => (
                "systemd/smtptrace.service",
                "systemd/smtptrace.tmpfiles",
                "systemd/smtptrace.default",
            ),
            Layout::Debian | Layout::Rpm => (
                "usr/lib/systemd/system/smtptrace.service",
                "usr/lib/tmpfiles.d/smtptrace.conf",
                "etc/default/smtptrace",
            ),
        };
        let packaging = root.join("packaging");
        for (name, path) in [("service", unit), ("tmpfiles", tmpfiles), ("default", defaults)] {
            let text = read(&packaging.join(format!("smtptrace.{name}")))?;
            self.put(path, text.as_bytes(), 0o644)?;
        }
        Ok(())
    }

    fn put_documents(&self, layout: Layout, parts: &Parts) -> Result<()> {
        let root = &parts.release.root;
        let directory = match layout {
            Layout::Tarball => "",
            _ => "usr/share/doc/smtptrace/",
        };
        let third_party = third_party::text(parts.crates)?;
        let copyright = read(&root.join("packaging/deb/copyright"))?
            .replace("@MIT@", &as_paragraph(&read(&root.join("LICENSE-MIT"))?));
        if layout == Layout::Tarball {
            self.put("THIRD-PARTY.txt", third_party.as_bytes(), 0o644)?;
        } else {
            self.put_compressed(&format!("{directory}THIRD-PARTY.txt"), third_party.as_bytes())?;
            self.put(&format!("{directory}copyright"), copyright.as_bytes(), 0o644)?;
        }
        let mut plain = vec![
            "contrib/grafana/smtptrace.json",
            "contrib/logrotate/smtptrace",
            "contrib/prometheus/alerts.yml",
        ];
        if layout != Layout::Debian {
            plain.extend(["LICENSE-MIT", "LICENSE-APACHE"]);
        }
        for name in plain {
            self.put(&format!("{directory}{name}"), read(&root.join(name))?.as_bytes(), 0o644)?;
        }
        for name in ["README.md", "CHANGELOG.md"] {
            let (path, text) = (format!("{directory}{name}"), read(&root.join(name))?);
            match layout {
                Layout::Tarball => self.put(&path, text.as_bytes(), 0o644).map(drop)?,
                _ => self.put_compressed(&path, text.as_bytes())?,
            }
        }
        Ok(())
    }
}

fn set_mode(file: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(file, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", file.display()))
}

/// `text` as the body of a field in a control file: indented, with dots for empty lines.
fn as_paragraph(text: &str) -> String {
    let line = |line: &str| match line.trim_end() {
        "" => " .".to_owned(),
        line => format!(" {line}"),
    };
    text.trim().lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_of_a_paragraph_are_dots() {
        assert_eq!(as_paragraph("a\n\nb  \n"), " a\n .\n b");
    }

    #[test]
    fn completions_are_where_each_shell_looks() {
        let place = |layout: Layout, shell| layout.completion(shell);
        assert_eq!(
            place(Layout::Debian, "bash"),
            "usr/share/bash-completion/completions/smtptrace"
        );
        assert_eq!(place(Layout::Debian, "zsh"), "usr/share/zsh/vendor-completions/_smtptrace");
        assert_eq!(place(Layout::Rpm, "zsh"), "usr/share/zsh/site-functions/_smtptrace");
        assert_eq!(
            place(Layout::Tarball, "fish"),
            "share/fish/vendor_completions.d/smtptrace.fish"
        );
    }
}
