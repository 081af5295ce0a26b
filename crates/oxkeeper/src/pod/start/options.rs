//! The flags of `start-zookeeper` and the variables below them, as typed values.
//!
//! Source: `docs/spec/kubernetes.md` 4.1, 4.2.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::RangeInclusive;

/// A flag `--name=value`.
struct Flag {
    name: &'static str,
    /// Environment variable that is heard if the flag is not given.
    variable: Option<&'static str>,
    /// For the usage text.
    default: &'static str,
    help: &'static str,
}

const fn flag(
    name: &'static str,
    variable: &'static str,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, variable: Some(variable), default, help }
}

const fn ours(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, variable: None, default, help }
}

const FLAGS: &[Flag] = &[
    flag("servers", "ZK_REPLICAS", "1", "servers of the ensemble; 1: standalone"),
    flag("data_dir", "ZK_DATA_DIR", "/var/lib/zookeeper/data", "snapshots and myid"),
    flag("data_log_dir", "ZK_DATA_LOG_DIR", "/var/lib/zookeeper/log", "transaction log"),
    flag("log_dir", "ZK_LOG_DIR", "/var/log/zookeeper", "made, not used: the log goes to stdout"),
    flag("conf_dir", "ZK_CONF_DIR", "/opt/zookeeper/conf", "where the files are generated"),
    flag("client_port", "ZK_CLIENT_PORT", "2181", "port for clients"),
    flag("server_port", "ZK_SERVER_PORT", "2888", "port of the leader for the other servers"),
    flag("election_port", "ZK_ELECTION_PORT", "3888", "port for elections"),
    flag("tick_time", "ZK_TICK_TIME", "2000", "unit of time, in ms"),
    flag("init_limit", "ZK_INIT_LIMIT", "10", "ticks to connect and synchronize"),
    flag("sync_limit", "ZK_SYNC_LIMIT", "5", "ticks of silence until a server is given up"),
    flag("heap", "ZK_HEAP_SIZE", "2G", "written to java.env, otherwise without effect"),
    flag("max_client_cnxns", "ZK_MAX_CLIENT_CNXNS", "60", "connections of one address; 0: any"),
    flag("snap_retain_count", "ZK_SNAP_RETAIN_COUNT", "3", "snapshots that a purge keeps"),
    flag("purge_interval", "ZK_PURGE_INTERVAL", "0", "hours between purges; 0: never"),
    flag("min_session_timeout", "ZK_MIN_SESSION_TIMEOUT", "2 ticks", "in ms"),
    flag("max_session_timeout", "ZK_MAX_SESSION_TIMEOUT", "20 ticks", "in ms"),
    flag("log_level", "ZK_LOG_LEVEL", "INFO", "FATAL, ERROR, WARN, INFO or DEBUG"),
    ours("myid_offset", "1", "myid of the pod with ordinal 0"),
    ours("cluster_domain", "as found", "domain of the cluster in the servers' names"),
    ours("whitelist", "all but wchp, wchc", "four-letter words that are answered; *: all"),
    ours("reconfig", "false", "allow changes of the ensemble at run time"),
    ours("admin_port", "0", "port of the AdminServer with /livez and /readyz; 0: none"),
    ours("metrics_port", "0", "port for Prometheus; 0: none"),
    ours("log_format", "pattern", "pattern or json"),
];

/// Answered by default: all commands but the two that walk over every watch.
const WHITELIST: &str =
    "conf,cons,crst,dirs,dump,envi,gtmk,hash,isro,mntr,ruok,srst,srvr,stat,stmk,wchs";

const LEVELS: &[&str] = &["FATAL", "ERROR", "WARN", "INFO", "DEBUG"];

/// What the words of the command line ask for.
#[derive(Debug, PartialEq)]
pub enum Request {
    /// `-h`
    Help,
    /// Make the files and start the server.
    Start(Box<Options>),
    /// Show the configuration and end.
    PrintConfig(Box<Options>),
}

