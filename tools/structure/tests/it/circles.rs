//! Circles between the files of one crate.

use crate::fixture::Fixture;
use fortify_structure::check::FindingKind::{GrownCircle, NewCircle, ShrunkCircle, VanishedCircle};

/// `low` with `a.rs` and `b.rs`, which use each other.
fn two() -> Fixture {
    Fixture::new()
        .low("lib.rs", "mod a;\nmod b;\n")
        .low("a.rs", "use crate::b::B;\npub struct A(B);\n")
        .low("b.rs", "\nuse super::a::A;\npub struct B(A);\n")
}

fn known(names: &[&str]) -> String {
    let files: Vec<_> = names.iter().map(|name| format!("\"src/{name}.rs\"")).collect();
    format!("[[known_circle]]\ncrate = \"low\"\nfiles = [{}]\n", files.join(", "))
}

#[test]
fn two_files_that_use_each_other_fail_with_both_imports() {
    let finding = two().finding();
    assert_eq!(finding.kind, NewCircle);
    let text = finding.to_string();
    assert!(text.contains("src/a.rs:1: use crate::b::B;  -> src/b.rs"), "{text}");
    assert!(text.contains("src/b.rs:2: use super::a::A;  -> src/a.rs"), "{text}");
}

#[test]
fn a_parent_and_its_children_may_use_each_other() {
    let fixture = Fixture::new()
        .low("lib.rs", "mod a;\npub use a::A;\npub struct Root;\n")
        .low("a.rs", "mod inner;\npub use inner::Inner;\nuse crate::Root;\npub struct A(Root);\n")
        .low("a/inner.rs", "use super::A;\nuse crate::Root;\npub struct Inner(A, Root);\n");
    fixture.assert_passes();
}

#[test]
fn a_circle_behind_a_re_export_is_found() {
    let fixture = two()
        .low(
            "lib.rs",
            "mod a;\nmod b;\nmod shelf { pub use crate::b::*; }\npub use shelf::B as Renamed;\n",
        )
        .low("a.rs", "use crate::Renamed;\npub struct A(Renamed);\n");
    let finding = fixture.finding();
    assert_eq!(finding.uses[0].text, "use crate::Renamed;");
    assert_eq!(finding.uses[0].to, "src/b.rs");
}

#[test]
fn a_re_export_invents_no_circle() {
    let fixture = Fixture::new()
        .low("lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::B;\n")
        .low("a.rs", "pub struct A;\n")
        .low("b.rs", "use crate::{A};\npub struct B(A);\n");
    fixture.assert_passes();
}

#[test]
fn a_name_that_a_glob_brings_is_found() {
    let fixture = two()
        .low("lib.rs", "mod a;\nmod b;\nmod prelude;\n")
        .low("prelude.rs", "pub use crate::b::B;\n")
        .low("a.rs", "use crate::prelude::*;\npub struct A(B);\n");
    let text = fixture.finding().to_string();
    assert!(text.contains("src/a.rs:2: B (by a glob)  -> src/b.rs"), "{text}");
}

#[test]
fn a_path_through_an_imported_module_is_found() {
    let fixture = two()
        .low("a.rs", "use crate::inner;\npub struct A(inner::deep::C);\n")
        .low("lib.rs", "mod a;\nmod b;\nmod inner;\n")
        .low("inner.rs", "pub mod deep;\n")
        .low("inner/deep.rs", "use crate::a::A;\npub struct C(A);\n")
        .low("b.rs", "pub struct B;\n");
    let files = fixture.finding().to_string();
    assert!(files.contains("inner::deep::C  -> src/inner/deep.rs"), "{files}");
}

#[test]
fn an_import_for_tests_closes_no_circle() {
    two().low("b.rs", "#[cfg(test)]\nuse crate::a::A;\npub struct B;\n").assert_passes();
}

#[test]
fn a_file_given_by_a_path_attribute_is_followed() {
    let fixture = two()
        .low("lib.rs", "mod a;\n#[path = \"elsewhere/c.rs\"]\nmod b;\n")
        .low("elsewhere/c.rs", "use crate::a::A;\npub struct B(A);\n")
        .low("b.rs", "");
    assert!(fixture.finding().message.contains("src/a.rs, src/elsewhere/c.rs"));
}

#[test]
fn modules_in_a_circle_through_a_parent_fail() {
    let fixture = Fixture::new()
        .low("lib.rs", "mod a;\nmod b;\n")
        .low("a.rs", "mod inner;\nuse crate::b::B;\npub struct A(B);\n")
        .low("a/inner.rs", "pub struct Inner;\n")
        .low("b.rs", "use crate::a::inner::Inner;\npub struct B(Inner);\n");
    let finding = fixture.finding();
    assert_eq!(finding.message, "low: 2 modules import each other in a circle: a, b");
    assert_eq!(finding.uses.len(), 2);
    let known = "[[known_circle]]\ncrate = \"low\"\nmodules = [\"a\", \"b\"]\n";
    fixture.layers(known).assert_passes();
}

#[test]
fn a_known_circle_passes() {
    two().layers(&known(&["a", "b"])).assert_passes();
}

#[test]
fn a_known_circle_that_grew_fails() {
    let fixture = two()
        .layers(&known(&["a", "b"]))
        .low("lib.rs", "mod a;\nmod b;\nmod c;\n")
        .low("b.rs", "use crate::a::A;\nuse crate::c::C;\npub struct B(A, C);\n")
        .low("c.rs", "use crate::b::B;\npub struct C(B);\n");
    let finding = fixture.finding();
    assert_eq!(finding.kind, GrownCircle);
    assert_eq!(finding.message, "low: the known circle of 2 files has grown by src/c.rs");
}

#[test]
fn a_known_circle_that_is_gone_fails() {
    let finding = two().layers(&known(&["a", "b"])).low("b.rs", "pub struct B;\n").finding();
    assert_eq!(finding.kind, VanishedCircle);
    assert!(finding.advice.starts_with("Remove it"), "{}", finding.advice);
}

#[test]
fn a_known_circle_that_shrank_fails() {
    let finding = two().layers(&known(&["a", "b", "c"])).finding();
    assert_eq!(finding.kind, ShrunkCircle);
    assert!(finding.message.ends_with("src/a.rs, src/b.rs"), "{}", finding.message);
}
