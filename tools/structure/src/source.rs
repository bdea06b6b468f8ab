//! Reads the sources of a crate: follows `mod` declarations from its roots, counts lines.

use crate::resolve::{Module, SourceFile, Tree};
use crate::scan::{self, Scan, Submodule};
use crate::{Error, read};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::{fs, mem};

/// The sources of one crate.
#[derive(Debug)]
pub struct Sources {
    /// The modules of each root.
    pub trees: Vec<Tree>,
    /// The lines of all Rust files in the crate's folder.
    pub lines: usize,
    /// Those of them that are not only for tests, benches and examples.
    pub code_lines: usize,
}

/// Reads the crate in `folder`, whose roots are files such as `src/lib.rs` in it.
///
/// # Errors
///
/// [`Error`] if a file cannot be read or parsed, or a declared module has none.
pub fn load(folder: &Path, roots: &[PathBuf]) -> Result<Sources, Error> {
    let mut kinds = Kinds::default();
    let mut trees = Vec::new();
    for root in roots {
        let mut loader = Loader { folder, tree: Tree::default(), kinds: &mut kinds };
        loader.add_file(&Declared {
            path: folder.join(root),
            module: Vec::new(),
            parent: None,
            owns_folder: true,
        })?;
        trees.push(loader.tree);
    }
    let (mut lines, mut code_lines) = (0, 0);
    for path in rust_files(folder)? {
        let all = read(&path)?.lines().count();
        lines += all;
        code_lines += kinds.code_lines(folder, &path, all);
    }
    Ok(Sources { trees, lines, code_lines })
}

/// Which files were met, and what of them is for tests.
#[derive(Default)]
struct Kinds {
    /// The lines of each file of code that only tests compile.
    code: BTreeMap<PathBuf, BTreeSet<usize>>,
    /// Files that only tests compile, and the folders of their submodules.
    tests: BTreeSet<PathBuf>,
}

impl Kinds {
    /// How many of `all` lines are code. A file that no root reaches counts in full, so that it
    /// cannot hide.
    fn code_lines(&self, folder: &Path, path: &Path, all: usize) -> usize {
        if let Some(tests) = self.code.get(path) {
            return all - tests.len().min(all);
        }
        let test = is_test_path(path.strip_prefix(folder).unwrap_or(path))
            || path.ancestors().any(|part| self.tests.contains(part));
        if test { 0 } else { all }
    }

    fn add_test(&mut self, path: &Path) {
        self.tests.insert(path.to_owned());
        if path.file_stem() != Some(OsStr::new("mod")) {
            self.tests.insert(path.with_extension(""));
        }
    }
}

/// Follows the modules of one root.
struct Loader<'a> {
    folder: &'a Path,
    tree: Tree,
    kinds: &'a mut Kinds,
}

/// A file to be read, as its `mod` declaration says.
struct Declared {
    path: PathBuf,
    module: Vec<String>,
    parent: Option<usize>,
    /// Whether its submodules are in the same folder, as those of a root and of `mod.rs`.
    owns_folder: bool,
}

/// Where a module is written.
struct Place {
    file: usize,
    path: PathBuf,
    module: Vec<String>,
    parent: Option<usize>,
    /// The folder where the files of its submodules are.
    children: PathBuf,
    inline: bool,
}