/// Everything that `start-zookeeper` can be told. Names are those of the flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Servers of the ensemble, 1 to 255.
    pub servers: u32,
    /// Names of the servers, if they are listed (`ZK_ENSEMBLE`).
    pub names: Option<Vec<String>>,
    pub data_dir: String,
    pub data_log_dir: String,
    pub log_dir: String,
    pub conf_dir: String,
    pub client_port: u32,
    pub server_port: u32,
    pub election_port: u32,
    /// In ms.
    pub tick_time: u32,
    /// In ticks.
    pub init_limit: u32,
    /// In ticks.
    pub sync_limit: u32,
    pub heap: String,
    pub max_client_cnxns: u32,
    pub snap_retain_count: u32,
    /// In hours.
    pub purge_interval: u32,
    /// In ms.
    pub min_session_timeout: u32,
    /// In ms.
    pub max_session_timeout: u32,
    pub log_level: String,
    pub myid_offset: u32,
    pub cluster_domain: Option<String>,
    /// Words with commas between them; empty: the server's default.
    pub whitelist: String,
    pub reconfig: bool,
    /// 0: none.
    pub admin_port: u32,
    /// 0: none.
    pub metrics_port: u32,
    /// `pattern` or `json`, if asked for.
    pub log_format: Option<String>,
}

/// The usage text.
pub fn usage() -> String {
    let mut text = "\
usage: start-zookeeper [--name=value …]

Generates zoo.cfg, log4j.properties, java.env and myid for the pod that it runs in, then runs the
server. The host name must be <name>-<ordinal>, as that of a pod of a StatefulSet; a single server
(--servers=1) can have any name. As process 1 it stays, passes signals on and ends as the server
ends; otherwise it becomes the server.

"
    .to_owned();
    for Flag { name, variable, default, help } in FLAGS {
        let variable = variable.map_or_else(String::new, |name| format!(", or {name}"));
        // Writing to a String does not fail.
        let _ = writeln!(text, "  --{name:<22}{help} [{default}{variable}]");
    }
    text.push_str(
        "  --print-config          show zoo.cfg on stdout and end; nothing is written
  -h                      this text

Also heard, below the flags: ZK_ENSEMBLE=\"zk-0;zk-1;zk-2\" (names of the servers), SERVER_JVMFLAGS and
JVMFLAGS (words -Dname=value become properties of the server).

Examples:
  start-zookeeper --servers=3 --heap=512M --purge_interval=12
  start-zookeeper --data_dir=/tmp/zk/data --data_log_dir=/tmp/zk/log --conf_dir=/tmp/zk/conf
  start-zookeeper --servers=3 --admin_port=8080 --metrics_port=7000 --log_format=json
",
    );
    text
}

