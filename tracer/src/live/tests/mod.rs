//! Screens and keys of the live view, without a terminal.

mod keys;
mod panic;
pub(super) mod sample;
mod screens;
