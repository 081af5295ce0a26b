//! A file tree in memory, written as a tar archive whose bytes depend on nothing else.

use std::collections::BTreeMap;
use std::io::Write;

use tar::{EntryType, Header};

use crate::tools::{Failure, Outcome};

/// Numeric owner of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub user: u64,
    pub group: u64,
}

/// A directory, file or link.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub what: What,
    pub mode: u32,
    pub owner: Owner,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Dir,
    File(Vec<u8>),
    Link(String),
}

impl Node {
    pub fn dir(mode: u32) -> Node {
        Node { what: What::Dir, mode, owner: Owner::default() }
    }

    pub fn file(mode: u32, content: Vec<u8>) -> Node {
        Node { what: What::File(content), mode, owner: Owner::default() }
    }

    pub fn link(target: &str) -> Node {
        Node { what: What::Link(target.to_owned()), mode: 0o777, owner: Owner::default() }
    }

    pub fn owned_by(mut self, owner: Owner) -> Node {
        self.owner = owner;
        self
    }
}

/// Nodes by path, without a leading slash; the root itself has no entry.
#[derive(Debug, Default, PartialEq)]
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// Adds or replaces what is at this path. A path that leaves the root is an error.
    pub fn insert(&mut self, path: &str, node: Node) -> Outcome {
        let path = path.trim_matches('/');
        if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Failure(format!("not a path of an image: {path:?}")));
        }
        self.0.insert(path.to_owned(), node);
        Ok(())
    }

    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path.trim_matches('/'))
    }

    /// Removes nodes by their path.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|path, _| keep(path));
    }

    /// Writes all nodes, each behind its directory, with one time (seconds of 1970) for all.
    pub fn write(&self, output: impl Write, time: u64) -> Outcome {
        let mut builder = tar::Builder::new(output);
        for (path, node) in &self.0 {
            let mut header = Header::new_gnu();
            header.set_mode(node.mode);
            header.set_uid(node.owner.user);
            header.set_gid(node.owner.group);
            header.set_mtime(time);
            header.set_size(0);
            let written = match &node.what {
                What::Dir => {
                    header.set_entry_type(EntryType::Directory);
                    builder.append_data(&mut header, format!("{path}/"), std::io::empty())
                }
                What::File(content) => {
                    header.set_entry_type(EntryType::Regular);
                    header.set_size(content.len() as u64);
                    builder.append_data(&mut header, path, content.as_slice())
                }
                What::Link(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    builder.append_link(&mut header, path, target)
                }
            };
            written.map_err(|error| Failure(format!("{path}: {error}")))?;
        }
        builder.into_inner()?.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(order: &[usize]) -> Vec<u8> {
        let long = format!("usr/share/{}/file", "d".repeat(120));
        let nodes = [
            ("/usr", Node::dir(0o755)),
            ("/usr/bin", Node::dir(0o1775).owned_by(Owner { user: 0, group: 1000 })),
            ("/usr/bin/oxkeeper", Node::file(0o755, b"binary".to_vec())),
            ("/usr/bin/zkCli.sh", Node::link("oxkeeper")),
            (&long, Node::file(0o644, Vec::new())),
        ];
        let mut tree = Tree::default();
        for index in order {
            tree.insert(nodes[*index].0, nodes[*index].1.clone()).unwrap();
        }
        let mut bytes = Vec::new();
        tree.write(&mut bytes, 1_700_000_000).unwrap();
        bytes
    }

    #[test]
    fn bytes_do_not_depend_on_the_order_of_insertion() {
        assert_eq!(sample(&[0, 1, 2, 3, 4]), sample(&[4, 3, 2, 1, 0]));
    }

    #[test]
    fn an_archive_says_owner_mode_time_and_content() {
        let bytes = sample(&[0, 1, 2, 3, 4]);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut read = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.mtime().unwrap(), 1_700_000_000);
            assert_eq!(
                (header.username().unwrap(), header.groupname().unwrap()),
                (Some(""), Some(""))
            );
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let owner = (header.uid().unwrap(), header.gid().unwrap());
            read.push((path, header.mode().unwrap(), owner, header.entry_type()));
        }
        assert_eq!(read[0], ("usr/".to_owned(), 0o755, (0, 0), EntryType::Directory));
        assert_eq!(read[1], ("usr/bin/".to_owned(), 0o1775, (0, 1000), EntryType::Directory));
        assert_eq!(read[2], ("usr/bin/oxkeeper".to_owned(), 0o755, (0, 0), EntryType::Regular));
        assert_eq!(read[3], ("usr/bin/zkCli.sh".to_owned(), 0o777, (0, 0), EntryType::Symlink));
        assert!(read[4].0.ends_with("d/file"), "{:?}", read[4]);
    }

    #[test]
    fn a_path_that_leaves_the_root_is_refused() {
        for path in ["/", "", "../etc", "/usr/../../etc", "usr//bin", "./usr"] {
            assert!(Tree::default().insert(path, Node::dir(0o755)).is_err(), "{path:?}");
        }
    }
}
