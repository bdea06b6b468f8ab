//! Follows paths through modules, imports and re-exports to the file that defines what they name.

use crate::scan::{NamePath, Reference, Scan, Usage};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The modules of one root: a library, a program or a build script.
#[derive(Debug, Default)]
pub struct Tree {
    /// Its source files; the first is the root.
    pub files: Vec<SourceFile>,
    /// Its modules; the first is the root. An in-line module shares the file of its parent.
    pub modules: Vec<Module>,
}

/// A source file that is not only for tests.
#[derive(Debug)]
pub struct SourceFile {
    /// Its path from the folder of the crate.
    pub path: PathBuf,
    /// The path of its outermost module, empty for the root.
    pub module: Vec<String>,
}

/// A module.
#[derive(Debug)]
pub struct Module {
    /// The index of its file.
    pub file: usize,
    /// The index of its parent.
    pub parent: Option<usize>,
    /// Its submodules by name.
    pub children: BTreeMap<String, usize>,
    /// What it holds.
    pub scan: Scan,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A module of the same root.
    Module(usize),
    /// Something in this file of the same root.
    Item(usize),
    /// Another crate of the workspace, or something in it.
    Crate(String),
}

/// Resolves the paths of one tree.
#[derive(Debug)]
pub struct Resolver<'a> {
    tree: &'a Tree,
    /// The names by which sources call other crates of the workspace, and their packages.
    crates: &'a BTreeMap<String, String>,
}

/// Names being looked up: a module, a name, and whether it ends its path. A glob or an import that
/// leads back to one of these finds nothing new.
type Pending = Vec<(usize, String, bool)>;

impl<'a> Resolver<'a> {
    /// A resolver for `tree`, in which the keys of `crates` name packages of the workspace.
    pub fn new(tree: &'a Tree, crates: &'a BTreeMap<String, String>) -> Self {
        Self { tree, crates }
    }

    /// What a reference in a module names; `None` for anything outside the workspace.
    pub fn target(&self, module: usize, reference: &Reference) -> Option<Target> {
        let path = &reference.path;
        let mut pending = Pending::new();
        match (reference.usage, path.segments.as_slice()) {
            (Usage::Bare, [name]) => self.bare(module, name, &mut pending),
            _ => self.path(module, path, &mut pending),
        }
    }

    /// The index of the file that holds a target; `None` for another crate.
    pub fn file(&self, target: &Target) -> Option<usize> {
        match target {
            Target::Module(module) => Some(self.tree.modules[*module].file),
            Target::Item(file) => Some(*file),
            Target::Crate(_) => None,
        }
    }

    /// One name: only globs are asked, because an import of its own is a reference already.
    fn bare(&self, module: usize, name: &str, pending: &mut Pending) -> Option<Target> {
        let scan = &self.tree.modules[module].scan;
        let known = scan.items.contains(name) || scan.imports.iter().any(|it| it.name == name);
        if known {
            return None;
        }
        self.in_globs(module, name, true, pending)
            .filter(|target| !matches!(target, Target::Module(_)))
    }

    fn path(&self, from: usize, path: &NamePath, pending: &mut Pending) -> Option<Target> {
        let (mut target, rest) = self.start(from, path, pending)?;
        for (index, name) in rest.iter().enumerate() {
            let Target::Module(module) = target else { break };
            let last = index + 1 == rest.len();
            // What is not found was made by a macro, in this file as far as can be told.
            let file = self.tree.modules[module].file;
            target = self.name(module, name, last, pending).unwrap_or(Target::Item(file));
        }
        Some(target)
    }

    /// What the beginning of a path names, and the segments after it.
    fn start<'p>(
        &self,
        from: usize,
        path: &'p NamePath,
        pending: &mut Pending,
    ) -> Option<(Target, &'p [String])> {
        let (first, rest) = path.segments.split_first()?;
        if path.global {
            return Some((self.other_crate(first)?, rest));
        }
        match first.as_str() {
            "crate" => Some((Target::Module(0), rest)),
            "self" => Some((Target::Module(from), rest)).map(|start| self.climb(start)),
            "super" => Some(self.climb((Target::Module(from), &path.segments))),
            name => {
                let target = self.name(from, name, rest.is_empty(), pending);
                Some((target.or_else(|| self.other_crate(name))?, rest))
            }
        }
    }

    /// Goes one module up for each `super` that `rest` begins with.
    fn climb<'p>(&self, (target, rest): (Target, &'p [String])) -> (Target, &'p [String]) {
        match (&target, rest.split_first()) {
            (Target::Module(module), Some((first, after))) if first == "super" => {
                let parent = self.tree.modules[*module].parent.unwrap_or(0);
                self.climb((Target::Module(parent), after))
            }
            _ => (target, rest),
        }
    }

    fn other_crate(&self, name: &str) -> Option<Target> {
        self.crates.get(name).cloned().map(Target::Crate)
    }

    /// What a name means in a module. A segment that others follow is rather a module; the last
    /// one is rather an item.
    fn name(&self, module: usize, name: &str, last: bool, pending: &mut Pending) -> Option<Target> {
        let asked = (module, name.to_owned(), last);
        if pending.contains(&asked) {
            return None;
        }
        pending.push(asked);
        let node = &self.tree.modules[module];
        let child = || node.children.get(name).map(|child| Target::Module(*child));
        let item = || node.scan.items.contains(name).then_some(Target::Item(node.file));
        let first = if last { item() } else { child().or_else(item) };
        let found = first
            .or_else(|| self.in_imports(module, name, pending))
            .or_else(child)
            .or_else(|| self.in_globs(module, name, last, pending));
        pending.pop();
        found
    }

    fn in_imports(&self, module: usize, name: &str, pending: &mut Pending) -> Option<Target> {
        let imports = &self.tree.modules[module].scan.imports;
        let mut named = imports.iter().filter(|import| import.name == name);
        named.find_map(|import| self.path(module, &import.path, pending))
    }

    fn in_globs(
        &self,
        module: usize,
        name: &str,
        last: bool,
        pending: &mut Pending,
    ) -> Option<Target> {
        let globs = &self.tree.modules[module].scan.globs;
        globs.iter().find_map(|glob| match self.path(module, glob, pending)? {
            Target::Module(other) if other != module => self.name(other, name, last, pending),
            _ => None,
        })
    }
}
