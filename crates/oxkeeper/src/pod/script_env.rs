//! What the scripts of the reference share: where the configuration is, and the variables that
//! `zookeeper-env.sh` and `java.env` beside it set.
//!
//! There may be no shell to read those two files, so the lines that people write in them are
//! understood here: `NAME=value` and `export NAME=value`, with quotes, comments and the variables
//! `$NAME`, `${NAME}`, `${NAME:-default}`. Source: `docs/spec/operations.md` 6.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::server_process;

/// Files with variables, in the order in which they are read.
const FILES: [&str; 2] = ["zookeeper-env.sh", "java.env"];

/// Variables: those of the process, and what files have set over them.
#[derive(Clone, Debug, Default)]
pub struct ScriptEnv {
    values: BTreeMap<String, String>,
}

impl ScriptEnv {
    /// The variables of this process. What is not text is as good as unset.
    pub fn of_process() -> ScriptEnv {
        let texts = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        ScriptEnv { values: texts.collect() }
    }

    /// The value of a variable; empty is unset.
    pub fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// The words `-Dname=value` for the server.
    pub fn properties(&self) -> Vec<String> {
        let flags = [self.get("SERVER_JVMFLAGS"), self.get("JVMFLAGS")];
        server_process::properties(flags.iter().flatten().map(String::as_str))
    }

    fn read(&mut self, text: &str) {
        let joined = text.replace("\\\n", "");
        for line in joined.lines() {
            let line = line.trim_start();
            let line = line.strip_prefix("export ").map_or(line, str::trim_start);
            let Some((name, rest)) = line.split_once('=') else { continue };
            let mut chars = name.chars();
            let is_name = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
            if is_name {
                let value = self.value(rest);
                self.values.insert(name.to_owned(), value);
            }
        }
    }

    /// The value at the begin of `text`, to the first blank outside of quotes.
    fn value(&self, text: &str) -> String {
        let mut value = String::new();
        let mut quote = None;
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match (c, quote) {
                ('\'' | '"', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, None) if c.is_whitespace() || matches!(c, ';' | '#') && value.is_empty() => {
                    break;
                }
                (';', None) => break,
                ('\\', None | Some('"')) => {
                    if let Some(escaped) = rest.chars().next() {
                        value.push(escaped);
                        rest = &rest[escaped.len_utf8()..];
                    }
                }
                ('$', None | Some('"')) => rest = self.expand(rest, &mut value),
                (c, _) => value.push(c),
            }
        }
        value
    }

    /// Appends the variable whose name `text` begins with (behind the `$`); gives what follows it.
    fn expand<'a>(&self, text: &'a str, value: &mut String) -> &'a str {
        let look = |name: &str| self.get(name).unwrap_or_default();
        if let Some((inside, rest)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
            let (name, default) = inside.split_once(":-").unwrap_or((inside, ""));
            match self.get(name) {
                Some(found) => value.push_str(&found),
                None => value.push_str(default),
            }
            return rest;
        }
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, rest) = text.split_at(end.unwrap_or(text.len()));
        match name {
            "" => value.push('$'),
            _ => value.push_str(&look(name)),
        }
        rest
    }
}

/// Reads the files with variables in `conf_dir` that exist.
pub fn read_files(conf_dir: &Path, env: &mut ScriptEnv) {
    for text in FILES.iter().filter_map(|name| fs::read_to_string(conf_dir.join(name)).ok()) {
        env.read(&text);
    }
}

/// What every script knows after its beginning.
#[derive(Debug)]
pub struct Script {
    /// Directory of the configuration.
    pub conf_dir: PathBuf,
    /// Parent of the directory of the scripts.
    pub prefix: PathBuf,
    /// Variables.
    pub env: ScriptEnv,
}

impl Script {
    /// Takes `--config <dir>` from the front of `words`, finds the directory and reads its variables.
    pub fn begin(words: &mut Vec<String>) -> Result<Script, String> {
        let mut env = ScriptEnv::of_process();
        let mut asked = None;
        if words.first().is_some_and(|word| word == "--config") {
            let dir = words.get(1).ok_or("--config needs a directory")?;
            asked = Some(PathBuf::from(dir));
            words.drain(..2);
        }
        let bin = script_dir();
        let prefix = bin.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        let conf_dir = asked
            .or_else(|| env.get("ZOOCFGDIR").map(PathBuf::from))
            .unwrap_or_else(|| default_conf_dir(&prefix, env.get("ZK_CONF_DIR")));
        read_files(&conf_dir, &mut env);
        Ok(Script { conf_dir, prefix, env })
    }

