//! The copy of the sources in which rules are broken.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::Edit;
use crate::tools::{Failure, Outcome, command, output, root};

/// Files of the workspace as the working tree has them, ignored ones left out, under `target/mutations`.
pub struct Copy {
    tree: PathBuf,
}

impl Copy {
    /// Makes the copy equal to the working tree. Files that are equal already keep their times, so that
    /// what was built from them stays good.
    pub fn refresh(tree: PathBuf) -> Outcome<Copy> {
        let words = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed = output(&mut command("git", &words))?;
        let wanted: BTreeSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
        for name in &wanted {
            // Deleted, and still in the index.
            let Ok(bytes) = fs::read(root().join(name)) else { continue };
            write_if_other(&tree.join(name), &bytes)?;
        }
        for name in files_below(&tree, &tree)? {
            if !wanted.contains(name.as_str()) || !root().join(&name).exists() {
                fs::remove_file(tree.join(&name))?;
            }
        }
        Ok(Copy { tree })
    }

    pub fn path(&self) -> &Path {
        &self.tree
    }

    /// Makes the edits, in order; dropping what is returned takes them back.
    pub fn edit(&self, edits: &[&[Edit]]) -> Outcome<Edited<'_>> {
        let mut edited = Edited { copy: self, whole: BTreeMap::new() };
        for edit in edits.iter().copied().flatten() {
            let path = self.tree.join(edit.file);
            let text = fs::read_to_string(&path)?;
            let broken = apply(&text, edit).map_err(Failure)?;
            edited.whole.entry(edit.file).or_insert(text);
            fs::write(&path, broken)?;
        }
        Ok(edited)
    }
}

/// The text with the edit made.
pub fn apply(text: &str, edit: &Edit) -> Result<String, String> {
    match text.matches(edit.find).count() {
        1 => Ok(text.replacen(edit.find, edit.replace, 1)),
        times => Err(format!("{}: {times} times, not once: {}", edit.file, edit.find)),
    }
}

/// A copy with edits.
pub struct Edited<'a> {
    copy: &'a Copy,
    /// The files as they were. (The working tree may have changed since.)
    whole: BTreeMap<&'static str, String>,
}

impl Drop for Edited<'_> {
    fn drop(&mut self) {
        for (name, text) in &self.whole {
            if let Err(error) = fs::write(self.copy.tree.join(name), text) {
                // The next refresh does it.
                eprintln!("cannot take back the edits of {name}: {error}");
            }
        }
    }
}

fn write_if_other(path: &Path, bytes: &[u8]) -> Outcome {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    Ok(fs::write(path, bytes)?)
}

/// Paths of all files below `directory`, seen from `tree`.
fn files_below(tree: &Path, directory: &Path) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files_below(tree, &entry.path())?);
        } else if let Ok(name) = entry.path().strip_prefix(tree) {
            found.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(found)
}
