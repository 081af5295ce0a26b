//! The server's command line: process properties, then a file or a short form.
//!
//! Source: `docs/spec/operations.md` 1.4, 1.6.

use std::path::PathBuf;

use super::LoadError;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// `-Dname=value`, in order; a later one wins.
    pub properties: Vec<(String, String)>,
    /// What to run.
    pub form: Form,
}

/// The two ways to start a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `<zoo.cfg>`
    File(PathBuf),
    /// `<port> <dataDir> [tickTime] [maxClientCnxns]`: a standalone server.
    Standalone(Vec<String>),
}

impl Invocation {
    /// Reads the arguments of the server. Flags for a Java machine are ignored.
    pub fn parse<S: AsRef<str>>(
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Invocation, LoadError> {
        let mut properties = Vec::new();
        let mut words = Vec::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let argument = argument.as_ref();
            if let Some(property) = argument.strip_prefix("-D") {
                properties.push(split_property(property));
            } else if takes_value(argument) {
                arguments.next();
            } else if !argument.starts_with('-') {
                words.push(argument.to_owned());
            }
        }
        let form = match &words[..] {
            [file] => Form::File(file.into()),
            [_, _] | [_, _, _] | [_, _, _, _] => Form::Standalone(words),
            [] => return Err(LoadError::Usage("no configuration file was given")),
            _ => return Err(LoadError::Usage("too many arguments")),
        };
        Ok(Invocation { properties, form })
    }
}

fn split_property(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

/// Flags of a Java machine whose value is the next word.
fn takes_value(flag: &str) -> bool {
    matches!(flag, "-cp" | "-classpath" | "--class-path" | "-p" | "--module-path" | "-jar")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_before_the_file_and_java_flags_are_ignored() {
        let found = Invocation::parse([
            "-Dzookeeper.snapCount=5",
            "-Xmx1g",
            "-XX:+UseG1GC",
            "-cp",
            "lib/*",
            "-Dx",
            "zoo.cfg",
        ])
        .unwrap();
        assert_eq!(found.form, Form::File("zoo.cfg".into()));
        let names: Vec<_> = found.properties.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(names, ["zookeeper.snapCount=5", "x="]);
    }

    #[test]
    fn the_short_form_takes_two_to_four_words() {
        let form = |words: &[&str]| Invocation::parse(words).map(|found| found.form);
        assert!(matches!(form(&["2181", "/data"]), Ok(Form::Standalone(_))));
        assert!(matches!(form(&["2181", "/data", "2000", "60"]), Ok(Form::Standalone(_))));
        assert_eq!(form(&[]).unwrap_err().exit_code(), 2);
        assert_eq!(form(&["1", "2", "3", "4", "5"]).unwrap_err().exit_code(), 2);
    }
}
