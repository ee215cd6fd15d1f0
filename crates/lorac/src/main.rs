//! The `lorac` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    lorac::cli::main()
}
