//! `fortify generate-docs`: man pages and shell completions, for packages.
//!
//! They are generated from the definitions that parse the arguments, so they match the program that they are
//! packaged with.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, CliError, DEFAULT_CONFIG};

/// The shells that completions are written for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// The arguments of `fortify generate-docs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder to write man/ and completions/ to; created if it does not exist.
    dir: PathBuf,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), CliError> {
    let failed = |error: io::Error| {
        let place = args.dir.display();
        CliError::Failed(format!(
            "cannot write to {place}: {error}; name a folder that you may write to"
        ))
    };
    generate(&args.dir).map_err(failed)?;
    writeln!(out, "man pages and completions are in {}", args.dir.display())
        .map_err(|error| CliError::output(&error))
}

fn generate(dir: &Path) -> io::Result<()> {
    let (man, completions) = (dir.join("man"), dir.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(Cli::command(), &man)?;
    let mut page = OpenOptions::new().append(true).open(man.join("fortify.1"))?;
    page.write_all(more_sections().as_bytes())?;
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut Cli::command(), "fortify", &completions)?;
    }
    Ok(())
}

/// The sections of the man page that the arguments do not define.
fn more_sections() -> String {
    format!(
        ".SH \"EXIT STATUS\"\n\
         0 on success; 64 for a mistake in the arguments or the configuration, where a retry does not help; 1 \
         for every other failure. Standard error has one line for each problem.\n\
         .SH ENVIRONMENT\n\
         FORTIFY__SECTION__KEY overrides that key of the configuration: FORTIFY__SERVER__PORT=8080.\n\
         .SH FILES\n\
         {DEFAULT_CONFIG}: the configuration; its comments explain each key.\n\
         .PP\n\
         /var/lib/fortify: keys, banned and trusted circuits, the history of the threat level (storage.data_dir).\n\
         .PP\n\
         /usr/share/doc/fortify: the guides.\n"
    )
}
