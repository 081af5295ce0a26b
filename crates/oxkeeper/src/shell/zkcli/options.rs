//! The commands of the reference and how their words are read.
//!
//! Options may stand anywhere and be written together; a word with a dash that is no option is refused; `--` ends
//! them. Source: `docs/spec/operations.md` 5.4, and the recorded lines of `compat/zkcli`.

/// A command: its name, the usage text behind it, and its options, `:` behind those that take a value.
pub struct Spec {
    /// What is typed; capital letters matter.
    pub name: &'static str,
    /// The rest of the usage line.
    pub usage: &'static str,
    options: &'static [&'static str],
    /// Fewest arguments.
    pub fewest: usize,
    /// Described options, shown behind the usage.
    details: &'static str,
}

macro_rules! commands {
    ($($name:literal $usage:literal [$($option:literal)*] $fewest:literal $details:expr;)*) => {
        /// Every command, in the order of the usage.
        pub const ALL: &[Spec] = &[$(Spec {
            name: $name, usage: $usage, options: &[$($option),*], fewest: $fewest, details: $details,
        },)*];
    };
}

const GET: &str = "\n -b   Output data in base64 format\n -s   Print znode stats additionally\n \
    -w   Watch for changes on the znode\n -x   Output data in hexdump format\n";
const SET: &str = "\n -b         Supply data in base64 format\n -s         Print znode stats \
    additionally\n -v <arg>   Set with an expected version\n";

commands! {
    "addWatch" "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE] - default is PERSISTENT_RECURSIVE"
        ["m:"] 1 "";
    "addauth" "scheme auth" [] 1 "";
    "close" "" [] 0 "";
    "config" "[-c] [-w] [-s]" ["s" "c" "w"] 0 "";
    "connect" "host:port" [] 0 "";
    "create" "[-s] [-e] [-c] [-t ttl] path [data] [acl]" ["e" "s" "c" "t:"] 1 "";
    "delete" "[-v version] path" ["v:"] 1 "";
    "deleteall" "path [-b batch size]" ["b:"] 1 "";
    "delquota" "[-n|-b|-N|-B] path" ["b" "n" "B" "N"] 1 "";
    "get" "[-s] [-w] [-b] [-x] path" ["s" "w" "b" "x"] 1 GET;
    "getAcl" "[-s] path" ["s"] 1 "";
    "getAllChildrenNumber" "path" [] 1 "";
    "getEphemerals" "path" [] 0 "";
    "history" "" [] 0 "";
    "listquota" "path" [] 1 "";
    "ls" "[-s] [-w] [-R] path" ["s" "w" "R"] 1 "";
    "printwatches" "on|off" [] 0 "";
    "quit" "" [] 0 "";
    "reconfig" "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | [-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]"
        ["s" "v:" "file:" "members:" "add:" "remove:"] 0 "";
    "redo" "cmdno" [] 0 "";
    "removewatches" "path [-c|-d|-a] [-l]" ["c" "d" "p" "r" "a" "l"] 1 "";
    "set" "path data [-s] [-v version] [-b]" ["s" "v:" "b"] 2 SET;
    "setAcl" "[-s] [-v version] [-R] path acl" ["s" "v:" "R"] 2 "";
    "setquota" "-n|-b|-N|-B val path" ["b:" "n:" "B:" "N:"] 1 "";
    "stat" "[-w] path" ["w"] 1 "";
    "sync" "path" [] 1 "";
    "version" "" [] 0 "";
    "whoami" "" [] 0 "";
}

/// The command of this name.
pub fn find(name: &str) -> Option<&'static Spec> {
    ALL.iter().find(|spec| spec.name == name)
}

/// All commands, as the reference shows them when it does not know one.
pub fn usage() -> String {
    let mut text =
        "ZooKeeper -server host:port -client-configuration properties-file cmd args".to_owned();
    for spec in ALL {
        text.push_str(&format!("\n\t{} {}", spec.name, spec.usage));
    }
    text
}

/// A command with its words sorted out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    options: Vec<(String, String)>,
    /// The other words.
    pub args: Vec<String>,
}

impl Parsed {
    /// Was this option given?
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The value of an option, the first if there are several; empty for one that takes none.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of an option.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let mine = self.options.iter().filter(|(known, _)| known == name);
        mine.map(|(_, value)| value.as_str()).collect()
    }

    /// The first argument: of most commands, the path.
    pub fn path(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }
}

impl Spec {
    /// What is said of a command that was written wrongly.
    pub fn usage_text(&self) -> String {
        format!("{} {}{}", self.name, self.usage, self.details)
    }

    /// Does the option take a value? `None` if there is no such option.
    fn takes_value(&self, name: &str) -> Option<bool> {
        self.options.iter().find_map(|option| match option.strip_suffix(':') {
            Some(with_value) => (with_value == name).then_some(true),
            None => (*option == name).then_some(false),
        })
    }

