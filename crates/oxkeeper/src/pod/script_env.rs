//! What the scripts of the reference share: where the configuration is, and the variables that
//! `zookeeper-env.sh` and `java.env` beside it set.
//!
//! There may be no shell to read those two files: [`sh`] tells what one would do, and what it does
//! beyond setting variables is passed over and told. Source: `docs/spec/operations.md` 6.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::server_process;
use super::sh::{self, Assignment, Effect, Otherwise, Piece, Statement};

/// Files with variables, in the order in which they are read.
const FILES: [&str; 2] = ["zookeeper-env.sh", "java.env"];

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Longest value, in bytes: the kernel passes none that is longer to a process.
const MAX_VALUE: usize = 128 << 10;

/// Who writes one of these, in lower case, wants a server protected, or open.
const PROTECTION: [&str; 12] = [
    "acl",
    "auth",
    "digest",
    "enforce",
    "fips",
    "jaas",
    "kerberos",
    "sasl",
    "secure",
    "ssl",
    "super",
    "whitelist",
];

/// What has to be said about a file with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The server may run otherwise than its files say.
    pub grave: bool,
    /// One line.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", if self.grave { "error" } else { "warning" }, self.text)
    }
}

/// Why a value is not known.
struct Unknown(&'static str);

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

    /// Applies the text of `file`; tells what of it was passed over.
    fn read(&mut self, file: &str, text: &str) -> Vec<Finding> {
        // Written on another system.
        let text = text.replace("\r\n", "\n");
        let mut findings = Vec::new();
        for statement in sh::read(&text) {
            let ends = statement.effect == Effect::Ends;
            if let Err(Unknown(why)) = self.apply(&statement.effect) {
                findings.push(finding(file, &statement, why));
            }
            if ends {
                break;
            }
        }
        findings
    }

    fn apply(&mut self, effect: &Effect) -> Result<(), Unknown> {
        match effect {
            Effect::Assign(assignments) => {
                assignments.iter().try_for_each(|assignment| self.assign(assignment))
            }
            // What is not known here has no effect either.
            Effect::Expand(pieces) => {
                for piece in pieces {
                    let _ = self.expand(std::slice::from_ref(piece));
                }
                Ok(())
            }
            Effect::Unset(names) => {
                names.iter().for_each(|name| drop(self.values.remove(name)));
                Ok(())
            }
            Effect::Skipped => Err(Unknown("only assignments that stand alone are applied")),
            Effect::Ends => Err(Unknown("the rest of the file is not read")),
            Effect::Unreadable(why) => Err(Unknown(why)),
        }
    }

    fn assign(&mut self, assignment: &Assignment) -> Result<(), Unknown> {
        let Assignment { name, append, value } = assignment;
        let value = self.expand(value)?;
        match append {
            true => {
                let all = self.values.entry(name.clone()).or_default();
                append_bounded(all, &value)
            }
            false => {
                self.values.insert(name.clone(), value);
                Ok(())
            }
        }
    }

    fn expand(&mut self, pieces: &[Piece]) -> Result<String, Unknown> {
        let mut text = String::new();
        for piece in pieces {
            let part = match piece {
                Piece::Text(part) => part.clone(),
                Piece::Variable { name, otherwise } => {
                    self.variable(name, otherwise.as_ref())?.unwrap_or_default()
                }
                Piece::Unknown => return Err(Unknown("its value is known to a shell only")),
            };
            append_bounded(&mut text, &part)?;
        }
        Ok(text)
    }

    fn variable(
        &mut self,
        name: &str,
        otherwise: Option<&Otherwise>,
    ) -> Result<Option<String>, Unknown> {
        let found = self.values.get(name);
        let Some(Otherwise { operator, or_empty, word }) = otherwise else {
            return Ok(found.cloned());
        };
        let found = found.filter(|value| !(*or_empty && value.is_empty())).cloned();
        match (operator, found) {
            ('+', Some(_)) => self.expand(word).map(Some),
            ('+', None) => Ok(None),
            (_, Some(found)) => Ok(Some(found)),
            ('=', None) => {
                let value = self.expand(word)?;
                self.values.insert(name.to_owned(), value.clone());
                Ok(Some(value))
            }
            (_, None) => self.expand(word).map(Some),
        }
    }
}

fn append_bounded(text: &mut String, part: &str) -> Result<(), Unknown> {
    if text.len() + part.len() > MAX_VALUE {
        return Err(Unknown("its value is too long"));
    }
    text.push_str(part);
    Ok(())
}

