//! The workspace that this package is in.

use fortify_structure::analyse_and_check;
use fortify_structure::layers::Layers;
use std::path::Path;

#[test]
fn this_workspace_keeps_to_its_layers() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let layers = Layers::load(&package.join("layers.toml")).unwrap();
    let report = analyse_and_check(&package.join("../.."), &layers).unwrap();
    let findings: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n\n"));
}
