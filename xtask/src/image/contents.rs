//! The table `deploy/image/contents`: what the images hold and how a container of them starts.

use std::fs;
use std::path::Path;

use super::tree::{Node, Owner, Tree};
use crate::tools::{Failure, Outcome};

/// Which image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Image {
    /// With the tools that the ZooKeeper tutorial for Kubernetes types
    Tutorial,
    /// The binary alone
    Production,
}

impl Image {
    /// Its word in the table.
    pub fn word(self) -> &'static str {
        match self {
            Image::Tutorial => "tutorial",
            Image::Production => "production",
        }
    }
}

/// What the table says about one image.
#[derive(Debug, Default, PartialEq)]
pub struct Contents {
    /// Directories, files and links, in the order of the table.
    pub entries: Vec<Entry>,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub user: String,
    pub volumes: Vec<String>,
    /// TCP ports.
    pub ports: Vec<u16>,
    /// Started if a container names no command.
    pub cmd: Vec<String>,
    /// Debian packages under it.
    pub packages: Vec<String>,
}

/// One thing in the file system.
#[derive(Debug, PartialEq)]
pub struct Entry {
    pub kind: Kind,
    pub owner: Owner,
    /// Permissions; without meaning for a link.
    pub mode: u32,
    /// From the root, with a leading slash.
    pub path: String,
}

#[derive(Debug, PartialEq)]
pub enum Kind {
    Dir,
    /// With the path of the content, relative to the table.
    File(String),
    /// The server.
    Binary,
    /// With the text of the link.
    Link(String),
}

impl Contents {
    /// Reads what the table says about an image. Errors name the line.
    pub fn read(table: &Path, image: Image) -> Outcome<Contents> {
        let text = fs::read_to_string(table)
            .map_err(|error| Failure(format!("{}: {error}", table.display())))?;
        Contents::parse(&text, image)
            .map_err(|Failure(why)| Failure(format!("{}: {why}", table.display())))
    }

    fn parse(text: &str, image: Image) -> Outcome<Contents> {
        let mut contents = Contents::default();
        for (index, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some((&images, words)) = words.split_first() else { continue };
            match images {
                "both" | "tutorial" | "production" => {}
                _ if images.starts_with('#') => continue,
                _ => return Err(Failure(format!("line {}: no image {images:?}", index + 1))),
            }
            let mine = images == "both" || images == image.word();
            let parsed = contents.line(words, mine);
            parsed.ok_or_else(|| Failure(format!("line {}: cannot be read", index + 1)))?;
        }
        Ok(contents)
    }

    /// Takes one line if it is of this image; `None` if the line means nothing.
    fn line(&mut self, words: &[&str], mine: bool) -> Option<()> {
        let (&kind, rest) = words.split_first()?;
        let kind = match (kind, rest) {
            ("dir", [_, _, _]) => Kind::Dir,
            ("binary", [_, _, _]) => Kind::Binary,
            ("file", [_, _, _, content]) => Kind::File((*content).to_owned()),
            ("link", [_, "-", _, target]) => Kind::Link((*target).to_owned()),
            _ => {
                let mut other = Contents::default();
                return if mine { self } else { &mut other }.setting(kind, rest);
            }
        };
        let (user, group) = rest[0].split_once(':')?;
        let owner = Owner { user: user.parse().ok()?, group: group.parse().ok()? };
        let mode = match rest[1] {
            "-" => 0o777,
            mode => u32::from_str_radix(mode, 8).ok()?,
        };
        let path = rest[2].to_owned();
        if mine {
            self.entries.push(Entry { kind, owner, mode, path });
        }
        Some(())
    }

    fn setting(&mut self, kind: &str, words: &[&str]) -> Option<()> {
        match (kind, words) {
            ("cmd", [_, ..]) => self.cmd = words.iter().map(|word| (*word).to_owned()).collect(),
            ("env", [word]) if word.contains('=') => self.env.push((*word).to_owned()),
            ("user", [word]) => self.user = (*word).to_owned(),
            ("volume", [word]) => self.volumes.push((*word).to_owned()),
            ("port", [word]) => self.ports.push(word.parse().ok()?),
            ("package", [word]) => self.packages.push((*word).to_owned()),
            _ => return None,
        }
        Some(())
    }

