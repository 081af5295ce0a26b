//! `zkCli.sh`: the shell as scripts type it, in the words and with the streams and exit codes of the reference.
//!
//! Source: `docs/spec/operations.md` 5; the reference's own answers are recorded in `compat/zkcli`.

mod commands;
mod link;
mod options;
mod output;

use std::io::BufRead;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::commands::Shell;
use self::link::Settings;
use self::output::Output;

/// Selects the shape of the output; `3.4` is the old one.
const SHAPE: &str = "OXKEEPER_CLI_COMPAT";

/// How the shell was called.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// Connect string, perhaps with a chroot.
    pub server: String,
    /// Session timeout, and limit of the first connect.
    pub timeout: Duration,
    /// Accept a server without a quorum.
    pub read_only: bool,
    /// Wait for the connection before anything else.
    pub wait: bool,
    /// Properties file with `zookeeper.*` keys of the client.
    pub configuration: Option<String>,
    /// The command with its words; none: commands are typed.
    pub command: Vec<String>,
    /// What was wrong with the words before it, which are then without effect.
    complaint: Option<String>,
}

impl Call {
    /// Reads the words. Options that nobody knows are passed over; one that lacks its value is told, and ends them.
    pub fn parse(words: Vec<String>) -> Call {
        let mut call = Call {
            server: "localhost:2181".to_owned(),
            timeout: Duration::from_secs(30),
            read_only: false,
            wait: false,
            configuration: None,
            command: Vec::new(),
            complaint: None,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next();
            let taken = match word.as_str() {
                "-server" => value().map(|server| call.server = server),
                "-timeout" => value().map(|text| match text.parse::<u32>() {
                    Ok(ms) => call.timeout = Duration::from_millis(u64::from(ms.max(1))),
                    Err(_) => {
                        call.complaint = Some(format!("Error: -timeout {text} is no number"));
                    }
                }),
                "-client-configuration" => value().map(|file| call.configuration = Some(file)),
                "-r" => {
                    call.read_only = true;
                    Some(())
                }
                "-waitforconnection" => {
                    call.wait = true;
                    Some(())
                }
                other if other.starts_with('-') => Some(()),
                _ => {
                    call.command = std::iter::once(word).chain(words).collect();
                    break;
                }
            };
            if taken.is_none() {
                call.complaint = Some(format!("Error: no argument found for option {word}"));
                break;
            }
        }
        call
    }
}

/// Settings of the client that are given by properties, in a file or by `-D`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Properties {
    request_timeout: Option<Duration>,
    secure: bool,
}

impl Properties {
    fn set(&mut self, key: &str, value: &str) {
        match key.trim() {
            "zookeeper.request.timeout" => {
                let ms = value.trim().parse().ok().filter(|ms| *ms > 0);
                self.request_timeout = ms.map(Duration::from_millis);
            }
            "zookeeper.client.secure" => self.secure = value.trim() == "true",
            _ => {}
        }
    }

    /// The `-D` words of the environment.
    fn of_words(&mut self, text: &str) {
        for word in text.split_whitespace() {
            if let Some((key, value)) =
                word.strip_prefix("-D").and_then(|word| word.split_once('='))
            {
                self.set(key, value);
            }
        }
    }

    /// The lines of a properties file.
    fn of_file(&mut self, text: &str) {
        for line in text.lines().map(str::trim) {
            if line.starts_with(['#', '!']) {
                continue;
            }
            if let Some((key, value)) = line.split_once(['=', ':']) {
                self.set(key, value);
            }
        }
    }
}