    /// The configuration file: `name`, or that of `ZOOCFG`, or zoo.cfg, in the directory of the
    /// configuration unless it is a path.
    pub fn config(&self, name: Option<&str>) -> PathBuf {
        let name = name
            .map(str::to_owned)
            .or_else(|| self.env.get("ZOOCFG"))
            .unwrap_or("zoo.cfg".to_owned());
        if name.contains('/') { PathBuf::from(name) } else { self.conf_dir.join(name) }
    }
}

/// Where the configuration is if nobody says: where zkGenConfig.sh wrote it, beside the scripts, or
/// where an image has it.
fn default_conf_dir(prefix: &Path, generated: Option<String>) -> PathBuf {
    let candidates = [
        generated.map(PathBuf::from),
        Some(prefix.join("conf")),
        Some(prefix.join("etc/zookeeper")),
        Some(PathBuf::from("/opt/zookeeper/conf")),
    ];
    let found = candidates.into_iter().flatten().find(|dir| dir.is_dir());
    found.unwrap_or_else(|| prefix.join("conf"))
}

/// The directory of the script as it was called: of the link, not of the program behind it.
fn script_dir() -> PathBuf {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let found = match called.components().count() {
        0 | 1 => std::env::var_os("PATH").and_then(|path| {
            let mut dirs = std::env::split_paths(&path);
            dirs.find(|dir| dir.join(&called).is_file())
        }),
        _ => called.parent().map(Path::to_owned),
    };
    let dir = found.or_else(|| Some(std::env::current_exe().ok()?.parent()?.to_owned()));
    let dir = dir.unwrap_or_else(|| PathBuf::from("/usr/bin"));
    std::path::absolute(&dir).unwrap_or(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ScriptEnv {
        let mut env = ScriptEnv::default();
        env.values.insert("HOME".to_owned(), "/root".to_owned());
        env.read(text);
        env
    }

    #[test]
    fn simple_lines_of_a_shell_are_understood() {
        let env = read(
            "#!/bin/sh\n# A=1\nA=1\nexport B=\"two words\" # why\n  C='$A'\nD=$A${HOME}/x\nE=\"-D$A \
             \\\"q\\\"\"\nF=${NONE:-f}-${A:-b}\nG=a\\\nb\nif [ x = y ]; then\nH=\nI=x#y;J=1\nK=#c\n",
        );
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A"),
            ("D", "1/root/x"),
            ("E", "-D1 \"q\""),
            ("F", "f-1"),
            ("G", "ab"),
            ("I", "x#y"),
        ];
        for (name, value) in expected {
            assert_eq!(env.get(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(env.get("H"), None);
        assert_eq!(env.get("K"), None);
    }

    #[test]
    fn flags_of_both_variables_reach_the_server_in_order() {
        let env = read("SERVER_JVMFLAGS=\"-Xmx1g -Da=1\"\nexport JVMFLAGS=\"-Da=2 $JVMFLAGS\"\n");
        assert_eq!(env.properties(), ["-Da=1", "-Da=2"]);
    }

    #[test]
    fn a_configuration_file_is_a_name_in_the_directory_or_a_path() {
        let script =
            Script { conf_dir: "/c".into(), prefix: "/".into(), env: read("ZOOCFG=other.cfg\n") };
        assert_eq!(script.config(None), PathBuf::from("/c/other.cfg"));
        assert_eq!(script.config(Some("x.cfg")), PathBuf::from("/c/x.cfg"));
        assert_eq!(script.config(Some("./x.cfg")), PathBuf::from("./x.cfg"));
    }

    #[test]
    fn the_directory_of_an_image_is_found_beside_its_scripts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(default_conf_dir(dir.path(), None).file_name().unwrap(), "conf");
        fs::create_dir_all(dir.path().join("etc/zookeeper")).unwrap();
        assert_eq!(default_conf_dir(dir.path(), None), dir.path().join("etc/zookeeper"));
        fs::create_dir(dir.path().join("conf")).unwrap();
        assert_eq!(default_conf_dir(dir.path(), None), dir.path().join("conf"));
        let generated = dir.path().display().to_string();
        assert_eq!(default_conf_dir(dir.path(), Some(generated)), dir.path());
    }
}
