//! `docs/abuse.md` names the tests of each case, computed from the sources, and promises that are there.
//!
//! `FORTIFY_WRITE_DOCS=1 cargo test -p fortify --test it abuse::table` writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What comes before the computed part.
const MARK: &str = "cargo test -p fortify --test it abuse::table`.\n";

const CASES: u8 = 27;

/// Tests of a case whose names do not have its number.
const ALSO: [(u8, &str); 9] = [
    (15, "the_table_in_the_docs_is_the_computed_one"),
    (15, "what_the_prose_says_of_limits_is_what_they_are"),
    (15, "people_get_in_and_guessers_do_not"),
    (21, "every_route_lets_in_whom_its_row_says_and_nobody_else"),
    (21, "ten_thousand_passwords_are_a_few_and_cost_a_few_lines"),
    (21, "a_form_counts_from_a_page_of_its_own_session_alone"),
    (21, "a_form_from_elsewhere_changes_nothing_and_is_explained"),
    (21, "a_session_has_a_new_id_and_ends_when_it_should"),
    (21, "a_change_that_cannot_be_written_down_is_not_made"),
];

/// The Rust files below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// How a test is called in the docs: `crate::file::name`, without the folders that cargo has.
fn place(path: &Path, name: &str) -> String {
    let path = path.strip_prefix(ROOT).unwrap().with_extension("");
    let folders = path.iter().map(|part| part.to_str().unwrap());
    let parts = folders.filter(|part| !["crates", "src", "tests", "mod"].contains(part));
    parts.chain([name]).collect::<Vec<_>>().join("::")
}

/// The tests of each case.
fn tests() -> BTreeMap<u8, BTreeSet<String>> {
    let mut files = Vec::new();
    for folder in ["crates", "e2e"] {
        sources(&Path::new(ROOT).join(folder), &mut files);
    }
    let mut found: BTreeMap<u8, BTreeSet<String>> = BTreeMap::new();
    let mut met = BTreeSet::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| line.trim_start().trim_start_matches("async "));
        for name in lines.filter_map(|line| line.strip_prefix("fn ")?.split(['(', '<']).next()) {
            let also = ALSO.into_iter().filter(|(_, other)| *other == name).map(|(case, _)| case);
            let numbers = name.strip_prefix("abuse_").unwrap_or_default().split('_');
            let numbers = numbers.map_while(|part| part.parse::<u8>().ok());
            for case in numbers.chain(also) {
                met.insert(name.to_owned());
                found.entry(case).or_default().insert(place(&path, name));
            }
        }
    }
    for (case, name) in ALSO {
        assert!(met.contains(name), "case {case}: there is no test {name}");
    }
    found
}

fn computed() -> String {
    let mut text = String::new();
    for (case, tests) in tests() {
        text.push_str(&format!("\n### Case {case}\n\n"));
        for test in tests {
            text.push_str(&format!("- `{test}`\n"));
        }
    }
    text
}

#[test]
fn the_tests_in_the_docs_are_those_in_the_sources() {
    let path = Path::new(ROOT).join("docs/abuse.md");
    let text = fs::read_to_string(&path).unwrap();
    let (prose, found) = text.split_at(text.find(MARK).unwrap() + MARK.len());
    let computed = computed();
    if std::env::var_os("FORTIFY_WRITE_DOCS").is_some() {
        fs::write(path, format!("{prose}{computed}")).unwrap();
        return;
    }
    assert_eq!(found, computed, "docs/abuse.md is out of date; see this file's head");
}

#[test]
fn every_case_has_a_row_a_test_and_a_promise() {
    let text = fs::read_to_string(Path::new(ROOT).join("docs/abuse.md")).unwrap();
    let security = fs::read_to_string(Path::new(ROOT).join("SECURITY.md")).unwrap();
    let tests = tests();
    let rows = text.lines().filter_map(|line| {
        let (case, row) = line.strip_prefix("| ")?.split_once(" | ")?;
        let promise = row.strip_suffix(" |")?.rsplit(" | ").next()?;
        Some((case.parse::<u8>().ok()?, promise))
    });
    let rows: BTreeMap<_, _> = rows.collect();
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), (1..=CASES).collect::<Vec<_>>());
    assert_eq!(tests.keys().copied().collect::<Vec<_>>(), (1..=CASES).collect::<Vec<_>>());
    for (case, promise) in rows {
        let bold = format!("**{promise}");
        assert!(security.contains(&bold), "case {case}: SECURITY.md has no {bold}");
    }
}
