//! The parts of a document that are written by measuring.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Puts `text` between `<!-- bench NAME -->` and `<!-- end -->`. The document must have both lines.
pub(crate) fn replace(file: &Path, name: &str, text: &str) -> Result<()> {
    let document = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let new = replaced(&document, name, text).with_context(|| {
        format!("{} has no line `{}` with `{END}` after it", file.display(), begin(name))
    })?;
    fs::write(file, new).with_context(|| format!("write {}", file.display()))
}

const END: &str = "<!-- end -->";

fn begin(name: &str) -> String {
    format!("<!-- bench {name} -->")
}

fn replaced(document: &str, name: &str, text: &str) -> Option<String> {
    let begin = begin(name);
    let from = document.find(&begin)? + begin.len();
    let until = from + document.get(from..)?.find(END)?;
    Some(format!("{}\n{}\n{}", document.get(..from)?, text.trim(), document.get(until..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_of_that_name_changes() {
        let document =
            "a\n<!-- bench x -->\nold\n<!-- end -->\nb\n<!-- bench y -->\n<!-- end -->\n";
        let new = replaced(document, "x", "new\n");
        let expected = document.replace("old", "new");
        assert_eq!(new.as_deref(), Some(expected.as_str()));
        assert_eq!(replaced(document, "z", "new"), None);
    }
}
