//! The program `smtptrace`; all of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tracer::run()
}
