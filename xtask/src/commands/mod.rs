//! One file per command.

pub(crate) mod bench;
pub(crate) mod dist;
pub(crate) mod doctor;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod test;
