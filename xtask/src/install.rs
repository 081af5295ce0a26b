//! Installs what the black-box tests need, by package name, and only what is missing.
//!
//! From Debian: `zookeeper` (the 3.8.0 server and `zkCli.sh`; it brings a JRE), Maven, Python with venv, runc and
//! iproute2 for containers. From PyPI, into `compat/.cache/venv`: kazoo and pytest. From Maven Central, into
//! `compat/.cache/zookeeper-3.9.5`: Apache ZooKeeper 3.9.5 with what it needs at run time (`compat/apache/pom.xml`).
//! From crates.io, into `compat/.cache/tools`: cargo-deny.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{self, Failure, Outcome, cargo, command, compat_cache, on_path, output, root};

/// What checks licenses, sources and versions of dependencies. Bumped by hand: its findings must not change by
/// themselves.
const CARGO_DENY: &str = "0.20.2";

/// A file that exists when a Debian package is installed.
const DEBIAN: [(&str, &str); 8] = [
    ("zookeeper", "/usr/share/zookeeper/bin/zkCli.sh"),
    ("libzookeeper-java", "/usr/share/java/zookeeper.jar"),
    ("default-jre-headless", "/usr/bin/java"),
    ("maven", "/usr/bin/mvn"),
    ("python3", "/usr/bin/python3"),
    ("python3-venv", "/usr/share/doc/python3-venv"),
    ("runc", "/usr/sbin/runc"),
    ("iproute2", "/usr/share/doc/iproute2"),
];

/// The chore: installs whatever is missing.
pub fn run() -> Outcome {
    debian()?;
    python_packages()?;
    apache()
}

/// The Python that has kazoo and pytest.
pub fn python() -> PathBuf {
    compat_cache().join("venv/bin/python")
}

/// Where the jars of Apache ZooKeeper 3.9.5 are.
pub fn apache_jars() -> PathBuf {
    compat_cache().join("zookeeper-3.9.5")
}

/// cargo-deny, built once into the cache. Without optimization: two minutes on two cores, and a check takes a second.
pub fn cargo_deny() -> Outcome<PathBuf> {
    let folder = compat_cache().join("tools");
    let program = folder.join("bin/cargo-deny");
    let installed = Command::new(&program).arg("--version").output();
    let wanted = format!("cargo-deny {CARGO_DENY}");
    if !installed.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).trim() == wanted) {
        let words =
            ["install", "cargo-deny", "--locked", "--debug", "--version", CARGO_DENY, "--root"];
        let mut install = cargo(&words);
        tools::run(install.arg(&folder).env("CARGO_PROFILE_DEV_DEBUG", "0"))?;
    }
    Ok(program)
}

fn debian() -> Outcome {
    let missing: Vec<&str> = DEBIAN
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !on_path("apt-get") {
        return Err(Failure(format!(
            "apt-get is not here; install {} yourself",
            missing.join(", ")
        )));
    }
    tools::run(&mut as_root(&["apt-get", "update", "-q"])?)?;
    let mut install = vec!["apt-get", "install", "-q", "-y", "--no-install-recommends"];
    install.extend(missing);
    tools::run(as_root(&install)?.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The command as root: by sudo if we are not root.
pub fn as_root(words: &[&str]) -> Outcome<Command> {
    let is_root = output(&mut command("id", &["-u"]))?.trim() == "0";
    if is_root {
        return Ok(command(words[0], &words[1..]));
    }
    if !on_path("sudo") {
        return Err(Failure(format!("not root and no sudo; run `{}` as root", words.join(" "))));
    }
    Ok(command("sudo", words))
}

fn python_packages() -> Outcome {
    let stamp = compat_cache().join("venv/requirements.txt");
    let wanted = fs::read_to_string(root().join("compat/requirements.txt"))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    fs::create_dir_all(compat_cache())?;
    tools::run(&mut command("/usr/bin/python3", &["-m", "venv", "--clear", "compat/.cache/venv"]))?;
    let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r"];
    tools::run(command(python(), &pip).arg("compat/requirements.txt"))?;
    fs::write(stamp, wanted)?;
    Ok(())
}

fn apache() -> Outcome {
    let stamp = apache_jars().join("pom.xml");
    let wanted = fs::read_to_string(root().join("compat/apache/pom.xml"))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let words = ["-q", "-B", "-f", "compat/apache/pom.xml", "dependency:copy-dependencies"];
    let mut maven = command("mvn", &words);
    maven
        .arg("-DincludeScope=runtime")
        .arg(format!("-DoutputDirectory={}", apache_jars().display()));
    tools::run(&mut maven)?;
    fs::write(stamp, wanted)?;
    Ok(())
}
