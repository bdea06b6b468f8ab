//! Directions between crates, and their sizes.

use crate::fixture::Fixture;
use fortify_structure::check::FindingKind::{
    LargeCrate, MissingCrate, NotLarge, UndeclaredImport, UnlistedCrate, UnusedDependency,
    WrongDependency, WrongImport,
};

#[test]
fn a_workspace_that_keeps_to_its_layers_passes() {
    Fixture::new().assert_passes();
}

#[test]
fn an_upward_dependency_in_cargo_toml_fails() {
    let fixture = Fixture::new()
        .file("crates/high/Cargo.toml", "[package]\nname = \"high\"\n")
        .file("crates/high/src/lib.rs", "")
        .file(
            "crates/low/Cargo.toml",
            "[package]\nname = \"low\"\n\n[dependencies]\nhigh = { path = \"../high\" }\n",
        );
    fixture.assert_kinds(&[WrongDependency, UnusedDependency]);
    let finding = fixture.check().remove(0);
    assert_eq!(
        finding.to_string().lines().next().unwrap(),
        "crates/low/Cargo.toml:5: low may not depend on high"
    );
    assert!(finding.advice.contains("layers.toml"), "{}", finding.advice);
}

#[test]
fn an_upward_import_only_in_the_sources_fails() {
    let fixture = Fixture::new().low("lib.rs", "pub struct Low;\n\nuse high::Thing;\n");
    fixture.assert_kinds(&[WrongImport, UndeclaredImport]);
    let finding = fixture.check().remove(0);
    assert_eq!(
        finding.to_string().lines().next().unwrap(),
        "crates/low/src/lib.rs:3: low may not import from high: use high::Thing;"
    );
}

#[test]
fn an_upward_path_in_a_macro_fails() {
    let fixture = Fixture::new()
        .low("lib.rs", "pub struct Low;\nfn f() { println!(\"{}\", high::thing()); }\n");
    fixture.assert_kinds(&[WrongImport, UndeclaredImport]);
}

#[test]
fn a_renamed_dependency_is_known_by_its_package() {
    let fixture = Fixture::new()
        .file(
            "Cargo.toml",
            "[workspace]\nmembers = [\"crates/*\"]\n[workspace.dependencies]\nfloor = { path = \"crates/low\", package = \"low\" }\n",
        )
        .file(
            "crates/high/Cargo.toml",
            "[package]\nname = \"high\"\n[dependencies]\nfloor.workspace = true\n",
        )
        .file("crates/high/src/lib.rs", "pub use floor::Low;\n");
    fixture.assert_passes();
}

#[test]
fn a_dependency_of_one_target_counts() {
    let fixture = Fixture::new().file(
        "crates/low/Cargo.toml",
        "[package]\nname = \"low\"\n[target.'cfg(unix)'.dependencies]\nhigh = { path = \"../high\" }\n",
    );
    fixture.assert_kinds(&[WrongDependency, UnusedDependency]);
}

#[test]
fn an_unused_dependency_fails() {
    let fixture = Fixture::new().file("crates/high/src/lib.rs", "// low::Low\n");
    let finding = fixture.finding();
    assert_eq!(finding.kind, UnusedDependency);
    assert_eq!(finding.line, Some(5));
}

#[test]
fn only_tests_may_use_a_crate_for_tests() {
    let kit = |section: &str| {
        Fixture::new()
            .file("crates/kit/Cargo.toml", "[package]\nname = \"kit\"\n")
            .file("crates/kit/src/lib.rs", "")
            .file(
                "crates/low/Cargo.toml",
                &format!("[package]\nname = \"low\"\n[{section}]\nkit = {{ path = \"../kit\" }}\n"),
            )
    };
    kit("dev-dependencies").assert_passes();
    kit("dependencies")
        .low("lib.rs", "pub use kit::Kit;\n")
        .assert_kinds(&[WrongDependency, WrongImport]);
}

#[test]
fn an_import_in_tests_is_ignored() {
    let fixture = Fixture::new()
        .low("lib.rs", "#[cfg(test)]\nmod tests { use high::Thing; }\n#[cfg(test)]\nmod more;\n")
        .low("more.rs", "use high::Thing;\n")
        .file("crates/low/tests/it.rs", "use high::Thing;\n");
    fixture.assert_passes();
}

#[test]
fn a_crate_without_a_layer_fails() {
    let fixture = Fixture::new()
        .file("crates/new/Cargo.toml", "[package]\nname = \"new\"\n")
        .file("crates/new/src/lib.rs", "");
    assert_eq!(fixture.finding().kind, UnlistedCrate);
}

#[test]
fn a_layer_without_a_crate_fails_unless_it_is_pending() {
    let layer = "[[layer]]\ncrate = \"top\"\nmay_use = []\n";
    assert_eq!(Fixture::new().layers(layer).finding().kind, MissingCrate);
}

#[test]
fn a_pending_crate_that_exists_is_noted() {
    let fixture = Fixture::new()
        .file("crates/kit/Cargo.toml", "[package]\nname = \"kit\"\n")
        .file("crates/kit/src/lib.rs", "");
    fixture.assert_passes();
    assert_eq!(fixture.report().notes, ["kit exists now: remove it from `pending` in layers.toml"]);
}

#[test]
fn a_crate_over_the_limit_fails() {
    let fixture = Fixture::new().low("lib.rs", &"// A line.\n".repeat(51));
    let finding = fixture.finding();
    assert_eq!(finding.kind, LargeCrate);
    assert_eq!(finding.message, "low has 51 lines without its tests, 50 at most");
}

#[test]
fn lines_of_tests_are_not_counted() {
    let tests = "#[test]\nfn t() {}\n".repeat(30);
    let fixture = Fixture::new()
        .low("lib.rs", &format!("mod tests_of_it;\n#[cfg(test)]\nmod tests {{\n{tests}}}\n"))
        .low("tests_of_it.rs", &tests)
        .file("crates/low/tests/it.rs", &tests)
        .file("crates/low/benches/it.rs", &tests);
    fixture.assert_passes();
}

#[test]
fn lines_of_modules_inside_a_test_are_not_counted() {
    let fixture = Fixture::new()
        .low("lib.rs", "#[cfg(test)]\nmod checks;\n")
        .low("checks.rs", "mod part;\n")
        .low("checks/part.rs", &"// A line.\n".repeat(51));
    fixture.assert_passes();
}

#[test]
fn a_file_that_no_module_declares_is_counted() {
    let fixture = Fixture::new().low("lost.rs", &"// A line.\n".repeat(51));
    assert_eq!(fixture.finding().kind, LargeCrate);
}

#[test]
fn a_known_large_crate_may_not_grow_and_leaves_the_list() {
    let known = "[[known_large]]\ncrate = \"low\"\nmax_lines = 60\n";
    let with = |lines| Fixture::new().layers(known).low("lib.rs", &"// A line.\n".repeat(lines));
    with(60).assert_passes();
    assert_eq!(with(61).finding().kind, LargeCrate);
    assert_eq!(with(50).finding().kind, NotLarge);
}
