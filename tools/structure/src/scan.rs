//! What one parsed source file declares, imports and names, without what only tests compile.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::fmt;
use std::mem;
use syn::ext::IdentExt as _;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, Token, UseTree};

/// A path as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePath {
    /// Whether it begins with `::`, and so with the name of a crate.
    pub global: bool,
    /// Its segments, without generic arguments.
    pub segments: Vec<String>,
}

/// How a path is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// In a `use` declaration.
    Use,
    /// In a glob, `use path::*`.
    Glob,
    /// Anywhere else.
    Inline,
    /// Anywhere else, as one name that a glob may have brought.
    Bare,
}

/// One use of a path.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The path.
    pub path: NamePath,
    /// Its line in the file, from 1.
    pub line: usize,
    /// How it is used.
    pub usage: Usage,
}

/// A name that a `use` declaration brings into a module.
#[derive(Clone, Debug)]
pub struct Import {
    /// The name in the module.
    pub name: String,
    /// The path it stands for.
    pub path: NamePath,
}

/// A `mod` declaration.
#[derive(Debug)]
pub struct Submodule {
    /// Its name.
    pub name: String,
    /// Whether only tests compile it.
    pub test: bool,
    /// The value of its `#[path]` attribute.
    pub path: Option<String>,
    /// Its content, unless that is in a file of its own.
    pub content: Option<Scan>,
}

/// One module: of a file or in-line.
#[derive(Debug, Default)]
pub struct Scan {
    /// The names of its items, modules apart.
    pub items: BTreeSet<String>,
    /// What its `use` declarations bring.
    pub imports: Vec<Import>,
    /// The paths of its globs.
    pub globs: Vec<NamePath>,
    /// All paths in it, those of `use` declarations included.
    pub references: Vec<Reference>,
    /// Its submodules.
    pub submodules: Vec<Submodule>,
}

/// One source file.
#[derive(Debug)]
pub struct FileScan {
    /// Its outermost module.
    pub module: Scan,
    /// The lines that only tests compile, from 1.
    pub test_lines: BTreeSet<usize>,
    /// Whether the whole file is for tests, by `#![cfg(test)]`.
    pub test: bool,
}

/// Scans a parsed file.
pub fn scan(file: &syn::File) -> FileScan {
    let mut scanner = Scanner::default();
    scanner.visit_file(file);
    FileScan {
        module: scanner.module,
        test_lines: scanner.test_lines,
        test: only_in_tests(&file.attrs),
    }
}

impl fmt::Display for NamePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.global { "::" } else { "" }, self.segments.join("::"))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.usage {
            Usage::Use => write!(f, "use {};", self.path),
            Usage::Glob => write!(f, "use {}::*;", self.path),
            Usage::Inline => write!(f, "{}", self.path),
            Usage::Bare => write!(f, "{} (by a glob)", self.path),
        }
    }
}

#[derive(Default)]
struct Scanner {
    module: Scan,
    test_lines: BTreeSet<usize>,
}

impl Scanner {
    /// Whether `attrs` leave the node to tests; if so its lines are noted.
    fn leave_out(&mut self, attrs: &[Attribute], span: Span) -> bool {
        let test = only_in_tests(attrs);
        if test {
            self.test_lines.extend(span.start().line..=span.end().line);
        }
        test
    }

    fn refer(&mut self, path: NamePath, span: Span, usage: Usage) {
        self.module.references.push(Reference { path, line: span.start().line, usage });
    }

    /// Records a path of at least two segments.
    fn refer_path(&mut self, path: NamePath, span: Span) {
        if path.segments.len() > 1 || path.global {
            self.refer(path, span, Usage::Inline);
        }
    }

