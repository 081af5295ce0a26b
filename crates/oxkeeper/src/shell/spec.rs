//! The commands of the shell: how they are written, and what they say of themselves.
//!
//! Source: `docs/spec/operations.md` 5.4.

use std::collections::BTreeMap;

/// An option of a command.
pub struct Opt {
    /// Its letter.
    pub letter: char,
    /// Name of its value, if it takes one.
    pub value: Option<&'static str>,
    /// What it does.
    pub about: &'static str,
}

/// A command.
pub struct Spec {
    /// What is typed.
    pub name: &'static str,
    /// The rest of the usage line.
    pub usage: &'static str,
    /// One sentence on it.
    pub about: &'static str,
    /// Its options.
    pub options: &'static [Opt],
    /// Fewest and most arguments.
    pub args: (usize, usize),
    /// Something to copy.
    pub example: &'static str,
}

const fn flag(letter: char, about: &'static str) -> Opt {
    Opt { letter, value: None, about }
}

const fn value(letter: char, value: &'static str, about: &'static str) -> Opt {
    Opt { letter, value: Some(value), about }
}

const STAT: Opt = flag('s', "show the stat too");
const WATCH: Opt = flag('w', "tell once when it changes");
const VERSION: Opt = value('v', "version", "only if this is the version now");
const RECURSIVE: Opt = flag('R', "all znodes below too");

macro_rules! specs {
    ($($name:literal $usage:literal, $about:literal, [$($option:expr),*], $min:literal..$max:literal, $example:literal;)*) => {
        /// Every command, in the order of the help.
        pub const ALL: &[Spec] = &[$(Spec {
            name: $name, usage: $usage, about: $about, options: &[$($option),*],
            args: ($min, $max), example: $example,
        },)*];
    };
}

specs! {
    "ls" "[-s] [-w] [-R] path", "List the children of a znode.",
        [STAT, WATCH, RECURSIVE], 1..1, "ls -R /app";
    "get" "[-s] [-w] [-b] [-x] path", "Show the data of a znode.",
        [STAT, WATCH, flag('b', "in base64"), flag('x', "as a hex dump")], 1..1, "get -s /hello";
    "set" "[-s] [-v version] [-b] path data", "Replace the data of a znode.",
        [STAT, VERSION, flag('b', "data is base64")], 2..2, "set -v 0 /hello 'new data'";
    "create" "[-s] [-e] [-c] [-t ttl] path [data] [acl]", "Create a znode.",
        [flag('s', "append a sequence number"), flag('e', "ephemeral: goes with this session"),
         flag('c', "container: goes when its last child has gone"),
         value('t', "ttl", "goes when unchanged and childless for so many ms")],
        1..3, "create -e -s /locks/l- '' world:anyone:cdrwa";
    "delete" "[-v version] path", "Delete a znode without children.",
        [VERSION], 1..1, "delete /hello";
    "deleteall" "[-b batch] path", "Delete a znode and everything below it.",
        [value('b', "batch", "so many deletes at once (1000)")], 1..1, "deleteall /app";
    "stat" "[-w] path", "Show the stat of a znode.",
        [WATCH], 1..1, "stat /hello";
    "getAcl" "[-s] path", "Show who may do what with a znode.",
        [STAT], 1..1, "getAcl /hello";
    "setAcl" "[-s] [-v version] [-R] path acl", "Say who may do what (acl = scheme:id:perms,…).",
        [STAT, VERSION, RECURSIVE], 2..2, "setAcl /hello auth::cdrwa,world:anyone:r";
    "addauth" "scheme auth", "Prove an identity to the server.",
        [], 1..2, "addauth digest user:password";
    "whoami" "", "Show the identities of this connection.", [], 0..0, "whoami";
    "sync" "path", "Wait until this server knows every earlier write.",
        [], 1..1, "sync /";
    "addWatch" "[-m mode] path", "Tell about every change from now on.",
        [value('m', "mode", "PERSISTENT or PERSISTENT_RECURSIVE (default)")],
        1..1, "addWatch -m PERSISTENT /hello";
    "watch" "[-m mode] path", "As addWatch; as a single command it shows changes until Ctrl-C.",
        [value('m', "mode", "PERSISTENT or PERSISTENT_RECURSIVE (default)")],
        1..1, "watch /app";
    "removewatches" "path [-c|-d|-a|-p|-r] [-l]", "Forget watches that this shell has set.",
        [flag('c', "on children"), flag('d', "on data"), flag('a', "any (default)"),
         flag('p', "persistent"), flag('r', "persistent recursive"),
         flag('l', "even without a server (watches are always forgotten here first)")],
        1..1, "removewatches /hello";
    "getEphemerals" "[path]", "List the ephemeral znodes of this session.",
        [], 0..1, "getEphemerals /locks";
    "getAllChildrenNumber" "path", "Count the znodes below a znode.",
        [], 1..1, "getAllChildrenNumber /";
    "config" "[-c] [-w] [-s]", "Show the members of the ensemble.",
        [flag('c', "only version and connect string"), WATCH, STAT], 0..0, "config";
    "printwatches" "[on|off]", "Show notifications, or not.", [], 0..1, "printwatches off";
    "history" "", "Show the last commands.", [], 0..0, "history";
    "redo" "number", "Run a command of the history again.", [], 1..1, "redo 3";
    "connect" "[host:port]", "Open a new session, here or elsewhere.",
        [], 0..1, "connect 127.0.0.1:2182";
    "close" "", "Close the session.", [], 0..0, "close";
    "version" "", "Show the version of this shell.", [], 0..0, "version";
    "help" "[command]", "Show all commands, or more on one.", [], 0..1, "help create";
    "quit" "", "Close the session and leave.", [], 0..0, "quit";
}

