//! The tables do not rot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use super::{Mutation, all, copy, zab};
use crate::tools::root;

/// Bugs of ZooKeeper that must be a row and a test here.
const KNOWN_BUGS: [u32; 30] = [
    1621, 1818, 2201, 2307, 2574, 2845, 3023, 3104, 3125, 3127, 3144, 3145, 3231, 3240, 3249, 3306,
    3642, 3701, 3911, 4269, 4394, 4643, 4646, 4685, 4689, 4712, 4785, 4846, 4882, 4925,
];

#[test]
fn every_edit_finds_its_text_exactly_once() {
    let mut problems = Vec::new();
    for mutation in all() {
        let mut files: BTreeMap<&str, String> = BTreeMap::new();
        assert!(!mutation.edits.is_empty(), "{}", mutation.name);
        for edit in mutation.edits.iter().chain(mutation.blind) {
            let read = || fs::read_to_string(root().join(edit.file)).unwrap_or_default();
            let text = files.entry(edit.file).or_insert_with(read);
            match copy::apply(text, edit) {
                Ok(edited) if edited != *text => *text = edited,
                Ok(_) => problems.push(format!("{}: an edit changes nothing", mutation.name)),
                Err(problem) => problems.push(format!("{}: {problem}", mutation.name)),
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn names_are_unique_and_every_named_test_exists() {
    let mut names = BTreeSet::new();
    for mutation in all() {
        assert!(names.insert(mutation.name), "{} stands twice", mutation.name);
        assert!(!mutation.rule.is_empty() && mutation.rule.ends_with('.'), "{}", mutation.name);
        assert!(test_text(mutation).is_some(), "{}: no test {}", mutation.name, mutation.test.2);
    }
}

#[test]
fn scopes_are_of_mutations_that_the_explorer_can_find() {
    for (name, _) in zab::SCOPES {
        assert!(all().any(|mutation| mutation.name == name && mutation.is_of_zab()), "{name}");
    }
}

#[test]
fn every_known_bug_is_a_row_whose_test_cites_it() {
    for bug in KNOWN_BUGS {
        let rows: Vec<_> = all().filter(|mutation| mutation.bugs.contains(&bug)).collect();
        assert!(!rows.is_empty(), "ZOOKEEPER-{bug} has no row");
    }
    for mutation in all() {
        let Some((doc, bugs)) = test_text(mutation).zip(Some(mutation.bugs)) else { continue };
        for bug in bugs {
            assert!(doc.contains(&bug.to_string()), "{} does not cite {bug}", mutation.test.2);
        }
    }
}

/// What stands above the named test: its attributes and comments.
fn test_text(mutation: &Mutation) -> Option<String> {
    let function = mutation.test.2.rsplit("::").next().unwrap_or_default();
    for file in sources(mutation) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if let Some((before, _)) = text.split_once(&format!("fn {function}(")) {
            let lines = before.trim_end().lines().rev().take_while(|line| !line.trim().is_empty());
            return Some(lines.collect::<Vec<_>>().join("\n"));
        }
    }
    None
}

fn sources(mutation: &Mutation) -> Vec<PathBuf> {
    let package = root().join("crates").join(format!("oxkeeper-{}", mutation.test.0));
    if mutation.test.1 == "lib" {
        return below(package.join("src"));
    }
    vec![package.join("tests").join(format!("{}.rs", mutation.test.1))]
}

fn below(directory: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { below(path) } else { vec![path] }).collect()
}