    /// The layer that the entries make, with the files beside the table and this binary.
    pub fn tree(&self, table: &Path, binary: &[u8]) -> Outcome<Tree> {
        let beside = table.parent().unwrap_or(table);
        let mut tree = Tree::default();
        for Entry { kind, owner, mode, path } in &self.entries {
            let node = match kind {
                Kind::Dir => Node::dir(*mode),
                Kind::Binary => Node::file(*mode, binary.to_vec()),
                Kind::Link(target) => Node::link(target),
                Kind::File(content) => {
                    let source = beside.join(content);
                    let content = fs::read(&source)
                        .map_err(|error| Failure(format!("{}: {error}", source.display())))?;
                    Node::file(*mode, content)
                }
            };
            tree.insert(path, node.owned_by(*owner))?;
        }
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::image::{deploy, table};

    const IMAGES: [Image; 2] = [Image::Tutorial, Image::Production];

    /// The instructions of one target of the Dockerfile, a continued line as one.
    fn dockerfile(image: Image) -> Vec<(String, String)> {
        let text = fs::read_to_string(deploy().join("Dockerfile")).unwrap().replace("\\\n", " ");
        let mut wanted = false;
        let mut found = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((word, rest)) = line.trim().split_once(' ') else { continue };
            if word == "FROM" {
                wanted = rest.ends_with(&format!(" AS {}", image.word()));
            } else if wanted {
                found.push((word.to_owned(), rest.trim().to_owned()));
            }
        }
        found
    }

    fn of(instructions: &[(String, String)], word: &str) -> Vec<String> {
        let of_word = instructions.iter().filter(|(found, _)| found == word);
        of_word.map(|(_, rest)| rest.clone()).collect()
    }

    #[test]
    fn the_dockerfile_starts_containers_as_the_table_says() {
        for image in IMAGES {
            let contents = Contents::read(&table(), image).unwrap();
            let instructions = dockerfile(image);
            assert_eq!(of(&instructions, "ENV"), contents.env, "{image:?}");
            assert_eq!(
                of(&instructions, "USER"),
                std::slice::from_ref(&contents.user),
                "{image:?}"
            );
            assert_eq!(of(&instructions, "VOLUME"), contents.volumes, "{image:?}");
            let ports: Vec<String> = contents.ports.iter().map(u16::to_string).collect();
            assert_eq!(of(&instructions, "EXPOSE"), [ports.join(" ")], "{image:?}");
            let cmd = serde_json::to_string(&contents.cmd).unwrap().replace(',', ", ");
            assert_eq!(of(&instructions, "CMD"), [cmd], "{image:?}");
            assert!(of(&instructions, "ENTRYPOINT").is_empty(), "{image:?}");
        }
    }

    #[test]
    fn the_dockerfile_installs_the_packages_of_the_table() {
        let contents = Contents::read(&table(), Image::Tutorial).unwrap();
        let runs = of(&dockerfile(Image::Tutorial), "RUN");
        let install = runs.iter().find(|run| run.contains("apt-get install")).unwrap();
        let (_, rest) = install.split_once("--no-install-recommends").unwrap();
        let packages: Vec<&str> = rest.split("&&").next().unwrap().split_whitespace().collect();
        assert_eq!(packages, contents.packages);
    }

    #[test]
    fn the_dockerfile_lays_out_files_by_the_table_alone() {
        for image in IMAGES {
            let text = fs::read_to_string(deploy().join("Dockerfile")).unwrap();
            assert!(text.contains(&format!("apply.sh {} /out/oxkeeper /", image.word())));
            for words in ["ln ", "mkdir ", "chown ", "chmod ", "useradd", "ADD "] {
                assert!(!text.contains(words), "{words:?} belongs into the table");
            }
        }
    }

    #[test]
    fn every_command_of_the_image_contract_is_a_link_to_the_binary() {
        let commands = [
            "oxkeeper-java",
            "start-zookeeper",
            "zookeeper-ready",
            "zookeeper-metrics",
            "zkServer.sh",
            "zkCli.sh",
            "zkCleanup.sh",
            "zkGenConfig.sh",
            "zkOk.sh",
            "zkMetrics.sh",
        ];
        for image in IMAGES {
            let contents = Contents::read(&table(), image).unwrap();
            for command in commands {
                let path = format!("/usr/bin/{command}");
                let entry = contents.entries.iter().find(|entry| entry.path == path).unwrap();
                assert_eq!(entry.kind, Kind::Link("oxkeeper".to_owned()), "{image:?} {command}");
            }
        }
    }

    #[test]
    fn nothing_is_listed_twice_and_a_directory_comes_before_what_is_in_it() {
        for image in IMAGES {
            let mut seen = BTreeSet::from(["".to_owned()]);
            for entry in Contents::read(&table(), image).unwrap().entries {
                let (parent, _) = entry.path.rsplit_once('/').unwrap();
                assert!(seen.contains(parent), "{image:?}: {} before {parent}", entry.path);
                assert!(seen.insert(entry.path.clone()), "{image:?}: {} twice", entry.path);
            }
        }
    }

    #[test]
    fn a_line_that_means_nothing_is_named() {
        let error = |text| Contents::parse(text, Image::Tutorial).unwrap_err().0;
        assert_eq!(error("# ok\nnone dir 0:0 0755 /a\n"), "line 2: no image \"none\"");
        for text in [
            "both dir 0:0 0755",
            "both dir 0 0755 /a",
            "both dir 0:0 rwx /a",
            "both port http",
            "production link 0:0 0777 /a b",
            "both",
        ] {
            assert_eq!(error(text), "line 1: cannot be read", "{text}");
        }
    }
}