/// The call and what the properties add; or the exit code, with the reason told.
pub fn prepare(words: Vec<String>) -> Result<(Call, Option<Duration>), ExitCode> {
    let call = Call::parse(words);
    let output = output();
    if let Some(complaint) = &call.complaint {
        output.err(complaint);
    }
    let mut properties = Properties::default();
    for name in ["JVMFLAGS", "CLIENT_JVMFLAGS"] {
        properties.of_words(&std::env::var(name).unwrap_or_default());
    }
    if let Some(file) = &call.configuration {
        match std::fs::read_to_string(file) {
            Ok(text) => properties.of_file(&text),
            Err(error) => {
                output.err(&format!("Error processing {file}: {error}"));
                return Err(2.into());
            }
        }
    }
    if properties.secure {
        output.err("zookeeper.client.secure=true: this shell does not speak TLS");
        return Err(ExitCode::FAILURE);
    }
    let request_timeout = properties.request_timeout;
    Ok((call, request_timeout))
}

/// The reply to `version`: as the server's `srvr`, a compatible version first, for scripts that compare
/// it, then ours.
fn version_line() -> String {
    format!("ZooKeeper CLI version: {}", oxkeeper_server::VERSION)
}

/// In the shape that the environment asks for.
fn output() -> Output {
    Output::new(std::env::var(SHAPE).is_ok_and(|shape| shape == "3.4"))
}

/// Runs the one command of the call, or the commands on standard input.
pub fn run(call: Call, request_timeout: Option<Duration>) -> ExitCode {
    let output = Arc::new(output());
    let single = !call.command.is_empty();
    let settings = Settings {
        server: call.server,
        timeout: call.timeout,
        read_only: call.read_only,
        request_timeout,
    };
    let end = Instant::now() + call.timeout;
    let mut shell = match Shell::open(settings, output.clone(), single && !call.wait) {
        Ok(shell) => shell,
        Err(text) => {
            output.err(&text);
            return ExitCode::FAILURE;
        }
    };
    if call.wait && !shell.link().is_some_and(|link| link.wait_connected(end)) {
        output.err("KeeperErrorCode = ConnectionLoss");
        return ExitCode::FAILURE;
    }
    if single {
        return shell.words(&call.command).into();
    }
    output.out(b"Welcome to ZooKeeper!\nJLine support is enabled\n");
    let mut code = 0;
    let mut lines = std::io::stdin().lock().lines();
    while !shell.quit {
        output.out(shell.prompt().as_bytes());
        match lines.next() {
            None => {
                // The reference gives its editor up when the input has ended.
                output.out(b"JLine support is disabled\n");
                break;
            }
            Some(Ok(line)) => code = shell.line(&line).unwrap_or(code),
            Some(Err(error)) => {
                output.err(&format!("cannot read the commands: {error}"));
                return ExitCode::FAILURE;
            }
        }
    }
    code.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(words: &[&str]) -> Call {
        Call::parse(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn options_before_the_command_are_read_and_unknown_ones_passed_over() {
        let all = call(&["-server", "a:1/x", "-timeout", "500", "-r", "-x", "ls", "-s", "/"]);
        assert_eq!((all.server.as_str(), all.timeout.as_millis()), ("a:1/x", 500));
        assert!(all.read_only && !all.wait && all.complaint.is_none());
        assert_eq!(all.command, ["ls", "-s", "/"]);
    }

    #[test]
    fn an_option_without_its_value_is_told_and_the_defaults_hold() {
        let bare = call(&["-server"]);
        assert_eq!(bare.server, "localhost:2181");
        assert_eq!(bare.complaint.unwrap(), "Error: no argument found for option -server");
    }

    #[test]
    fn the_version_is_one_that_scripts_compare_and_says_whose_it_is() {
        let line = version_line();
        assert!(line.starts_with("ZooKeeper CLI version: 3.9.5-oxkeeper-"), "{line}");
        assert!(line.contains(", built on ") && line.ends_with(" UTC"), "{line}");
    }

    #[test]
    fn properties_come_from_words_and_files() {
        let mut properties = Properties::default();
        properties.of_words("-Xmx1g -Dzookeeper.request.timeout=700 -Dother=x");
        assert_eq!(properties.request_timeout, Some(Duration::from_millis(700)));
        properties.of_file("# comment\nzookeeper.client.secure = true\n");
        assert!(properties.secure);
    }
}