    /// Finds paths in tokens that are not parsed: arguments of macros and attributes.
    fn scan_tokens(&mut self, tokens: TokenStream) {
        let mut run: Option<(NamePath, Span)> = None;
        let mut colons = 0_u8;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(ident) => match &mut run {
                    Some((path, _)) if colons == 2 => path.segments.push(text(&ident)),
                    _ => {
                        let global = colons == 2;
                        let path = NamePath { global, segments: vec![text(&ident)] };
                        let before = run.replace((path, ident.span()));
                        self.finish(before);
                    }
                },
                TokenTree::Group(group) => {
                    let before = run.take();
                    self.finish(before);
                    self.scan_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    let before = run.take();
                    self.finish(before);
                }
            }
            colons = 0;
        }
        self.finish(run);
    }

    fn finish(&mut self, run: Option<(NamePath, Span)>) {
        if let Some((path, span)) = run {
            self.refer_path(path, span);
        }
    }

    /// Records the leaves of a `use` declaration, of which `prefix` was read.
    fn import(&mut self, tree: &UseTree, prefix: &NamePath) {
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &prefix.join(&path.ident)),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, prefix)),
            UseTree::Name(name) => self.import_leaf(&name.ident, None, prefix),
            UseTree::Rename(rename) => {
                self.import_leaf(&rename.ident, Some(text(&rename.rename)), prefix);
            }
            UseTree::Glob(glob) => {
                self.module.globs.push(prefix.clone());
                self.refer(prefix.clone(), glob.span(), Usage::Glob);
            }
        }
    }

    fn import_leaf(&mut self, ident: &Ident, rename: Option<String>, prefix: &NamePath) {
        let is_prefix = ident == "self" && !prefix.segments.is_empty();
        let path = if is_prefix { prefix.clone() } else { prefix.join(ident) };
        let name = rename.or_else(|| path.segments.last().cloned()).unwrap_or_default();
        self.refer(path.clone(), ident.span(), Usage::Use);
        self.module.imports.push(Import { name, path });
    }
}

