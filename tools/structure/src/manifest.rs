//! Reads the members of a workspace and their dependencies on each other.

use crate::{Error, read};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// A crate of the workspace.
#[derive(Debug)]
pub struct Member {
    /// The name of its package.
    pub name: String,
    /// The name by which sources call its library.
    pub library: String,
    /// Its folder, from that of the workspace.
    pub folder: PathBuf,
    /// Its roots, from its folder: library, programs, build script.
    pub roots: Vec<PathBuf>,
    /// What it depends on in the workspace.
    pub dependencies: Vec<Dependency>,
}

/// A dependency of one member on another.
#[derive(Clone, Debug, Serialize)]
pub struct Dependency {
    /// The package depended on.
    pub package: String,
    /// The name under which `Cargo.toml` has it.
    #[serde(skip)]
    pub key: String,
    /// The section it is in.
    pub kind: DependencyKind,
    /// Its line in `Cargo.toml`, from 1.
    pub line: usize,
}

/// The section that a dependency is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DependencyKind {
    /// `[dependencies]`
    Normal,
    /// `[dev-dependencies]`
    Dev,
    /// `[build-dependencies]`
    Build,
}

const SECTIONS: [(&str, DependencyKind); 3] = [
    ("dependencies", DependencyKind::Normal),
    ("dev-dependencies", DependencyKind::Dev),
    ("build-dependencies", DependencyKind::Build),
];

/// Reads the workspace in `root`.
///
/// # Errors
///
/// [`Error`] if a `Cargo.toml` cannot be read or is malformed.
pub fn members(root: &Path) -> Result<Vec<Member>, Error> {
    let path = root.join("Cargo.toml");
    let text = read(&path)?;
    let workspace = parse(&path, &text)?;
    let shared = renames(&workspace);
    let mut found = Vec::new();
    for folder in member_folders(root, &path, &workspace)? {
        found.push(member(root, folder, &shared)?);
    }
    let names: BTreeSet<String> = found.iter().map(|member| member.name.clone()).collect();
    for member in &mut found {
        member.dependencies.retain(|dependency| names.contains(&dependency.package));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn parse<'t>(path: &Path, text: &'t str) -> Result<DeTable<'t>, Error> {
    let fail = |error: toml::de::Error| malformed(path, error.to_string());
    Ok(DeTable::parse(text).map_err(fail)?.into_inner())
}

fn malformed(path: &Path, message: impl Into<String>) -> Error {
    Error::Toml { path: path.to_owned(), message: message.into() }
}

fn get<'t>(table: &'t DeTable<'_>, keys: &[&str]) -> Option<&'t DeValue<'t>> {
    let (first, rest) = keys.split_first()?;
    let value = table.get(*first)?.get_ref();
    if rest.is_empty() { Some(value) } else { get(value.as_table()?, rest) }
}

fn get_str<'t>(table: &'t DeTable<'_>, keys: &[&str]) -> Option<&'t str> {
    get(table, keys)?.as_str()
}

/// The packages of `[workspace.dependencies]` that have another name there.
fn renames(workspace: &DeTable<'_>) -> BTreeMap<String, String> {
    let Some(table) = get(workspace, &["workspace", "dependencies"]).and_then(DeValue::as_table)
    else {
        return BTreeMap::new();
    };
    let package = |value: &DeValue<'_>| get_str(value.as_table()?, &["package"]).map(str::to_owned);
    table
        .iter()
        .filter_map(|(key, value)| Some((key.get_ref().to_string(), package(value.get_ref())?)))
        .collect()
}

/// The folders of the members, from `root`. Of patterns only a final `*` is understood.
fn member_folders(
    root: &Path,
    path: &Path,
    workspace: &DeTable<'_>,
) -> Result<Vec<PathBuf>, Error> {
    let patterns = get(workspace, &["workspace", "members"])
        .and_then(DeValue::as_array)
        .ok_or_else(|| malformed(path, "workspace.members is missing"))?;
    let mut folders = BTreeSet::new();
    if get(workspace, &["package"]).is_some() {
        folders.insert(PathBuf::new());
    }
    for pattern in patterns.iter().filter_map(|pattern| pattern.get_ref().as_str()) {
        match pattern.strip_suffix("/*") {
            Some(parent) => folders.extend(packages_in(root, Path::new(parent))?),
            None if pattern.contains(['*', '?', '[']) => {
                return Err(malformed(path, format!("{pattern}: only a final * is understood")));
            }
            None => {
                folders.insert(PathBuf::from(pattern));
            }
        }
    }
    Ok(folders.into_iter().collect())
}

