//! Puts manifests and sources together: arrows between crates and between files, circles, sizes.

use crate::Error;
use crate::graph::circles;
use crate::manifest::{self, Dependency, DependencyKind, Member};
use crate::resolve::{Resolver, SourceFile, Target, Tree};
use crate::scan::Reference;
use crate::source::{self, Sources};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What was computed of one crate.
#[derive(Debug, Serialize)]
pub struct Crate {
    /// The name of its package.
    pub name: String,
    /// Its folder, from that of the workspace.
    pub folder: PathBuf,
    /// The lines of its Rust files.
    pub lines: usize,
    /// Those of them that are not only for tests, benches and examples.
    pub code_lines: usize,
    /// What its `Cargo.toml` depends on in the workspace.
    pub dependencies: Vec<Dependency>,
    /// Where its code names other crates of the workspace: the first place in each file.
    pub uses: Vec<CrateUse>,
    /// The number of its files that are not only for tests.
    pub files: usize,
    /// The number of arrows between two of them.
    pub file_arrows: usize,
    /// The number of modules just below its roots.
    pub modules: usize,
    /// The number of arrows between two of them.
    pub module_arrows: usize,
    /// Its circles.
    pub circles: Vec<Circle>,
}

/// A place where a crate names another one.
#[derive(Clone, Debug, Serialize)]
pub struct CrateUse {
    /// The package named.
    pub package: String,
    /// The file, from the folder of the workspace.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// The path or `use` declaration.
    pub text: String,
}

/// Files, or modules, that import each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Circle {
    /// What it is made of.
    pub level: Level,
    /// Files, from the folder of the crate, or names of modules.
    pub members: BTreeSet<String>,
    /// For each arrow between two of them, the first place that makes it.
    pub uses: Vec<FileUse>,
}

/// What a circle is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Files. Arrows between a module and one inside it make no circle.
    Files,
    /// Modules just below a root, each with all that is inside it. Such a circle may pass from a
    /// file to its parent, which one of files may not.
    Modules,
}

impl Level {
    /// The word for what such a circle is made of.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Modules => "modules",
        }
    }
}

/// A place where a file names something in another file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FileUse {
    /// The file that names it.
    pub from: String,
    /// Its line, from 1.
    pub line: usize,
    /// The file where it is defined.
    pub to: String,
    /// The path or `use` declaration.
    pub text: String,
}

impl Crate {
    /// The other crates of the workspace that its `Cargo.toml` has in sections of this kind.
    pub fn depends_on(&self, kind: DependencyKind) -> BTreeSet<&str> {
        let wanted = self.dependencies.iter().filter(|dependency| dependency.kind == kind);
        wanted.map(|dependency| dependency.package.as_str()).collect()
    }
}

/// Analyses the workspace in `root`; crates come in alphabetical order.
///
/// # Errors
///
/// [`Error`] if a manifest or a source file cannot be read.
pub fn analyse(root: &Path) -> Result<Vec<Crate>, Error> {
    let members = manifest::members(root)?;
    let mut crates = Vec::new();
    for member in &members {
        let sources = source::load(&root.join(&member.folder), &member.roots)?;
        crates.push(analyse_member(member, &names(member, &members), &sources));
    }
    Ok(crates)
}

/// The names by which the sources of `member` call the other crates, and their packages. Those it
/// does not depend on are among them, so that a missing dependency has its line.
fn names(member: &Member, members: &[Member]) -> BTreeMap<String, String> {
    let others = members.iter().filter(|other| other.name != member.name);
    let mut names: BTreeMap<_, _> =
        others.map(|other| (other.library.clone(), other.name.clone())).collect();
    let renamed = member.dependencies.iter().filter(|it| it.key != it.package);
    names.extend(renamed.map(|it| (it.key.replace('-', "_"), it.package.clone())));
    names
}

fn analyse_member(member: &Member, names: &BTreeMap<String, String>, sources: &Sources) -> Crate {
    let mut result = Crate {
        name: member.name.clone(),
        folder: member.folder.clone(),
        lines: sources.lines,
        code_lines: sources.code_lines,
        dependencies: member.dependencies.clone(),
        uses: Vec::new(),
        files: 0,
        file_arrows: 0,
        modules: 0,
        module_arrows: 0,
        circles: Vec::new(),
    };
    for tree in &sources.trees {
        add_tree(&mut result, tree, &Arrows::of(tree, &Resolver::new(tree, names)));
    }
    result
}

fn add_tree(result: &mut Crate, tree: &Tree, arrows: &Arrows) {
    for ((file, package), reference) in &arrows.crates {
        result.uses.push(CrateUse {
            package: package.clone(),
            file: shown(&result.folder.join(&tree.files[*file].path)),
            line: reference.line,
            text: reference.to_string(),
        });
    }
    let modules = Modules::of(tree, arrows);
    result.files += tree.files.len();
    result.file_arrows += arrows.files.len();
    result.modules += modules.names.len();
    result.module_arrows += modules.arrows.len();
    let files = file_circles(tree, arrows);
    let found = modules.circles(tree, arrows, &files).into_iter().chain(files);
    for circle in found {
        if !result.circles.iter().any(|known| known.members == circle.members) {
            result.circles.push(circle);
        }
    }
}

