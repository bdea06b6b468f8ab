//! Compares the analysis of a workspace with its declared layers.

use crate::analysis::{Circle, Crate, FileUse};
use crate::layers::{KnownCircle, Layers};
use crate::manifest::{Dependency, DependencyKind};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// Something that fails the check.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What sort of thing it is.
    pub kind: FindingKind,
    /// The crate it is in.
    #[serde(rename = "crate")]
    pub name: String,
    /// The file, from the folder of the workspace, where there is one.
    pub file: Option<String>,
    /// The line of the file, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
    /// The places that make a circle.
    pub uses: Vec<FileUse>,
}

/// The sorts of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// A crate is in no layer.
    UnlistedCrate,
    /// A layer has no crate.
    MissingCrate,
    /// `Cargo.toml` has a dependency that the layers do not allow.
    WrongDependency,
    /// A source file names a crate that the layers do not allow.
    WrongImport,
    /// A source file names a crate that `Cargo.toml` does not have.
    UndeclaredImport,
    /// `Cargo.toml` has a dependency that no source file names.
    UnusedDependency,
    /// A crate has too many lines.
    LargeCrate,
    /// A crate is listed as too large and is not.
    NotLarge,
    /// Files or modules import each other.
    NewCircle,
    /// A known circle has more members than are listed.
    GrownCircle,
    /// A known circle has fewer members than are listed.
    ShrunkCircle,
    /// A known circle is gone.
    VanishedCircle,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, _) => {}
        }
        writeln!(f, "{}", self.message)?;
        for place in &self.uses {
            writeln!(f, "    {place}")?;
        }
        write!(f, "    {}", self.advice)
    }
}

impl fmt::Display for FileUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}  -> {}", self.from, self.line, self.text, self.to)
    }
}

/// All findings, in the order of the crates.
pub fn check(crates: &[Crate], layers: &Layers) -> Vec<Finding> {
    let mut findings = missing(crates, layers);
    for member in crates {
        findings.extend(unlisted(member, layers));
        findings.extend(directions(member, layers));
        findings.extend(declarations(member));
        findings.extend(size(member, layers));
        findings.extend(new_circles(member, layers));
    }
    findings.extend(gone_circles(crates, layers));
    findings.extend(gone_large(crates, layers));
    findings
}

/// The crates that are listed as pending and exist.
pub fn arrived<'l>(crates: &[Crate], layers: &'l Layers) -> Vec<&'l str> {
    let exists = |name: &&str| crates.iter().any(|member| member.name == *name);
    layers.pending.iter().map(String::as_str).filter(exists).collect()
}

impl Finding {
    fn new(kind: FindingKind, name: &str, message: String, advice: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            file: None,
            line: None,
            message,
            advice: advice.into(),
            uses: Vec::new(),
        }
    }

    fn at(mut self, file: impl Into<String>, line: usize) -> Self {
        self.file = Some(file.into());
        self.line = Some(line);
        self
    }

    fn with_uses(mut self, uses: &[FileUse]) -> Self {
        self.uses = uses.to_vec();
        self
    }
}

fn manifest(member: &Crate) -> String {
    member.folder.join("Cargo.toml").to_string_lossy().into_owned()
}

fn missing(crates: &[Crate], layers: &Layers) -> Vec<Finding> {
    let absent = |name: &&str| {
        !layers.pending.contains(*name) && crates.iter().all(|member| member.name != *name)
    };
    let finding = |name: &str| {
        let message = format!("{name} is listed in layers.toml and is not in the workspace");
        let advice = "Remove it from layers.toml, or add it to its list `pending`.";
        Finding::new(FindingKind::MissingCrate, name, message, advice)
    };
    layers.names().filter(absent).map(finding).collect()
}

fn unlisted(member: &Crate, layers: &Layers) -> Option<Finding> {
    let name = &member.name;
    if layers.names().any(|listed| listed == name) {
        return None;
    }
    let message = format!("{name} has no place in the order of layers");
    let advice = "Add it to layers.toml above every crate that it uses.";
    Some(Finding::new(FindingKind::UnlistedCrate, name, message, advice).at(manifest(member), 1))
}

