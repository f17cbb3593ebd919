//! Forms of the report.
pub(crate) mod json;
pub(crate) mod text;