/// The arrows of one tree, with the first reference that makes each.
struct Arrows {
    files: BTreeMap<(usize, usize), Reference>,
    crates: BTreeMap<(usize, String), Reference>,
}

impl Arrows {
    fn of(tree: &Tree, resolver: &Resolver<'_>) -> Self {
        let mut arrows = Self { files: BTreeMap::new(), crates: BTreeMap::new() };
        for (id, module) in tree.modules.iter().enumerate() {
            for reference in &module.scan.references {
                match resolver.target(id, reference) {
                    Some(Target::Crate(package)) => {
                        keep_first(&mut arrows.crates, (module.file, package), reference);
                    }
                    Some(target) => {
                        let file = resolver.file(&target).filter(|file| *file != module.file);
                        if let Some(file) = file {
                            keep_first(&mut arrows.files, (module.file, file), reference);
                        }
                    }
                    None => {}
                }
            }
        }
        arrows
    }
}

fn keep_first<K: Ord>(arrows: &mut BTreeMap<K, Reference>, key: K, reference: &Reference) {
    let first = arrows.entry(key).or_insert_with(|| reference.clone());
    if reference.line < first.line {
        *first = reference.clone();
    }
}

/// The circles of files, without arrows between a module and one inside it.
fn file_circles(tree: &Tree, arrows: &Arrows) -> Vec<Circle> {
    let related = |from: usize, to: usize| {
        let (from, to) = (&tree.files[from].module, &tree.files[to].module);
        from.starts_with(to) || to.starts_with(from)
    };
    let edges: BTreeSet<_> =
        arrows.files.keys().copied().filter(|&(from, to)| !related(from, to)).collect();
    let components = circles(tree.files.len(), &edges);
    components.iter().map(|files| circle(tree, arrows, &edges, files)).collect()
}

fn circle(
    tree: &Tree,
    arrows: &Arrows,
    edges: &BTreeSet<(usize, usize)>,
    files: &[usize],
) -> Circle {
    let name = |file: usize| shown(&tree.files[file].path);
    let inside = edges.iter().filter(|(from, to)| files.contains(from) && files.contains(to));
    let uses = uses(tree, arrows, inside.copied());
    Circle { level: Level::Files, members: files.iter().map(|file| name(*file)).collect(), uses }
}

/// The places that make these arrows between files, by file and line.
fn uses(
    tree: &Tree,
    arrows: &Arrows,
    pairs: impl IntoIterator<Item = (usize, usize)>,
) -> Vec<FileUse> {
    let name = |file: usize| shown(&tree.files[file].path);
    let place = |(from, to)| {
        let reference = arrows.files.get(&(from, to))?;
        let (line, text) = (reference.line, reference.to_string());
        Some(FileUse { from: name(from), line, to: name(to), text })
    };
    let mut uses: Vec<_> = pairs.into_iter().filter_map(place).collect();
    uses.sort();
    uses
}

/// The modules just below a root, and the arrows between them.
struct Modules {
    names: Vec<String>,
    /// Each with the first pair of files that makes it.
    arrows: BTreeMap<(usize, usize), (usize, usize)>,
}

impl Modules {
    fn of(tree: &Tree, arrows: &Arrows) -> Self {
        let names: BTreeSet<String> = tree.files.iter().filter_map(top_module).cloned().collect();
        let mut modules = Self { names: names.into_iter().collect(), arrows: BTreeMap::new() };
        for &(from, to) in arrows.files.keys() {
            match (modules.number(tree, from), modules.number(tree, to)) {
                (Some(a), Some(b)) if a != b => {
                    modules.arrows.entry((a, b)).or_insert((from, to));
                }
                _ => {}
            }
        }
        modules
    }

    fn number(&self, tree: &Tree, file: usize) -> Option<usize> {
        self.names.binary_search(top_module(&tree.files[file])?).ok()
    }

    /// The circles, without those that a circle of files already shows.
    fn circles(&self, tree: &Tree, arrows: &Arrows, files: &[Circle]) -> Vec<Circle> {
        let edges = self.arrows.keys().copied().collect();
        let components = circles(self.names.len(), &edges);
        let found = components.iter().map(|modules| self.circle(tree, arrows, modules));
        let shown = |circle: &Circle| {
            files.iter().any(|it| modules_of(tree, &it.members) == circle.members)
        };
        found.filter(|circle| !shown(circle)).collect()
    }

    fn circle(&self, tree: &Tree, arrows: &Arrows, modules: &[usize]) -> Circle {
        let inside = self
            .arrows
            .iter()
            .filter(|((from, to), _)| modules.contains(from) && modules.contains(to));
        Circle {
            level: Level::Modules,
            members: modules.iter().map(|module| self.names[*module].clone()).collect(),
            uses: uses(tree, arrows, inside.map(|(_, pair)| *pair)),
        }
    }
}

fn top_module(file: &SourceFile) -> Option<&String> {
    file.module.first()
}

/// The modules just below the root that these files are in.
fn modules_of(tree: &Tree, files: &BTreeSet<String>) -> BTreeSet<String> {
    let named = tree.files.iter().filter(|file| files.contains(&shown(&file.path)));
    named.filter_map(top_module).cloned().collect()
}

/// A path with forward slashes.
fn shown(path: &Path) -> String {
    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}
