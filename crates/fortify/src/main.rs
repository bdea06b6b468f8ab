//! The command `fortify`; see [`fortify::cli`].

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    fortify::cli::run(fortify::cli::Cli::parse(), std::env::vars())
}