/// Dependencies and imports that the layers do not allow.
fn directions(member: &Crate, layers: &Layers) -> Vec<Finding> {
    let name = &member.name;
    let Some(may_use) = layers.may_use(name) else { return Vec::new() };
    let advice = |package: &str| {
        format!(
            "Move what is needed down to a crate that both may use, or hand it in from above; \
             only if the design changed, add {package} to `may_use` of {name} in layers.toml."
        )
    };
    let allowed = |dependency: &&Dependency| {
        let for_tests = dependency.kind == DependencyKind::Dev;
        may_use.contains(&dependency.package)
            || for_tests && layers.dev_only.contains(&dependency.package)
    };
    let dependencies = member.dependencies.iter().filter(|it| !allowed(it)).map(|it| {
        let message = format!("{name} may not depend on {}", it.package);
        Finding::new(FindingKind::WrongDependency, name, message, advice(&it.package))
            .at(manifest(member), it.line)
    });
    let imports = member.uses.iter().filter(|it| !may_use.contains(&it.package)).map(|it| {
        let message = format!("{name} may not import from {}: {}", it.package, it.text);
        Finding::new(FindingKind::WrongImport, name, message, advice(&it.package))
            .at(&it.file, it.line)
    });
    dependencies.chain(imports).collect()
}

/// Imports without a dependency, and dependencies without an import.
fn declarations(member: &Crate) -> Vec<Finding> {
    let name = &member.name;
    let outside_tests =
        |it: &&Dependency| matches!(it.kind, DependencyKind::Normal | DependencyKind::Build);
    let declared: BTreeSet<_> =
        member.dependencies.iter().filter(outside_tests).map(|it| &it.package).collect();
    let used: BTreeSet<_> = member.uses.iter().map(|it| &it.package).collect();
    let undeclared = member.uses.iter().filter(|it| !declared.contains(&it.package)).map(|it| {
        let message =
            format!("{name} imports from {} and does not depend on it: {}", it.package, it.text);
        let advice = "Add it to [dependencies] if its layer allows that, or take the import out.";
        Finding::new(FindingKind::UndeclaredImport, name, message, advice).at(&it.file, it.line)
    });
    let unused = member.dependencies.iter().filter(outside_tests);
    let unused = unused.filter(|it| !used.contains(&it.package)).map(|it| {
        let message = format!("{name} depends on {} and never uses it", it.package);
        let advice = "Remove it, or move it to [dev-dependencies] if only tests use it.";
        Finding::new(FindingKind::UnusedDependency, name, message, advice)
            .at(manifest(member), it.line)
    });
    undeclared.chain(unused).collect()
}

fn size(member: &Crate, layers: &Layers) -> Option<Finding> {
    let Crate { name, code_lines, .. } = member;
    let known = layers.known_large.iter().find(|known| known.name == *name);
    let limit = known.map_or(layers.max_lines, |known| known.max_lines);
    (*code_lines > limit).then(|| {
        let message = format!("{name} has {code_lines} lines without its tests, {limit} at most");
        let advice = "Split it, or move a part to the crate where it belongs.";
        Finding::new(FindingKind::LargeCrate, name, message, advice).at(manifest(member), 1)
    })
}

fn gone_large(crates: &[Crate], layers: &Layers) -> Vec<Finding> {
    let still = |name: &str| {
        let mut named = crates.iter().filter(|member| member.name == name);
        named.any(|member| member.code_lines > layers.max_lines)
    };
    let gone = layers.known_large.iter().filter(|known| !still(&known.name));
    let finding = |name: &str| {
        let message = format!("{name} is listed in `known_large` and is within the limit");
        Finding::new(FindingKind::NotLarge, name, message, "Remove it from layers.toml.")
    };
    gone.map(|known| finding(&known.name)).collect()
}

