//! What destinations are called besides their key.

use tracer_analysis::report::Destination;

use super::safe_text::{safe, wrap};

/// A line for each name that is known; nothing if there is none.
pub(super) fn names(shown: &[Destination]) -> String {
    let named = || shown.iter().filter_map(|one| Some((one, one.name.as_ref()?)));
    let Some(width) = named().map(|(one, _)| safe(&one.key).len()).max() else {
        return String::new();
    };
    let mut text = String::from("\nNames, by DNS\n");
    for (one, name) in named() {
        let key = safe(&one.key);
        let doubt = if name.verified { "" } else { " (not verified)" };
        text.push_str(&wrap(&format!("{key:width$} "), 2, &format!("{}{doubt}", safe(&name.name))));
    }
    if named().any(|(_, name)| !name.verified) {
        text.push_str(
            "not verified: the name does not have that address; anybody's may stand here\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use tracer_analysis::{destination::GroupBy, report::Name};

    use super::*;
    use crate::sink::tests::{connections, context, report};

    #[test]
    fn lines() {
        let mut destinations = report(&connections(), GroupBy::Address, context()).destinations;
        assert_eq!(names(&destinations), "");
        destinations.truncate(2);
        let name = |name: &str, verified| Some(Name { name: name.to_owned(), verified });
        destinations[0].key = "192.0.2.1".into();
        destinations[0].name = name("mx.example.org", true);
        destinations[1].key = "2001:db8::1".into();
        destinations[1].name = name(&format!("\x1b[2J{}", "a".repeat(90)), false);
        let text = names(&destinations);
        assert!(text.contains("192.0.2.1   mx.example.org\n"), "{text}");
        assert!(text.contains("\\x1b[2Jaaa") && text.contains("(not verified)"), "{text}");
        assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 80), "{text}");
    }
}
