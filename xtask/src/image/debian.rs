//! The file tree of Debian packages: chosen, fetched and verified by apt, unpacked here, maintainer scripts left out.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::tree::{Node, Owner, Tree};
use crate::tools::{self, Failure, Outcome, command, on_path, output};

/// Installed beside the wanted packages for apt's sake: of the ways to have /bin be /usr/bin the one without Perl.
const FOR_APT: &str = "usr-is-merged";

/// Needed by others only in maintainer scripts or to be upgraded, neither of which a container does.
const LEFT_OUT: [&str; 5] = ["debianutils", "dpkg", "init-system-helpers", "tar", FOR_APT];

/// Removed: what nobody reads in a container. Copyright files stay.
const TRIMMED: [&str; 17] = [
    "boot",
    "etc/cron",
    "etc/default",
    "etc/dpkg",
    "etc/init.d",
    "etc/update-motd.d",
    "lib/systemd",
    "usr/lib/systemd",
    "usr/games",
    "usr/include",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/src",
];

/// /bin and the like are links into /usr.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// A package that was unpacked.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    pub name: String,
    pub version: String,
}

/// Fetches these packages and what they need into a cache directory, and unpacks them.
pub fn tree(wanted: &[String], cache: &Path) -> Outcome<(Tree, Vec<Package>)> {
    for program in ["apt-get", "dpkg-deb"] {
        if !on_path(program) {
            return Err(Failure(format!("{program} is not here: the tutorial image needs Debian")));
        }
    }
    let mut tree = Tree::default();
    for name in MERGED {
        tree.insert(&format!("usr/{name}"), Node::dir(0o755))?;
        tree.insert(name, Node::link(&format!("usr/{name}")))?;
    }
    let mut packages = Vec::new();
    for file in fetch(wanted, cache)? {
        let shown = file.display().to_string();
        let format = "--showformat=${Package} ${Version}";
        let named = output(&mut command("dpkg-deb", &["-W", format, &shown]))?;
        let Some((name, version)) = named.split_once(' ') else {
            return Err(Failure(format!("{shown} does not name its package and version")));
        };
        if !LEFT_OUT.contains(&name) {
            packages.push(Package { name: name.to_owned(), version: version.to_owned() });
            unpack(&file, &mut tree)?;
        }
    }
    packages.sort();
    tree.retain(|path| !is_trimmed(path));
    Ok((tree, packages))
}

/// Lets apt choose and fetch, as for a machine that has nothing installed; returns the packages' files.
fn fetch(wanted: &[String], cache: &Path) -> Outcome<Vec<PathBuf>> {
    let archives = cache.join("archives");
    fs::create_dir_all(archives.join("partial"))?;
    let nothing = cache.join("status");
    fs::write(&nothing, "")?;
    let install = |more: &[&str]| {
        let mut apt = command("apt-get", &["install", "-q", "-y", "--no-install-recommends"]);
        apt.args(more)
            .arg("-oDebug::NoLocking=1")
            // The files are ours already; apt's own user could not write here.
            .arg("-oAPT::Sandbox::User=")
            .arg(format!("-oDir::State::status={}", nothing.display()))
            .arg(format!("-oDir::Cache={}", cache.display()))
            .args(wanted)
            .arg(FOR_APT);
        apt
    };
    // Lists of another day may name versions that are gone, an empty machine has none.
    if tools::run(install(&["-qq", "--download-only"]).stdout(Stdio::null())).is_err() {
        tools::run(&mut crate::install::as_root(&["apt-get", "update", "-q"])?)?;
        tools::run(&mut install(&["--download-only"]))?;
    }
    let mut files = Vec::new();
    for line in output(&mut install(&["--simulate"]))?.lines() {
        // Inst libc6 (2.36-9+deb12u14 Debian:12.14/oldstable [amd64])
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["Inst", name, version, ..] = words[..] else { continue };
        let version = version.trim_start_matches('(').replace(':', "%3a");
        let start = format!("{name}_{version}_");
        let found =
            fs::read_dir(&archives)?.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
                path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&start))
            });
        files.push(found.ok_or_else(|| Failure(format!("apt did not fetch {name} {version}")))?);
    }
    files.sort();
    if files.is_empty() { Err(Failure::from("apt chose no package")) } else { Ok(files) }
}