/// The command of this name; capital letters do not matter.
pub fn find(name: &str) -> Option<&'static Spec> {
    ALL.iter().find(|spec| spec.name.eq_ignore_ascii_case(name))
}

/// The command that was most likely meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let begins =
        |spec: &&Spec| name.len() >= 2 && spec.name.to_ascii_lowercase().starts_with(&name);
    if let Some(spec) = ALL.iter().find(begins) {
        return Some(spec.name);
    }
    // Names that people bring along from elsewhere.
    let known = match name.as_str() {
        "ls2" | "dir" | "list" => Some("ls"),
        "rm" | "del" => Some("delete"),
        "rmr" => Some("deleteall"),
        "cat" | "read" => Some("get"),
        "touch" | "mkdir" | "mk" => Some("create"),
        "exit" | "bye" => Some("quit"),
        "?" => Some("help"),
        _ => None,
    };
    known.or_else(|| {
        let close = |spec: &&Spec| distance(&name, &spec.name.to_ascii_lowercase());
        let best = ALL.iter().min_by_key(close)?;
        (close(&best) <= 2 && name.len() > 2).then_some(best.name)
    })
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let best = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

/// A command with its words sorted out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Options that were given, with their value or an empty one.
    pub options: BTreeMap<char, String>,
    /// The other words.
    pub args: Vec<String>,
    /// What to tell about outdated ways of writing.
    pub note: Option<String>,
}

impl Parsed {
    /// Was this option given?
    pub fn has(&self, letter: char) -> bool {
        self.options.contains_key(&letter)
    }

    /// The value of an option.
    pub fn value(&self, letter: char) -> Option<&str> {
        self.options.get(&letter).map(String::as_str)
    }

    /// The first argument: of most commands, the path.
    pub fn path(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }
}

impl Spec {
    /// `name usage`.
    pub fn usage_line(&self) -> String {
        format!("{} {}", self.name, self.usage).trim_end().to_owned()
    }

    /// All about the command.
    pub fn help(&self) -> String {
        let mut text = format!("{}\n\n{}\n", self.usage_line(), self.about);
        for option in self.options {
            let value = option.value.map(|value| format!(" {value}")).unwrap_or_default();
            text.push_str(&format!(
                "  {:<12}{}\n",
                format!("-{}{value}", option.letter),
                option.about
            ));
        }
        text.push_str(&format!("\nExample: {}\n", self.example));
        text
    }

    /// Sorts the words behind the command out. Options may stand anywhere; `--` ends them.
    pub fn parse(&self, words: &[String]) -> Result<Parsed, String> {
        let mut parsed = Parsed::default();
        let mut words = words.iter();
        let mut options_ended = false;
        while let Some(word) = words.next() {
            let is_option = !options_ended && word.len() > 1 && word.starts_with('-');
            if is_option && word == "--" {
                options_ended = true;
            } else if is_option {
                self.take_option(word, &mut words, &mut parsed)?;
            } else {
                parsed.args.push(word.clone());
            }
        }
        self.modernize(&mut parsed);
        let (fewest, most) = self.args;
        if parsed.args.len() < fewest || parsed.args.len() > most {
            return Err(self.usage_line());
        }
        Ok(parsed)
    }