/// What to say of a statement that was passed over. Values are not shown: they may be secrets.
fn finding(file: &str, statement: &Statement<'_>, why: &str) -> Finding {
    let Statement { line, source, .. } = statement;
    let lower = source.to_ascii_lowercase();
    let spoken = PROTECTION.iter().find(|word| lower.contains(**word));
    let begin = source.split(|c: char| c == '=' || c.is_whitespace()).next().unwrap_or_default();
    let begin: String = begin.chars().take(40).collect();
    let mut text = format!("{file} line {line}: not applied: {begin:?} and what follows it: {why}");
    if let Some(word) = spoken {
        let advice = "it is about protection, which may now be missing. Write it as NAME=value";
        text.push_str(&format!("; with \"{word}\" in it {advice}"));
    }
    Finding { grave: spoken.is_some(), text }
}

/// Reads the files with variables in `conf_dir` that exist; tells what in them has no effect.
pub fn read_files(conf_dir: &Path, env: &mut ScriptEnv) -> Vec<Finding> {
    // A script of the reference has it set when it reads them.
    env.values.insert("ZOOCFGDIR".to_owned(), conf_dir.display().to_string());
    let mut findings = Vec::new();
    for path in FILES.iter().map(|name| conf_dir.join(name)) {
        let file = path.display().to_string();
        match read_file(&path) {
            Ok(text) => findings.extend(env.read(&file, &text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => findings.push(Finding {
                grave: true,
                text: format!(
                    "{file} is not applied: {error}; what it says of protection is missing"
                ),
            }),
        }
    }
    findings
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if read as u64 > MAX_FILE {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
    /// What has to be said about the files that set them, before a server is run with them.
    pub findings: Vec<Finding>,
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
        env.values.entry("ZOOBINDIR".to_owned()).or_insert(bin.display().to_string());
        let findings = read_files(&conf_dir, &mut env);
        Ok(Script { conf_dir, prefix, env, findings })
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

    use std::fs;

    use proptest::prelude::*;

    fn read_with(text: &str) -> (ScriptEnv, Vec<Finding>) {
        let mut env = ScriptEnv::default();
        env.values.insert("HOME".to_owned(), "home".to_owned());
        let findings = env.read("java.env", text);
        (env, findings)
    }

    fn read(text: &str) -> ScriptEnv {
        read_with(text).0
    }

    #[test]
    fn simple_lines_of_a_shell_are_understood() {
        let env = read(
            "#!/bin/sh\n# A=1\nA=1\nexport B=\"two words\" # why\n  C='$A'\nD=$A${HOME}/x\nE=\"-D$A \
             \\\"q\\\"\"\nF=${NONE:-f}-${A:-b}\nG=a\\\nb\nH=\nI=x#y;J=1\nK=#c\n",
        );
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A"),
            ("D", "1home/x"),
            ("E", "-D1 \"q\""),
            ("F", "f-1"),
            ("G", "ab"),
            ("I", "x#y"),
            ("K", "#c"),
        ];
        for (name, value) in expected {
            assert_eq!(env.get(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(env.get("H"), None);
    }

    const SUPER: &str = "-Dzookeeper.DigestAuthenticationProvider.superDigest=super:abc=";

    #[test]
    fn a_quote_over_lines_and_an_appended_value_keep_the_super_user() {
        let lines = format!("SERVER_JVMFLAGS=\"-Xmx1g\n  {SUPER}\n  -Da=1\"\n");
        let (env, findings) = read_with(&lines);
        assert_eq!(env.properties(), [SUPER, "-Da=1"]);
        assert_eq!(findings, []);
        let appended = format!("export SERVER_JVMFLAGS='-Da=1'\nSERVER_JVMFLAGS+=\" {SUPER}\"\n");
        let (env, findings) = read_with(&appended);
        assert_eq!(env.properties(), ["-Da=1", SUPER]);
        assert_eq!(findings, []);
        assert_eq!(read(&lines.replace('\n', "\r\n")).properties(), [SUPER, "-Da=1"]);
    }

    #[test]
    fn nothing_in_a_block_or_condition_is_applied_and_each_is_named_with_its_line() {
        for block in [
            "if [ \"$X\" = test ]; then\n  A=2\nfi",
            "if true\nthen A=2; else A=3; fi",
            "[ -n \"$X\" ] && A=2",
            "false ||\n  A=2",
            "case $X in\n  a) A=2;;\n  (b) A=3;;\nesac",
            "case $X in a) A=2;; esac",
            "for x in 1 2; do A=$x; done",
            "for x\ndo\n A=2\ndone",
            "while false; do\nA=2\ndone < /dev/null",
            "f() {\n  A=2\n}",
            "f()\n{\nA=2\n}",
            "function f {\n  A=2\n}",
            "function f() { A=2; }",
            "{ A=2; }",
            "(A=2)",
            "A=2 java -version",
            "A=2 | cat",
            "A=2 &",
            "A=(2 3)",
            "cat <<EOF\nA=2\nEOF",
            "cat <<-'E' > /dev/null\n\tA=2\n\tE",
            ". /etc/default/zookeeper",
            "A=$(cat /etc/a)",
            "A=`cat /etc/a`",
            "A=\"x$((1 << 2))\"",
            "A=${HOME%/*}",
            "A=$1",
            "declare -x A=2",
            "eval A=2",
        ] {
            let (env, findings) = read_with(&format!("A=1\n{block}\nB=after\n"));
            assert_eq!(env.get("A").as_deref(), Some("1"), "{block}");
            assert_eq!(env.get("B").as_deref(), Some("after"), "{block}");
            assert!(!findings.is_empty(), "{block}");
            assert!(findings[0].text.starts_with("java.env line 2: not applied: "), "{findings:?}");
            assert!(findings.iter().all(|finding| !finding.grave), "{block}: {findings:?}");
        }
    }

    #[test]
    fn a_false_if_does_not_switch_acls_off_and_protection_that_was_passed_over_is_an_error() {
        let text = "SERVER_JVMFLAGS=-Da=1\nif [ \"$ENV\" = dev ]; then\n\
                    SERVER_JVMFLAGS=\"-Dzookeeper.skipACL=yes\"\nfi\n";
        let (env, findings) = read_with(text);
        assert_eq!(env.properties(), ["-Da=1"]);
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        assert!(finding.grave && finding.text.contains("java.env line 2: "), "{finding}");
        let text = format!("SERVER_JVMFLAGS=\"$(cat /etc/flags) {SUPER}\"\n");
        let findings = read_with(&text).1;
        assert!(findings[0].grave, "{findings:?}");
        assert!(!findings[0].text.contains("super:abc"), "a secret is told: {findings:?}");
    }

    #[test]
    fn a_file_that_cannot_be_read_to_its_end_is_applied_up_to_there_and_told() {
        for rest in [
            "B=\"-Dsuper",
            "B='x",
            "if true; then\nB=super",
            "B=${X",
            "B=$(x\nsuper",
            "fi\nB=super",
            "}\nB=super",
            "B=1;; B=super",
            "; B=super",
            "cat <<E\nB=super\n",
        ] {
            let (env, findings) = read_with(&format!("A=1\n\n{rest}"));
            assert_eq!(env.get("A").as_deref(), Some("1"), "{rest}");
            assert_eq!(env.get("B"), None, "{rest}");
            let last = findings.last().unwrap();
            assert!(last.text.starts_with("java.env line 3: not applied"), "{last}");
            assert_eq!(last.grave, rest.contains("super"), "{last}");
        }
        let (env, findings) = read_with("A=1\nreturn\nA=2\n");
        assert_eq!((env.get("A").as_deref(), findings.len()), (Some("1"), 1));
    }

    #[test]
    fn what_stands_behind_an_end_that_depends_on_something_is_not_applied() {
        for end in [
            "[ \"$ENV\" = dev ] || return",
            "if [ \"$ENV\" = prod ]; then\n  return 0\nfi",
            "test -f /etc/prod && exit",
            "case $ENV in prod) return;; esac",
            "{ return; }",
        ] {
            let text = format!("A=1\n{end}\nSERVER_JVMFLAGS=-Dzookeeper.skipACL=yes\n");
            let (env, findings) = read_with(&text);
            assert_eq!(env.get("A").as_deref(), Some("1"), "{end}");
            assert_eq!(env.properties(), [""; 0], "{end}");
            let [finding] = &findings[..] else { panic!("{findings:?}") };
            assert!(finding.grave, "{finding}");
            assert!(finding.text.starts_with("java.env line 2: not applied"), "{finding}");
        }
        for other in ["f() {\n  return 1\n}", "function f { exit; }", "test -n \"exit\" && A=2"] {
            let (env, findings) = read_with(&format!("{other}\nB=after\n"));
            assert_eq!(env.get("B").as_deref(), Some("after"), "{other}");
            assert_eq!(findings.len(), 1, "{other}");
        }
    }

    #[test]
    fn expansions_are_those_of_a_shell() {
        let env = read(
            "A=a\nE=\nB=${E:-$A}-${E-x}-${N-y}-${A:+z}-${N:+z}-${E+w}\n: \"${C:=c d}\" ${A:=q}\n\
             D=\"\\$A \\x \\\\ ${N:-\"in } side\"}\"\nF=\\\n~/f:~:x~\nG=a\\ b$A'$A'\"$A\"\n\
             readonly H=h I\nexport A J=j\nunset E A\nK=[$A]\n",
        );
        let expected = [
            ("B", "a--y-z--w"),
            ("C", "c d"),
            ("D", "$A \\x \\ in } side"),
            ("F", "home/f:home:x~"),
            ("G", "a ba$Aa"),
            ("H", "h"),
            ("J", "j"),
            ("K", "[]"),
        ];
        for (name, value) in expected {
            assert_eq!(env.get(name).as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn a_value_does_not_grow_without_end() {
        let text = format!("A=0123456789\n{}", "A=$A$A\n".repeat(40));
        let (env, findings) = read_with(&text);
        assert!(env.get("A").unwrap().len() <= MAX_VALUE);
        assert!(findings[0].text.contains("too long"), "{findings:?}");
        let deep = format!("A={}{}\n", "${B:-".repeat(1000), "}".repeat(1000));
        assert!(read_with(&deep).1[0].text.contains("nested too deeply"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_and_a_missing_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut env = ScriptEnv::default();
        assert_eq!(read_files(dir.path(), &mut env), []);
        fs::create_dir(dir.path().join("java.env")).unwrap();
        fs::write(dir.path().join("zookeeper-env.sh"), b"A=\"\xff\"\nB=$ZOOCFGDIR/x").unwrap();
        let findings = read_files(dir.path(), &mut env);
        assert!(findings.len() == 1 && findings[0].grave, "{findings:?}");
        assert_eq!(env.get("B"), Some(format!("{}/x", dir.path().display())));
    }

    /// Pieces of which scripts are made, fitting and not.
    fn script() -> impl Strategy<Value = String> {
        const PARTS: &[&str] = &[
            "A=",
            "B+=",
            "x",
            "\n",
            " ",
            "\"",
            "'",
            "`",
            "$",
            "${",
            "}",
            "$(",
            "(",
            ")",
            "A",
            ":-",
            "if ",
            "then ",
            "fi",
            "case ",
            " in ",
            "esac",
            "for ",
            "do ",
            "done",
            "{ ",
            ";",
            ";;",
            "&&",
            "|",
            "<<E\n",
            "\nE\n",
            "\\",
            "#",
            "export ",
            "~",
            "ü",
            "\0",
            "function ",
        ];
        prop::collection::vec(prop::sample::select(PARTS), 0..60).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn no_script_panics_and_every_value_is_bounded(text in prop_oneof![script(), ".{0,200}"]) {
            let (env, _) = read_with(&text);
            prop_assert!(env.values.values().all(|value| value.len() <= MAX_VALUE));
        }

        #[test]
        fn nothing_inside_a_block_is_applied(text in script()) {
            // Whatever the text closes or leaves open.
            for (open, close) in [("if x; then\n", "\nfi"), ("f() {\n", "\n}"), ("(\n", "\n)")] {
                let closes = ["fi", "}", ")"].iter().any(|end| text.contains(end));
                let (env, _) = read_with(&format!("{open}{text}{close}\n"));
                prop_assert!(closes || env.values.len() == 1, "{:?}", env.values);
            }
        }

        #[test]
        fn a_quoted_value_is_read_back(value in "[^\r]{0,80}") {
            let (env, findings) = read_with(&format!("A={}\n", server_process::quote(&value)));
            prop_assert_eq!(env.values.get("A"), Some(&value));
            prop_assert_eq!(findings, []);
        }
    }

    #[test]
    fn flags_of_both_variables_reach_the_server_in_order() {
        let env = read("SERVER_JVMFLAGS=\"-Xmx1g -Da=1\"\nexport JVMFLAGS=\"-Da=2 $JVMFLAGS\"\n");
        assert_eq!(env.properties(), ["-Da=1", "-Da=2"]);
    }

    #[test]
    fn a_configuration_file_is_a_name_in_the_directory_or_a_path() {
        let script = Script {
            conf_dir: "/c".into(),
            prefix: "/".into(),
            env: read("ZOOCFG=other.cfg\n"),
            findings: Vec::new(),
        };
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