fn unpack(file: &Path, tree: &mut Tree) -> Outcome {
    let failed = |why: String| Failure(format!("{}: {why}", file.display()));
    let mut dpkg = command("dpkg-deb", &["--fsys-tarfile"]);
    let mut dpkg = dpkg.arg(file).stdout(Stdio::piped()).spawn()?;
    let Some(stdout) = dpkg.stdout.take() else { return Err(failed("no output".to_owned())) };
    let mut archive = tar::Archive::new(stdout);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = merged(&String::from_utf8_lossy(&entry.path_bytes()));
        if path.is_empty() || MERGED.contains(&path.as_str()) {
            continue;
        }
        let header = entry.header();
        let owner = Owner { user: header.uid()?, group: header.gid()? };
        let mode = header.mode()? & 0o7777;
        let link = entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned());
        let node = match (entry.header().entry_type(), link) {
            (tar::EntryType::Directory, _) => Node::dir(mode),
            (tar::EntryType::Symlink, Some(target)) => Node::link(&target),
            // One more copy is simpler than an order in which links come behind their files.
            (tar::EntryType::Link, Some(target)) => match tree.get(&merged(&target)) {
                Some(node) => node.clone(),
                None => {
                    return Err(failed(format!("{path} links to {target}, which is not there")));
                }
            },
            (tar::EntryType::Regular, _) => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                // Nobody becomes root in a container by these.
                Node::file(mode & 0o1777, content)
            }
            (kind, _) => return Err(failed(format!("{path} is of type {kind:?}"))),
        };
        tree.insert(&path, node.owned_by(owner))?;
    }
    let status = dpkg.wait()?;
    if status.success() { Ok(()) } else { Err(failed(format!("dpkg-deb: {status}"))) }
}

/// A path of a package as it is on a machine with merged /usr, without slashes around.
fn merged(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    match path.split_once('/') {
        Some((first, _)) if MERGED.contains(&first) => format!("usr/{path}"),
        _ if path == "." => String::new(),
        _ => path.to_owned(),
    }
}

fn is_trimmed(path: &str) -> bool {
    if let Some(rest) = path.strip_prefix("usr/share/doc/") {
        return rest.contains('/') && !rest.ends_with("/copyright");
    }
    let under = |folder: &&str| {
        path.strip_prefix(*folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // Character sets other than UTF-8.
    TRIMMED.iter().any(under) || path.contains("/gconv/")
}

/// The packages as a file for the image.
pub fn list(packages: &[Package]) -> String {
    let lines: BTreeSet<String> =
        packages.iter().map(|package| format!("{} {}\n", package.name, package.version)).collect();
    lines.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_package_is_moved_to_where_merged_usr_has_it() {
        assert_eq!(merged("./bin/bash"), "usr/bin/bash");
        assert_eq!(merged("./lib/x86_64-linux-gnu/"), "usr/lib/x86_64-linux-gnu");
        assert_eq!(merged("./usr/bin/[\n"), "usr/bin/[\n");
        assert_eq!(merged("./etc/.pwd.lock"), "etc/.pwd.lock");
        assert_eq!(merged("./lib/"), "lib");
        assert_eq!(merged("./"), "");
        assert_eq!(merged("."), "");
    }

    #[test]
    fn copyright_files_survive_trimming_and_other_documentation_does_not() {
        assert!(!is_trimmed("usr/share/doc/bash/copyright"));
        assert!(!is_trimmed("usr/share/doc/libgcc-s1"));
        assert!(!is_trimmed("usr/share/common-licenses/GPL-3"));
        assert!(!is_trimmed("usr/share/manners"));
        assert!(is_trimmed("usr/share/doc/bash/NEWS.gz"));
        assert!(is_trimmed("usr/share/man"));
        assert!(is_trimmed("usr/share/man/man1/bash.1.gz"));
        assert!(is_trimmed("usr/lib/x86_64-linux-gnu/gconv/GBK.so"));
    }
}
