//! One file per command.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod dist;
pub(crate) mod doctor;
pub(crate) mod e2e;
pub(crate) mod fuzz;
pub(crate) mod list;
pub(crate) mod long;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod test;
pub(crate) mod vm;
