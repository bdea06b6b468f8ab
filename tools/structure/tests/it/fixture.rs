//! Small workspaces in temporary folders.

#![expect(clippy::unwrap_used, reason = "only tests use it")]

use fortify_structure::analyse_and_check;
use fortify_structure::check::{Finding, FindingKind};
use fortify_structure::layers::Layers;
use fortify_structure::report::Report;
use std::fs;
use tempfile::TempDir;

/// Two crates: `low`, and `high`, which may use it and does.
pub(crate) struct Fixture {
    folder: TempDir,
    layers: String,
}

const LAYERS: &str = r#"
max_lines = 50
dev_only = ["kit"]
pending = ["kit"]
[[layer]]
crate = "low"
may_use = []
[[layer]]
crate = "high"
may_use = ["low"]
"#;

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Self { folder, layers: LAYERS.to_owned() };
        fixture
            .file("Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\n")
            .file("crates/low/Cargo.toml", "[package]\nname = \"low\"\n")
            .file("crates/low/src/lib.rs", "pub struct Low;\n")
            .file(
                "crates/high/Cargo.toml",
                "[package]\nname = \"high\"\n\n[dependencies]\nlow = { path = \"../low\" }\n",
            )
            .file("crates/high/src/lib.rs", "pub use low::Low;\n")
    }

    /// Writes a file.
    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Writes a source file of `low`.
    pub(crate) fn low(self, name: &str, content: &str) -> Self {
        self.file(&format!("crates/low/src/{name}"), content)
    }

    /// Adds to the layers.
    pub(crate) fn layers(mut self, text: &str) -> Self {
        self.layers.push_str(text);
        self
    }

    pub(crate) fn report(&self) -> Report {
        let layers = Layers::parse(&self.layers).unwrap();
        analyse_and_check(self.folder.path(), &layers).unwrap()
    }

    pub(crate) fn check(&self) -> Vec<Finding> {
        self.report().findings
    }

    /// The only finding.
    #[track_caller]
    pub(crate) fn finding(&self) -> Finding {
        let mut findings = self.check();
        assert_eq!(findings.len(), 1, "{findings:#?}");
        findings.remove(0)
    }

    #[track_caller]
    pub(crate) fn assert_passes(&self) {
        let findings = self.check();
        assert!(findings.is_empty(), "{findings:#?}");
    }

    #[track_caller]
    pub(crate) fn assert_kinds(&self, expected: &[FindingKind]) {
        let findings = self.check();
        let kinds: Vec<_> = findings.iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, expected, "{findings:#?}");
    }
}