/// Reads the command line; `variable` gives the value of an environment variable.
pub fn parse(
    words: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Request, String> {
    let mut given = Given { values: BTreeMap::new(), names: None };
    let mut print = false;
    for word in words {
        let Some(text) = word.strip_prefix("--") else {
            match word.as_str() {
                "-h" => return Ok(Request::Help),
                _ => return Err(format!("Unknown option {word}")),
            }
        };
        if text == "print-config" {
            print = true;
            continue;
        }
        let (name, rest) = text.split_once('=').unwrap_or((text, ""));
        let known = FLAGS.iter().find(|flag| flag.name == name && text.contains('='));
        let Some(flag) = known else { return Err(format!("Unknown option {word}")) };
        if rest.contains(char::is_control) {
            return Err(format!("--{name}: {rest:?} has a control character in it"));
        }
        // What stands behind the last `=`, as in the reference.
        let value = rest.rsplit('=').next().unwrap_or(rest);
        given.values.insert(flag.name, (format!("--{name}"), value.to_owned()));
    }
    given.add_variables(variable)?;
    let options = Box::new(given.options()?);
    Ok(if print { Request::PrintConfig(options) } else { Request::Start(options) })
}

/// What has been given, by the name of its flag: where, and the text.
struct Given {
    values: BTreeMap<&'static str, (String, String)>,
    names: Option<Vec<String>>,
}

impl Given {
    fn add_variables(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), String> {
        for flag in FLAGS {
            let Some(name) = flag.variable.filter(|_| !self.values.contains_key(flag.name)) else {
                continue;
            };
            if let Some(value) = variable(name) {
                self.values.insert(flag.name, (name.to_owned(), value));
            }
        }
        if let (false, Some(list)) = (self.values.contains_key("servers"), variable("ZK_ENSEMBLE"))
        {
            let names: Vec<String> = list
                .split(';')
                .map(|name| name.trim().to_owned())
                .filter(|n| !n.is_empty())
                .collect();
            if let Some(wrong) = names.iter().find(|name| !is_host(name)) {
                return Err(format!("ZK_ENSEMBLE: '{wrong}' is not a host name"));
            }
            let servers = ("ZK_ENSEMBLE".to_owned(), names.len().to_string());
            self.values.insert("servers", servers);
            self.names = Some(names);
        }
        Ok(())
    }

    fn options(self) -> Result<Options, String> {
        let port = 1..=65535;
        let any_port = 0..=65535;
        let positive = 1..=i32::MAX as u32;
        let any = 0..=i32::MAX as u32;
        let tick_time = self.number("tick_time", 2000, positive.clone())?;
        let options = Options {
            servers: self.number("servers", 1, 1..=255)?,
            data_dir: self.path("data_dir")?,
            data_log_dir: self.path("data_log_dir")?,
            log_dir: self.path("log_dir")?,
            conf_dir: self.path("conf_dir")?,
            client_port: self.number("client_port", 2181, port.clone())?,
            server_port: self.number("server_port", 2888, port.clone())?,
            election_port: self.number("election_port", 3888, port)?,
            tick_time,
            init_limit: self.number("init_limit", 10, positive.clone())?,
            sync_limit: self.number("sync_limit", 5, positive.clone())?,
            heap: self.checked("heap", "2G", "a size such as 512M or 2G", is_size)?,
            max_client_cnxns: self.number("max_client_cnxns", 60, any.clone())?,
            snap_retain_count: self.number("snap_retain_count", 3, any.clone())?,
            purge_interval: self.number("purge_interval", 0, any.clone())?,
            min_session_timeout: self.number(
                "min_session_timeout",
                tick_time.saturating_mul(2),
                positive.clone(),
            )?,
            max_session_timeout: self.number(
                "max_session_timeout",
                tick_time.saturating_mul(20),
                positive,
            )?,
            log_level: self
                .checked("log_level", "INFO", "one of FATAL, ERROR, WARN, INFO, DEBUG", |text| {
                    LEVELS.contains(&text.to_ascii_uppercase().as_str())
                })?
                .to_ascii_uppercase(),
            myid_offset: self.number("myid_offset", 1, 0..=255)?,
            cluster_domain: Some(self.checked("cluster_domain", "", "a domain name", |text| {
                text.is_empty() || is_host(text.trim_matches('.'))
            })?)
            .map(|domain| domain.trim_matches('.').to_owned())
            .filter(|domain| !domain.is_empty()),
            whitelist: self.checked(
                "whitelist",
                WHITELIST,
                "words with commas between",
                |text| {
                    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ',' | '*' | ' '))
                },
            )?,
            reconfig: self
                .checked("reconfig", "false", "true or false", |text| {
                    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
                })?
                .eq_ignore_ascii_case("true"),
            admin_port: self.number("admin_port", 0, any_port.clone())?,
            metrics_port: self.number("metrics_port", 0, any_port)?,
            log_format: Some(self.checked("log_format", "", "pattern or json", |text| {
                matches!(text, "pattern" | "json")
            })?)
            .filter(|format| !format.is_empty()),
            names: self.names,
        };
        if options.min_session_timeout > options.max_session_timeout {
            return Err(format!(
                "--min_session_timeout: {} is more than --max_session_timeout, which is {}",
                options.min_session_timeout, options.max_session_timeout
            ));
        }
        Ok(options)
    }

    fn number(&self, name: &str, default: u32, range: RangeInclusive<u32>) -> Result<u32, String> {
        let Some((origin, text)) = self.values.get(name) else { return Ok(default) };
        let trimmed = text.trim();
        let number = trimmed
            .parse()
            .ok()
            .filter(|n| range.contains(n) && trimmed.bytes().all(|byte| byte.is_ascii_digit()));
        number.ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            format!("{origin}: {text:?} is not a number from {from} to {to}")
        })
    }

    fn path(&self, name: &str) -> Result<String, String> {
        let default = FLAGS.iter().find(|flag| flag.name == name).map_or("", |flag| flag.default);
        self.checked(name, default, "the path of a directory", |text| {
            !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control)
        })
    }

    fn checked(
        &self,
        name: &str,
        default: &str,
        what: &str,
        is_right: impl Fn(&str) -> bool,
    ) -> Result<String, String> {
        match self.values.get(name) {
            None => Ok(default.to_owned()),
            Some((_, text)) if is_right(text) => Ok(text.clone()),
            Some((origin, text)) => Err(format!("{origin}: {text:?} is not {what}")),
        }
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}