/// How a circle compares with the known ones of its crate.
enum Comparison<'a> {
    Known,
    /// It has all members of a known one and more.
    Grown(&'a KnownCircle),
    /// It is a part of a known one, which [`gone_circles`] reports.
    Part,
    New,
}

fn reconcile<'a>(circle: &Circle, known: &[&'a KnownCircle]) -> Comparison<'a> {
    let members = &circle.members;
    let grown = known.iter().find(|it| it.members().is_subset(members));
    if known.iter().any(|it| it.members() == members) {
        Comparison::Known
    } else if known.iter().any(|it| members.is_subset(it.members())) {
        Comparison::Part
    } else {
        grown.map_or(Comparison::New, |it| Comparison::Grown(it))
    }
}

fn new_circles(member: &Crate, layers: &Layers) -> Vec<Finding> {
    let name = &member.name;
    let finding = |circle: &Circle| {
        let of_its_sort = |it: &&KnownCircle| it.name == *name && it.level() == circle.level;
        let known: Vec<_> = layers.known_circles.iter().filter(of_its_sort).collect();
        let (kind, message) = match reconcile(circle, &known) {
            Comparison::Known | Comparison::Part => return None,
            Comparison::New => (FindingKind::NewCircle, new_message(name, circle)),
            Comparison::Grown(known) => {
                (FindingKind::GrownCircle, grown_message(name, circle, known))
            }
        };
        let advice = "Take out the imports of one direction: move what both need to a file of its \
                      own below them, or hand it in.";
        Some(Finding::new(kind, name, message, advice).with_uses(&circle.uses))
    };
    member.circles.iter().filter_map(finding).collect()
}

fn new_message(name: &str, circle: &Circle) -> String {
    format!(
        "{name}: {} {} import each other in a circle: {}",
        circle.members.len(),
        circle.level.word(),
        list(&circle.members)
    )
}

fn grown_message(name: &str, circle: &Circle, known: &KnownCircle) -> String {
    let added: BTreeSet<String> = circle.members.difference(known.members()).cloned().collect();
    format!("{name}: {} has grown by {}", describe(known), list(&added))
}

/// Known circles that do not exist as they are listed.
fn gone_circles(crates: &[Crate], layers: &Layers) -> Vec<Finding> {
    let finding = |known: &KnownCircle| {
        let circles: Vec<_> = alike(crates, known).collect();
        if circles.iter().any(|circle| known.members().is_subset(&circle.members)) {
            return None;
        }
        let is_part = |circle: &&Circle| circle.members.is_subset(known.members());
        let parts: Vec<_> = circles.into_iter().filter(is_part).collect();
        Some(if parts.is_empty() { vanished(known) } else { shrunk(known, &parts) })
    };
    layers.known_circles.iter().filter_map(finding).collect()
}

/// The circles of the crate and level of `known`.
fn alike<'a>(crates: &'a [Crate], known: &'a KnownCircle) -> impl Iterator<Item = &'a Circle> {
    let members = crates.iter().filter(move |member| member.name == known.name);
    members.flat_map(|member| &member.circles).filter(move |it| it.level == known.level())
}

fn vanished(known: &KnownCircle) -> Finding {
    let message = format!("{}: {} is gone: {}", known.name, describe(known), list(known.members()));
    let advice = "Remove it from `known_circle` in layers.toml.";
    Finding::new(FindingKind::VanishedCircle, &known.name, message, advice)
}

fn shrunk(known: &KnownCircle, parts: &[&Circle]) -> Finding {
    let parts: Vec<_> = parts.iter().map(|part| list(&part.members)).collect();
    let (name, parts) = (&known.name, parts.join("; "));
    let message = format!("{name}: of {} there remains: {parts}", describe(known));
    let advice = "Put what remains in its place in layers.toml; `--known` prints it.";
    Finding::new(FindingKind::ShrunkCircle, name, message, advice)
}

fn describe(known: &KnownCircle) -> String {
    format!("the known circle of {} {}", known.members().len(), known.level().word())
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