impl Loader<'_> {
    /// Reads a file and those of its submodules; `None` if it is only for tests.
    fn add_file(&mut self, declared: &Declared) -> Result<Option<usize>, Error> {
        let path = &declared.path;
        let parsed = syn::parse_file(&read(path)?)
            .map_err(|source| Error::Parse { path: path.clone(), source })?;
        let scan = scan::scan(&parsed);
        if scan.test {
            self.kinds.add_test(path);
            return Ok(None);
        }
        self.kinds.code.insert(path.clone(), scan.test_lines);
        let shown = path.strip_prefix(self.folder).unwrap_or(path).to_owned();
        self.tree.files.push(SourceFile { path: shown, module: declared.module.clone() });
        let children = if declared.owns_folder { folder_of(path) } else { path.with_extension("") };
        let place = Place {
            file: self.tree.files.len() - 1,
            path: path.clone(),
            module: declared.module.clone(),
            parent: declared.parent,
            children,
            inline: false,
        };
        self.add_module(scan.module, &place).map(Some)
    }

    fn add_module(&mut self, mut scan: Scan, place: &Place) -> Result<usize, Error> {
        let submodules = mem::take(&mut scan.submodules);
        let id = self.tree.modules.len();
        let (file, parent) = (place.file, place.parent);
        self.tree.modules.push(Module { file, parent, children: BTreeMap::new(), scan });
        for submodule in submodules {
            let name = submodule.name.clone();
            if let Some(child) = self.add_submodule(submodule, id, place)? {
                self.tree.modules[id].children.insert(name, child);
            }
        }
        Ok(id)
    }

    fn add_submodule(
        &mut self,
        submodule: Submodule,
        parent: usize,
        place: &Place,
    ) -> Result<Option<usize>, Error> {
        let mut module = place.module.clone();
        module.push(submodule.name.clone());
        if let Some(content) = submodule.content {
            let inner = Place {
                file: place.file,
                path: place.path.clone(),
                module,
                parent: Some(parent),
                children: place.children.join(&submodule.name),
                inline: true,
            };
            return self.add_module(content, &inner).map(Some);
        }
        let path = file_of(&submodule, place)?;
        let shown = path.strip_prefix(self.folder).unwrap_or(&path);
        if submodule.test || is_test_path(shown) {
            self.kinds.add_test(&path);
            return Ok(None);
        }
        let owns_folder = submodule.path.is_some() || path.file_stem() == Some(OsStr::new("mod"));
        self.add_file(&Declared { path, module, parent: Some(parent), owns_folder })
    }
}

/// The file of a module that is declared at `place`.
fn file_of(submodule: &Submodule, place: &Place) -> Result<PathBuf, Error> {
    if let Some(path) = &submodule.path {
        let base = if place.inline { place.children.clone() } else { folder_of(&place.path) };
        return Ok(without_dots(&base.join(path)));
    }
    let beside = place.children.join(format!("{}.rs", submodule.name));
    let inside = place.children.join(&submodule.name).join("mod.rs");
    [beside, inside]
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| Error::NoModule { path: place.path.clone(), module: submodule.name.clone() })
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

/// The path without `.` and `..`, so that a file has one name.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// Whether a path from a crate's folder is that of a test, a bench or an example.
fn is_test_path(path: &Path) -> bool {
    let mut folders = path.parent().into_iter().flat_map(Path::components);
    let first = folders.next().map(Component::as_os_str);
    let top = first.is_some_and(|name| name == "tests" || name == "benches" || name == "examples");
    let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    top || folders.any(|part| part.as_os_str() == "tests")
        || stem == "tests"
        || stem.starts_with("tests_")
}

/// The Rust files in a folder, without hidden folders, `target` and other packages.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = |source| Error::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if path.is_dir() {
            let skipped =
                name.starts_with('.') || name == "target" || path.join("Cargo.toml").exists();
            if !skipped {
                files.extend(rust_files(&path)?);
            }
        } else if path.extension() == Some(OsStr::new("rs")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_known_by_their_place_and_name() {
        for path in ["tests/a.rs", "benches/a.rs", "examples/b/c.rs", "src/a/tests.rs"] {
            assert!(is_test_path(Path::new(path)), "{path}");
        }
        for path in ["src/tests_of_a.rs", "src/a/tests/b.rs"] {
            assert!(is_test_path(Path::new(path)), "{path}");
        }
        for path in ["src/lib.rs", "src/examples/a.rs", "src/testing.rs", "build.rs"] {
            assert!(!is_test_path(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn dots_are_resolved() {
        assert_eq!(without_dots(Path::new("a/b/../../c/./d.rs")), Path::new("c/d.rs"));
        assert_eq!(without_dots(Path::new("../a")), Path::new("../a"));
    }
}
