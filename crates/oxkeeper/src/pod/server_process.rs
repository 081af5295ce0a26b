//! The server as a process of its own: which program, which words, which name.
//!
//! The kernel's name of the process contains `java`, so that `pkill java` finds the server and
//! nothing else. Source: `docs/spec/kubernetes.md` 3.2, `docs/spec/operations.md` 1.4.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the program, beside this one, that gives its name to the process of the server.
const NAME: &str = "oxkeeper-java";

/// The command that runs a server with the configuration file `config`. `properties` are words
/// `-Dname=value`.
pub fn command(config: &Path, properties: &[String]) -> io::Result<Command> {
    let (program, name) = program()?;
    let mut command = Command::new(program);
    command.arg0(name).arg("server").args(properties).arg(config);
    Ok(command)
}

fn program() -> io::Result<(PathBuf, &'static str)> {
    let this = std::env::current_exe()?;
    let named = this.with_file_name(NAME);
    match named.is_file() {
        true => Ok((named, NAME)),
        // The name tells a program of many names to be the plain command line.
        false => Ok((this, "oxkeeper")),
    }
}

/// The words `-Dname=value` in the texts of `SERVER_JVMFLAGS` and `JVMFLAGS`, in order. What else is
/// said to a Java machine has no meaning here.
pub fn properties<'a>(flags: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let words = flags.into_iter().flat_map(str::split_whitespace);
    words.filter(|word| word.starts_with("-D") && word.len() > 2).map(str::to_owned).collect()
}

/// `command` as one line, for people.
pub fn line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for word in command.get_args() {
        line.push(' ');
        line.push_str(&quote(&word.to_string_lossy()));
    }
    line
}

/// `word` as a shell reads it back.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=+:,@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_properties_reach_the_server_and_later_ones_come_later() {
        let flags = ["-Xmx1g -Da=1  -XX:+UseG1GC", "-D", "-Da=2 -cp x"];
        assert_eq!(properties(flags), ["-Da=1", "-Da=2"]);
    }

    #[test]
    fn a_printed_command_can_be_typed_again() {
        assert_eq!(quote("-Da=b"), "-Da=b");
        assert_eq!(quote("it's $x"), "'it'\\''s $x'");
        assert_eq!(quote(""), "''");
    }
}
