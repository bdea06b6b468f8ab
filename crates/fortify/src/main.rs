//! The command `fortify`; see [`fortify::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    fortify::cli::main(std::env::args_os(), std::env::vars_os())
}
