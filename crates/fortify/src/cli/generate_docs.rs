//! `fortify generate-docs`: man pages and shell completions, for packages.
//!
//! Written by the program itself from what it reads its arguments with, so that they describe the
//! program that they are packaged with.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, CliError, DEFAULT_CONFIG};

/// The shells that completions are written for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Where to write.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder, made if it is not there: man/ and completions/ will be in it.
    dir: PathBuf,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), CliError> {
    let failed = |error: io::Error| {
        let place = args.dir.display();
        CliError::Failed(format!(
            "cannot write to {place}: {error}; name a folder that may be written"
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

/// What a man page has and the arguments do not say.
fn more_sections() -> String {
    format!(
        ".SH \"EXIT STATUS\"\n\
         0 when it was done; 64 for a mistake in the arguments or the configuration, which trying again \
         does not mend; 1 for everything else. Standard error has one line for each thing that is wrong.\n\
         .SH ENVIRONMENT\n\
         FORTIFY__SECTION__KEY in place of any key of the configuration, and before it: \
         FORTIFY__SERVER__PORT=8080.\n\
         .SH FILES\n\
         {DEFAULT_CONFIG}: the configuration; it says what each key means.\n\
         .PP\n\
         /var/lib/fortify: keys, bans and favours, turns of the threat dial (storage.data_dir).\n\
         .PP\n\
         /usr/share/doc/fortify: the guides.\n"
    )
}
