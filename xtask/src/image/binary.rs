//! The server as one static executable whose bytes do not tell where it was built.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tools::{self, Failure, Outcome, cargo, command, output, root, target_dir};

/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`.
const UNIT: &str = "\x1f";

/// Builds the server for this machine's kind of processor and returns its path.
pub fn build(profile: &str) -> Outcome<PathBuf> {
    let verbose = output(&mut command("rustc", &["-vV"]))?;
    let said = |key: &str| verbose.lines().find_map(|line| line.strip_prefix(key));
    let (Some(target), Some(commit)) = (said("host: "), said("commit-hash: ")) else {
        return Err(Failure::from("rustc -vV does not name its host and commit"));
    };
    if !target.ends_with("-linux-gnu") {
        return Err(Failure(format!("images are built on linux-gnu, not on {target}")));
    }
    let sysroot = output(&mut command("rustc", &["--print", "sysroot"]))?;
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
        .map_err(|_| Failure::from("neither CARGO_HOME nor HOME is set"))?;
    let directory = build_dir();
    // The last one that fits is taken: the workspace may be in the home, the target directory in the workspace.
    let places = [
        (home, "/cargo".to_owned()),
        (format!("{}/lib/rustlib/src/rust", sysroot.trim()), format!("/rustc/{commit}")),
        (root().display().to_string(), "/oxkeeper".to_owned()),
        (directory.display().to_string(), "/oxkeeper/target".to_owned()),
    ];
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(places.iter().map(|(from, to)| format!("--remap-path-prefix={from}={to}")));
    let words = ["build", "-q", "--locked", "-p", "oxkeeper", "--bin", "oxkeeper"];
    let mut build = cargo(&words);
    // With `--target`, flags leave build scripts and macros alone, which must be dynamic.
    build
        .args(["--target", target, "--profile", profile, "--target-dir"])
        .arg(&directory)
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(UNIT))
        // Names of functions stay, for the backtrace of a panic.
        .env(format!("CARGO_PROFILE_{}_STRIP", profile.to_uppercase()), "debuginfo");
    tools::run(&mut build)?;
    let folder = if profile == "dev" { "debug" } else { profile };
    let binary = directory.join(target).join(folder).join("oxkeeper");
    check(&binary)?;
    Ok(binary)
}

/// Where the static build lives: apart from the others, whose flags differ.
fn build_dir() -> PathBuf {
    let target = target_dir();
    let target = if target.is_absolute() { target } else { root().join(target) };
    target.join("image")
}

fn check(binary: &Path) -> Outcome {
    let bytes = fs::read(binary)?;
    match interpreter(&bytes) {
        Some(false) => Ok(()),
        Some(true) => Err(Failure(format!("{} needs a dynamic loader", binary.display()))),
        None => Err(Failure(format!("{} is not a 64-bit ELF file", binary.display()))),
    }
}

/// Whether a 64-bit little-endian ELF file asks for a dynamic loader; `None` if it is no such file.
fn interpreter(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let word = |at: usize, length: usize| -> Option<u64> {
        let bytes = elf.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (start, size, count) = (word(0x20, 8)?, word(0x36, 2)?, word(0x38, 2)?);
    for index in 0..count {
        let at = usize::try_from(start.checked_add(index * size)?).ok()?;
        if word(at, 4)? == u64::from(PT_INTERP) {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF header with program headers of these types.
    fn elf(types: &[u32]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        bytes.resize(0x40, 0);
        bytes[0x20] = 0x40;
        bytes[0x36] = 56;
        bytes[0x38] = types.len() as u8;
        for word in types {
            bytes.extend(word.to_le_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    #[test]
    fn a_dynamic_executable_is_told_from_a_static_one() {
        assert_eq!(interpreter(&elf(&[6, 3, 1])), Some(true));
        assert_eq!(interpreter(&elf(&[1, 1, 2])), Some(false));
        assert_eq!(interpreter(&elf(&[1, 3])[..0x60]), None);
        assert_eq!(interpreter(b"#!/bin/sh\n"), None);
    }
}
