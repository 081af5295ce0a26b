//! `cargo xtask loc`: lines of code by crate, tests by level.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tools::{Outcome, root};

/// Lines of one crate, blank lines left out.
#[derive(Default)]
struct Lines {
    files: usize,
    code: usize,
    comments: usize,
    tests: usize,
}

/// The chore.
pub fn run() -> Outcome {
    println!("{:<20} {:>6} {:>8} {:>9} {:>11}", "crate", "files", "code", "comments", "test lines");
    let mut total = Lines::default();
    let mut crates = directories(&root().join("crates"));
    crates.push(root().join("xtask"));
    for directory in crates {
        let lines = count_crate(&directory);
        print_row(&name_of(&directory), &lines);
        total.files += lines.files;
        total.code += lines.code;
        total.comments += lines.comments;
        total.tests += lines.tests;
    }
    print_row("total", &total);
    print_tests();
    Ok(())
}

fn print_row(name: &str, lines: &Lines) {
    println!(
        "{name:<20} {:>6} {:>8} {:>9} {:>11}",
        lines.files, lines.code, lines.comments, lines.tests
    );
}

fn print_tests() {
    println!();
    for (level, count) in test_counts() {
        println!("{level:<36} {count:>5}");
    }
}

/// Tests by level: what is counted, and how many there are.
fn test_counts() -> Vec<(&'static str, usize)> {
    let mut counts = [0; 4];
    for path in files(&root().join("crates"), "rs") {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let tests = text.lines().filter(|line| is_test_attribute(line)).count();
        let place = path.to_string_lossy();
        let level = match () {
            () if text.contains("proptest!") => 1,
            () if place.contains("/tests/") && place.contains("scenario") => 3,
            () if place.contains("/tests/") => 2,
            () => 0,
        };
        counts[level] += tests;
    }
    let python = |folder: &str| {
        files(&root().join("compat").join(folder), "py")
            .iter()
            .map(|path| fs::read_to_string(path).unwrap_or_default())
            .map(|text| {
                text.lines().filter(|line| line.trim_start().starts_with("def test_")).count()
            })
            .sum()
    };
    let scenarios = ["crates/oxkeeper-zab", "crates/oxkeeper-replica"]
        .map(|path| files(&root().join(path).join("tests/scenarios"), "txt").len())
        .iter()
        .sum();
    vec![
        ("unit tests", counts[0]),
        ("tests in files with properties", counts[1]),
        ("golden and other integration tests", counts[2]),
        ("scenario tests", counts[3]),
        ("scenarios", scenarios),
        ("black-box tests", python("blackbox")),
        ("trap tests", python("traps")),
        ("fuzz targets", files(&root().join("fuzz/fuzz_targets"), "rs").len()),
    ]
}

fn is_test_attribute(line: &str) -> bool {
    matches!(line.trim(), "#[test]" | "#[tokio::test]") || line.trim().starts_with("#[tokio::test(")
}

fn count_crate(directory: &Path) -> Lines {
    let mut lines = Lines::default();
    for path in files(directory, "rs") {
        lines.files += 1;
        let all_tests = path
            .components()
            .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")));
        // A test module is the last thing in a file.
        let mut in_tests = all_tests;
        for line in fs::read_to_string(&path).unwrap_or_default().lines().map(str::trim) {
            in_tests |= line == "#[cfg(test)]";
            match line {
                "" => {}
                _ if in_tests => lines.tests += 1,
                _ if line.starts_with("//") => lines.comments += 1,
                _ => lines.code += 1,
            }
        }
    }
    lines
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let mut found = entries(path);
    found.retain(|path| path.is_dir());
    found
}

/// Files with this extension at any depth, build output left out.
fn files(path: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in entries(path) {
        if entry.is_dir() && name_of(&entry) != "target" {
            found.extend(files(&entry, extension));
        } else if entry.extension().is_some_and(|found| found == extension) {
            found.push(entry);
        }
    }
    found
}

fn entries(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    found.sort();
    found
}