fn packages_in(root: &Path, parent: &Path) -> Result<Vec<PathBuf>, Error> {
    let folder = root.join(parent);
    let fail = |source| Error::Read { path: folder.clone(), source };
    let mut packages = Vec::new();
    for entry in fs::read_dir(&folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.path().join("Cargo.toml").is_file() {
            packages.push(parent.join(entry.file_name()));
        }
    }
    Ok(packages)
}

fn member(
    root: &Path,
    folder: PathBuf,
    shared: &BTreeMap<String, String>,
) -> Result<Member, Error> {
    let path = root.join(&folder).join("Cargo.toml");
    let text = read(&path)?;
    let manifest = parse(&path, &text)?;
    let name = get_str(&manifest, &["package", "name"])
        .ok_or_else(|| malformed(&path, "package.name is missing"))?
        .to_owned();
    let library = get_str(&manifest, &["lib", "name"]).unwrap_or(&name).replace('-', "_");
    let roots = roots(&root.join(&folder), &manifest)?;
    let mut dependencies = dependencies(&manifest, &text, shared);
    dependencies.retain(|dependency| dependency.package != name);
    Ok(Member { name, library, folder, roots, dependencies })
}

/// The root files of a package, from its folder.
fn roots(folder: &Path, manifest: &DeTable<'_>) -> Result<Vec<PathBuf>, Error> {
    let library = get_str(manifest, &["lib", "path"]).unwrap_or("src/lib.rs");
    let mut roots =
        vec![PathBuf::from(library), PathBuf::from("src/main.rs"), PathBuf::from("build.rs")];
    if let Some(programs) = get(manifest, &["bin"]).and_then(DeValue::as_array) {
        let tables = programs.iter().filter_map(|program| program.get_ref().as_table());
        roots.extend(tables.filter_map(|table| get_str(table, &["path"])).map(PathBuf::from));
    }
    let programs = folder.join("src/bin");
    if programs.is_dir() {
        let fail = |source| Error::Read { path: programs.clone(), source };
        for entry in fs::read_dir(&programs).map_err(fail)? {
            let path = Path::new("src/bin").join(entry.map_err(fail)?.file_name());
            let is_file = path.extension().is_some_and(|extension| extension == "rs");
            roots.push(if is_file { path } else { path.join("main.rs") });
        }
    }
    roots.sort();
    roots.dedup();
    roots.retain(|root| folder.join(root).is_file());
    Ok(roots)
}

/// All dependencies, those of `[target.'...'.dependencies]` included.
fn dependencies(
    manifest: &DeTable<'_>,
    text: &str,
    shared: &BTreeMap<String, String>,
) -> Vec<Dependency> {
    let targets = get(manifest, &["target"]).and_then(DeValue::as_table);
    let per_target = targets.into_iter().flat_map(|targets| targets.values());
    let tables = per_target.filter_map(|value| value.get_ref().as_table());
    let mut found = Vec::new();
    for table in tables.chain([manifest]) {
        for (section, kind) in SECTIONS {
            let Some(section) = get(table, &[section]).and_then(DeValue::as_table) else {
                continue;
            };
            for (key, value) in section {
                let name = key.get_ref().to_string();
                let renamed = value.get_ref().as_table().and_then(|it| get_str(it, &["package"]));
                let package = renamed.or_else(|| shared.get(&name).map(String::as_str));
                let package = package.unwrap_or(&name).to_owned();
                let line = line_of(text, key.span().start);
                found.push(Dependency { package, key: name, kind, line });
            }
        }
    }
    found.sort_by_key(|dependency| dependency.line);
    found
}

/// The line of a byte of `text`, from 1.
fn line_of(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
}
