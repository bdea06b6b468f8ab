//! Computes from the sources of a Cargo workspace which crate and which file uses which, and
//! compares that with a declared order of layers.
//!
//! Cargo refuses circles between crates, but not a dependency in the wrong direction, and it knows
//! nothing of circles between the files of one crate. This check does.
//!
//! # Layout
//!
//! Reading, the only part that touches the disk:
//!
//! - [`manifest`] reads the members of the workspace and what each `Cargo.toml` depends on.
//! - [`source`] follows `mod` declarations from the roots of a crate and counts its lines.
//! - [`layers`] reads the declared order and the exceptions, `layers.toml`.
//!
//! Computing:
//!
//! - [`scan`] finds in one parsed file its items, imports and paths, without what only tests
//!   compile.
//! - [`resolve`] follows each path through imports and re-exports to the file that defines it.
//! - [`graph`] finds circles.
//! - [`analysis`] puts these together: arrows between crates and files, circles, sizes.
//! - [`check`] compares the analysis with the layers; [`report`] prints both.
//!
//! # Limits
//!
//! Paths are resolved by name, without expanding macros. A name that a macro defines is taken to
//! be in the file of the module it is looked for in. Method calls make no arrow: whoever has a
//! value got its type from a file that names it. A `use` inside a function counts for its whole
//! module. Templates are not read.

pub mod analysis;
pub mod check;
pub mod graph;
pub mod layers;
pub mod manifest;
pub mod report;
pub mod resolve;
pub mod scan;
pub mod source;

use layers::Layers;
use report::Report;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why a workspace cannot be analysed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A TOML file is malformed or lacks something.
    #[error("{path}: {message}", path = path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A source file does not parse.
    #[error("{path}:{line}: {source}", path = path.display(), line = source.span().start().line)]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: syn::Error,
    },
    /// A module is declared and its file does not exist.
    #[error("{path}: no file for `mod {module};`", path = path.display())]
    NoModule {
        /// The file that declares it.
        path: PathBuf,
        /// The module's name.
        module: String,
    },
}

/// Reads a file, with its path in the error.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Analyses the workspace in `root` and compares it with `layers`.
///
/// # Errors
///
/// [`Error`] if a manifest or a source file cannot be read.
pub fn analyse_and_check(root: &Path, layers: &Layers) -> Result<Report, Error> {
    let crates = analysis::analyse(root)?;
    let findings = check::check(&crates, layers);
    let note = |name: &str| format!("{name} exists now: remove it from `pending` in layers.toml");
    let notes = check::arrived(&crates, layers).into_iter().map(note).collect();
    Ok(Report { crates, findings, notes })
}