impl<'ast> Visit<'ast> for Scanner {
    fn visit_item(&mut self, item: &'ast Item) {
        if self.leave_out(attributes(item), item.span()) {
            if let Item::Mod(module) = item
                && module.content.is_none()
            {
                self.module.submodules.push(Submodule::of(module, true, None));
            }
            return;
        }
        self.module.items.extend(name_of(item).map(text));
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let content = module.content.as_ref().map(|(_, items)| {
            let outer = mem::take(&mut self.module);
            items.iter().for_each(|item| self.visit_item(item));
            mem::replace(&mut self.module, outer)
        });
        self.module.submodules.push(Submodule::of(module, false, content));
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let global = item.leading_colon.is_some();
        self.import(&item.tree, &NamePath { global, segments: Vec::new() });
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let this = item.ident == "self";
        let name = text(item.rename.as_ref().map_or(&item.ident, |(_, name)| name));
        let segment = if this { "crate".to_owned() } else { text(&item.ident) };
        let path = NamePath { global: !this, segments: vec![segment] };
        self.refer(path.clone(), item.ident.span(), Usage::Use);
        self.module.imports.push(Import { name, path });
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attrs = match item {
            syn::ImplItem::Const(item) => &item.attrs,
            syn::ImplItem::Fn(item) => &item.attrs,
            syn::ImplItem::Type(item) => &item.attrs,
            syn::ImplItem::Macro(item) => &item.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if !self.leave_out(attrs, item.span()) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast syn::TraitItem) {
        let attrs = match item {
            syn::TraitItem::Const(item) => &item.attrs,
            syn::TraitItem::Fn(item) => &item.attrs,
            syn::TraitItem::Type(item) => &item.attrs,
            syn::TraitItem::Macro(item) => &item.attrs,
            _ => return visit::visit_trait_item(self, item),
        };
        if !self.leave_out(attrs, item.span()) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !self.leave_out(&local.attrs, local.span()) {
            visit::visit_local(self, local);
        }
    }

    fn visit_stmt_macro(&mut self, statement: &'ast syn::StmtMacro) {
        if !self.leave_out(&statement.attrs, statement.span()) {
            visit::visit_stmt_macro(self, statement);
        }
    }

    fn visit_expr_block(&mut self, block: &'ast syn::ExprBlock) {
        if !self.leave_out(&block.attrs, block.span()) {
            visit::visit_expr_block(self, block);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !self.leave_out(&arm.attrs, arm.span()) {
            visit::visit_arm(self, arm);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !self.leave_out(&field.attrs, field.span()) {
            visit::visit_field(self, field);
        }
    }

    fn visit_field_value(&mut self, value: &'ast syn::FieldValue) {
        if !self.leave_out(&value.attrs, value.span()) {
            visit::visit_field_value(self, value);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        if !self.leave_out(&variant.attrs, variant.span()) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(callee) = &*call.func
            && let Some(ident) = callee.path.get_ident()
        {
            self.refer(NamePath::from(&callee.path), ident.span(), Usage::Bare);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = NamePath::from(path);
        let is_type = names.segments.iter().any(|name| name.starts_with(char::is_uppercase));
        // A variable is no reference; only what looks like a type or a constant may be one.
        if is_type && names.segments.len() == 1 && !names.global {
            self.refer(names, path.span(), Usage::Bare);
        } else {
            self.refer_path(names, path.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let names = NamePath::from(&call.path);
        let usage = if names.segments.len() == 1 { Usage::Bare } else { Usage::Inline };
        self.refer(names, call.path.span(), usage);
        self.scan_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        self.refer_path(NamePath::from(attribute.path()), attribute.span());
        if let Meta::List(list) = &attribute.meta {
            self.scan_tokens(list.tokens.clone());
        }
    }
}

impl NamePath {
    fn join(&self, ident: &Ident) -> Self {
        let mut path = self.clone();
        path.segments.push(text(ident));
        path
    }
}

impl From<&syn::Path> for NamePath {
    fn from(path: &syn::Path) -> Self {
        Self {
            global: path.leading_colon.is_some(),
            segments: path.segments.iter().map(|segment| text(&segment.ident)).collect(),
        }
    }
}

impl Submodule {
    fn of(module: &syn::ItemMod, test: bool, content: Option<Scan>) -> Self {
        let path = module.attrs.iter().find_map(path_attribute);
        Self { name: text(&module.ident), test, path, content }
    }
}

fn path_attribute(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) => Some(path.value()),
            _ => None,
        },
        _ => None,
    }
}

/// The name without the mark of a raw identifier.
fn text(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// Whether one of these attributes leaves a node to tests: `#[cfg(test)]`, `#[test]` and their
/// kind.
fn only_in_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.segments.last().is_some_and(|name| name.ident == "test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.parse_args::<Meta>().is_ok_and(|condition| requires_test(&condition))
        }
        Meta::List(list) => list.path.segments.last().is_some_and(|name| name.ident == "test"),
        Meta::NameValue(_) => false,
    })
}

/// Whether a condition of `cfg` cannot hold without `test`.
fn requires_test(condition: &Meta) -> bool {
    let Meta::List(list) = condition else { return condition.path().is_ident("test") };
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    let Ok(parts) = parts else { return false };
    if list.path.is_ident("all") {
        parts.iter().any(requires_test)
    } else {
        list.path.is_ident("any") && !parts.is_empty() && parts.iter().all(requires_test)
    }
}

/// The name that an item gives to its module, modules and imports apart.
fn name_of(item: &Item) -> Option<&Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Macro(item) => item.ident.as_ref(),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::TraitAlias(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(source: &str) -> FileScan {
        scan(&syn::parse_file(source).unwrap())
    }

    fn references(source: &str) -> Vec<String> {
        scanned(source).module.references.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn groups_and_renames_are_flattened() {
        let scan = scanned("use crate::a::{self, b::C as D, e::*};");
        let imports: Vec<_> =
            scan.module.imports.iter().map(|it| format!("{} = {}", it.name, it.path)).collect();
        assert_eq!(imports, ["a = crate::a", "D = crate::a::b::C"]);
        assert_eq!(scan.module.globs[0].to_string(), "crate::a::e");
    }

    #[test]
    fn paths_in_macros_and_attributes_are_found() {
        let found = references(
            "#[derive(crate::a::Derive)] struct S;\nfn f() { println!(\"{}\", crate::b::c(self::d::E)); }",
        );
        for path in ["crate::a::Derive", "crate::b::c", "self::d::E"] {
            assert!(found.iter().any(|text| text == path), "{path} is not in {found:?}");
        }
    }

    #[test]
    fn one_colon_joins_no_path() {
        let found = references("fn f() { m!(a: B, c::d: E); }");
        assert_eq!(found, ["m (by a glob)", "c::d"]);
    }

    #[test]
    fn what_only_tests_compile_is_left_out() {
        let scan = scanned(
            "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}\n#[cfg(all(test, unix))]\nuse crate::b;\n#[cfg(not(test))]\nuse crate::c;\n",
        );
        assert_eq!(scan.test_lines, BTreeSet::from([2, 3, 4, 5, 6, 7]));
        assert_eq!(scan.module.references.len(), 1);
        assert_eq!(scan.module.references[0].path.to_string(), "crate::c");
    }

    #[test]
    fn a_module_in_line_has_a_scope_of_its_own() {
        let scan = scanned("mod inner { use crate::a::B; fn f() {} } fn g() {}");
        assert_eq!(scan.module.items, BTreeSet::from(["g".to_owned()]));
        let inner = scan.module.submodules[0].content.as_ref().unwrap();
        assert_eq!(inner.items, BTreeSet::from(["f".to_owned()]));
        assert_eq!(inner.imports.len(), 1);
    }
}