/// A heap size as a Java machine takes it.
fn is_size(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| "kKmMgGtT".contains(c));
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && text.len() <= digits.len() + 1
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn request(words: &[&str], variables: &[(&str, &str)]) -> Result<Request, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        parse(&words, |name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    /// The options of a command line that starts a server.
    pub fn options(words: &[&str], variables: &[(&str, &str)]) -> Options {
        match request(words, variables) {
            Ok(Request::Start(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_win_over_variables_and_those_over_defaults() {
        let found = options(
            &["--client_port=5", "--heap=512M"],
            &[("ZK_CLIENT_PORT", "6"), ("ZK_SERVER_PORT", "7"), ("ZK_LOG_LEVEL", "warn")],
        );
        assert_eq!((found.client_port, found.server_port, found.election_port), (5, 7, 3888));
        assert_eq!((found.heap.as_str(), found.log_level.as_str()), ("512M", "WARN"));
        assert_eq!(found.data_log_dir, "/var/lib/zookeeper/log");
    }

    #[test]
    fn session_timeouts_follow_the_tick() {
        let found = options(&["--tick_time=100"], &[]);
        assert_eq!((found.min_session_timeout, found.max_session_timeout), (200, 2000));
        let error = request(&["--min_session_timeout=50000"], &[]).unwrap_err();
        assert!(error.contains("50000 is more than --max_session_timeout"), "{error}");
    }

    #[test]
    fn the_value_is_the_text_after_the_last_equals_sign() {
        assert_eq!(options(&["--data_dir=/a=/b"], &[]).data_dir, "/b");
    }

    #[test]
    fn only_known_names_with_a_value_are_accepted() {
        for word in ["--help", "--servers", "--server=3", "--SERVERS=3", "-x", "3", "--"] {
            assert_eq!(request(&[word], &[]), Err(format!("Unknown option {word}")));
        }
        assert_eq!(request(&["--servers=3", "-h"], &[]), Ok(Request::Help));
        assert!(matches!(request(&["--print-config"], &[]), Ok(Request::PrintConfig(_))));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_flag_or_variable() {
        let error = |word: &str| request(&[word], &[]).unwrap_err();
        assert_eq!(
            error("--client_port=x"),
            "--client_port: \"x\" is not a number from 1 to 65535"
        );
        assert_eq!(error("--servers=0"), "--servers: \"0\" is not a number from 1 to 255");
        assert_eq!(
            request(&[], &[("ZK_TICK_TIME", "2s")]).unwrap_err(),
            "ZK_TICK_TIME: \"2s\" is not a number from 1 to 2147483647"
        );
        for word in [
            "--client_port=+1",
            "--tick_time=",
            "--data_dir=/a\nskipACL=yes",
            "--data_dir=",
            "--whitelist=ruok\nskipACL",
            "--heap=1G -Dx",
            "--heap=G",
            "--log_level=LOUD",
            "--log_format=xml",
            "--reconfig=yes",
            "--cluster_domain=a b",
        ] {
            let name = word.split('=').next().unwrap();
            assert!(error(word).starts_with(name), "{word:?}");
        }
    }

    #[test]
    fn the_older_list_of_servers_gives_their_number_and_names() {
        let found = options(&[], &[("ZK_ENSEMBLE", "a-0;a-1;a-2")]);
        assert_eq!(found.servers, 3);
        assert_eq!(found.names.unwrap(), ["a-0", "a-1", "a-2"]);
        let found = options(&[], &[("ZK_ENSEMBLE", "a-0;a-1;a-2"), ("ZK_REPLICAS", "5")]);
        assert_eq!((found.servers, found.names), (5, None));
        assert!(request(&[], &[("ZK_ENSEMBLE", "a-0;b c")]).is_err());
    }

    #[test]
    fn the_usage_text_names_every_flag() {
        let text = usage();
        for flag in FLAGS {
            assert!(text.contains(&format!("--{} ", flag.name)), "{}", flag.name);
        }
    }
}