    fn take_option<'a>(
        &self,
        word: &str,
        words: &mut impl Iterator<Item = &'a String>,
        parsed: &mut Parsed,
    ) -> Result<(), String> {
        let mut letters = word.chars().skip(1);
        let letter = letters.next().unwrap_or('-');
        let known = self.options.iter().find(|option| option.letter == letter);
        let Some(option) = known.filter(|_| letters.next().is_none()) else {
            return Err(format!(
                "Unrecognized option: {word} (write -- before words that begin with -)\n{}",
                self.usage_line()
            ));
        };
        let value = match option.value {
            None => String::new(),
            Some(name) => words
                .next()
                .cloned()
                .ok_or_else(|| format!("-{letter} needs a value: {name}\n{}", self.usage_line()))?,
        };
        parsed.options.insert(letter, value);
        Ok(())
    }

    /// Understands the way in which old versions of the reference shell were used.
    fn modernize(&self, parsed: &mut Parsed) {
        let old = match (self.name, parsed.args.as_slice()) {
            ("ls" | "get" | "stat", [_, word]) if word == "watch" => {
                parsed.options.insert('w', String::new());
                format!("{} path [watch]", self.name)
            }
            ("delete", [_, version]) => {
                parsed.options.insert('v', version.clone());
                "delete path [version]".to_owned()
            }
            _ => return,
        };
        parsed.args.truncate(1);
        let new = self.usage_line();
        parsed.note = Some(format!("'{old}' has been deprecated. Please use '{new}' instead."));
    }
}

/// Splits a line into words: blanks divide, quotes hold together, nothing escapes.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, behind) = if first == '\'' || first == '"' {
            let inside = &rest[1..];
            inside.split_once(first).unwrap_or((inside, ""))
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            rest.split_at(end)
        };
        words.push(word.to_owned());
        rest = behind.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Parsed, String> {
        let words = words(line);
        find(&words[0]).unwrap().parse(&words[1..])
    }

    #[test]
    fn quotes_hold_words_together() {
        let check = |line: &str, expected: &[&str]| assert_eq!(words(line), expected);
        check("  create /a 'two words' \"x y\"  ", &["create", "/a", "two words", "x y"]);
        check("set /a ''", &["set", "/a", ""]);
        check("set /a it's", &["set", "/a", "it's"]);
        check("get 'open end", &["get", "open end"]);
        check("", &[]);
    }

    #[test]
    fn options_may_stand_anywhere() {
        for line in ["set -v 3 -s /a x", "set /a -s x -v 3", "set /a x -v 3 -s"] {
            let parsed = parse(line).unwrap();
            assert_eq!(parsed.args, ["/a", "x"], "{line}");
            assert_eq!((parsed.value('v'), parsed.has('s')), (Some("3"), true), "{line}");
        }
        assert_eq!(parse("set /a -- -5").unwrap().args, ["/a", "-5"]);
        assert_eq!(parse("set /a -").unwrap().args, ["/a", "-"]);
    }

    #[test]
    fn wrong_words_show_the_usage() {
        assert_eq!(parse("get").unwrap_err(), "get [-s] [-w] [-b] [-x] path");
        assert_eq!(
            parse("get -z /a").unwrap_err(),
            "Unrecognized option: -z (write -- before words that begin with -)\n\
             get [-s] [-w] [-b] [-x] path"
        );
        assert_eq!(
            parse("delete /a -v").unwrap_err(),
            "-v needs a value: version\ndelete [-v version] path"
        );
    }

    #[test]
    fn old_ways_are_understood_with_a_note() {
        let parsed = parse("get /a watch").unwrap();
        assert!(parsed.has('w'));
        assert_eq!(
            parsed.note.unwrap(),
            "'get path [watch]' has been deprecated. Please use 'get [-s] [-w] [-b] [-x] path' \
             instead."
        );
        assert_eq!(parse("delete /a 3").unwrap().value('v'), Some("3"));
    }

    #[test]
    fn an_unknown_command_suggests_the_nearest() {
        let check = |name, expected| assert_eq!(nearest(name), expected, "{name}");
        check("gte", Some("get"));
        check("getacl2", Some("getAcl"));
        check("getAll", Some("getAllChildrenNumber"));
        check("creat", Some("create"));
        check("rmr", Some("deleteall"));
        check("exit", Some("quit"));
        check("xyzzy", None);
    }

    #[test]
    fn help_of_a_command_shows_options_and_an_example() {
        let expected = "\
delete [-v version] path

Delete a znode without children.
  -v version  only if this is the version now

Example: delete /hello
";
        assert_eq!(find("DELETE").unwrap().help(), expected);
    }

    #[test]
    fn every_example_parses() {
        for spec in ALL {
            let parsed = parse(spec.example);
            assert!(parsed.is_ok(), "{}: {parsed:?}", spec.example);
        }
    }
}
