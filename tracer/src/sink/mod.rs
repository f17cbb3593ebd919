//! Sinks: they put a report into a form, and compute nothing.

pub(crate) mod check_text;
pub(crate) mod compare_text;
pub(crate) mod csv;
pub(crate) mod hgrm;
pub(crate) mod hlog;
pub(crate) mod html;
pub(crate) mod idle_text;
pub(crate) mod json;
mod name_text;
pub(crate) mod openmetrics;
mod phase_text;
pub(crate) mod quantity;
pub(crate) mod safe_text;
mod sender_text;
mod table;
pub(crate) mod text;
mod trust_text;
pub(crate) mod verdict_text;
pub(crate) mod what_if_text;

pub(crate) use safe_text::safe;

#[cfg(test)]
mod golden;
#[cfg(test)]
pub(crate) mod tests;