    /// Could this word only be an option?
    fn is_option(&self, word: &str) -> bool {
        let Some(rest) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            return false;
        };
        let name = rest.split('=').next().unwrap_or_default();
        let first: String = rest.chars().take(1).collect();
        self.takes_value(name).is_some() || self.takes_value(&first).is_some()
    }

    /// Sorts the words behind the command out.
    pub fn parse(&self, words: &[String]) -> Result<Parsed, String> {
        let mut parsed = Parsed::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                parsed.args.extend(words.by_ref().cloned());
                break;
            }
            if word.len() < 2 || !word.starts_with('-') {
                parsed.args.push(word.clone());
                continue;
            }
            let wanting = self.take(word, &mut parsed)?;
            self.check_group(&parsed, wanting.as_deref())?;
            if let Some(wanting) = wanting {
                let value = words.next().filter(|value| !self.is_option(value) && *value != "--");
                let value = value.ok_or_else(|| {
                    format!(
                        "org.apache.commons.cli.MissingArgumentException: Missing argument for \
                         option: {wanting}"
                    )
                })?;
                parsed.options.push((wanting, value.clone()));
            }
        }
        if self.name == "setquota" && parsed.options.is_empty() {
            return Err("org.apache.commons.cli.MissingOptionException: Missing required option: \
                        [-n num soft quota, -b bytes soft quota, -N num hard quota, -B bytes hard \
                        quota]"
                .to_owned());
        }
        if parsed.args.len() < self.fewest {
            return Err(self.usage_text());
        }
        Ok(parsed)
    }

    /// Of a quota's options there can be one.
    fn check_group(&self, parsed: &Parsed, wanting: Option<&str>) -> Result<(), String> {
        if !matches!(self.name, "setquota" | "delquota") {
            return Ok(());
        }
        let mut given = parsed.options.iter().map(|(name, _)| name.as_str()).chain(wanting);
        let first = given.next();
        match given.find(|name| Some(*name) != first) {
            None => Ok(()),
            Some(second) => Err(format!(
                "org.apache.commons.cli.AlreadySelectedException: The option '{second}' was \
                 specified but an option from this group has already been selected: '{}'",
                first.unwrap_or_default()
            )),
        }
    }

    /// Takes a word with a dash: one option, one with its value, or several letters. Gives the one whose value is
    /// the next word.
    fn take(&self, word: &str, parsed: &mut Parsed) -> Result<Option<String>, String> {
        let unknown = || {
            format!(
                "org.apache.commons.cli.UnrecognizedOptionException: Unrecognized option: {word}"
            )
        };
        let rest = word.strip_prefix('-').unwrap_or(word);
        match self.takes_value(rest) {
            Some(true) => return Ok(Some(rest.to_owned())),
            Some(false) => {
                parsed.options.push((rest.to_owned(), String::new()));
                return Ok(None);
            }
            None => {}
        }
        if let Some((name, value)) = rest.split_once('=')
            && self.takes_value(name) == Some(true)
        {
            parsed.options.push((name.to_owned(), value.to_owned()));
            return Ok(None);
        }
        for (at, letter) in rest.char_indices() {
            let name = letter.to_string();
            match self.takes_value(&name) {
                None => return Err(unknown()),
                Some(false) => parsed.options.push((name, String::new())),
                Some(true) => {
                    let value = &rest[at + letter.len_utf8()..];
                    if value.is_empty() {
                        return Ok(Some(name));
                    }
                    parsed.options.push((name, value.to_owned()));
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, words: &[&str]) -> Result<Parsed, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        find(name).unwrap().parse(&words)
    }

    #[test]
    fn options_stand_anywhere_and_together() {
        let parsed = parse("get", &["/a", "-sw"]).unwrap();
        assert!(parsed.has("s") && parsed.has("w") && !parsed.has("x"));
        for words in [["-v", "3", "/a", "x"], ["/a", "x", "-v", "3"]] {
            let parsed = parse("set", &words).unwrap();
            assert_eq!((parsed.value("v"), parsed.path()), (Some("3"), "/a"));
        }
        assert_eq!(parse("set", &["-v3", "/a", "x"]).unwrap().value("v"), Some("3"));
        assert_eq!(parse("set", &["-v", "-1", "/a", "x"]).unwrap().value("v"), Some("-1"));
        assert_eq!(parse("set", &["/a", "--", "-x"]).unwrap().args, ["/a", "-x"]);
        assert_eq!(parse("set", &["/a", "-"]).unwrap().args, ["/a", "-"]);
    }

    #[test]
    fn wrong_words_are_refused_in_the_words_of_the_reference() {
        let check = |name, words: &[&str], text: &str| {
            assert_eq!(parse(name, words).unwrap_err(), text);
        };
        let unknown = "org.apache.commons.cli.UnrecognizedOptionException: Unrecognized option: ";
        check("get", &["-q"], &format!("{unknown}-q"));
        check("get", &["--s", "/a"], &format!("{unknown}--s"));
        check("set", &["/a", "-1"], &format!("{unknown}-1"));
        let missing =
            "org.apache.commons.cli.MissingArgumentException: Missing argument for option: v";
        check("set", &["-v"], missing);
        check("delete", &[], "delete [-v version] path");
    }
}
