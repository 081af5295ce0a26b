//! `oxkeeper shell`: the commands of the reference's shell, one at a time or in a conversation.
//!
//! Data goes to stdout; errors and `Created …` go to stderr. Source: `docs/spec/operations.md` 5.

mod base64;
mod run;
mod session;
mod spec;
mod terminal;
mod text;
mod watches;
mod zkcli;

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use reedline::ExternalPrinter;
use tokio::runtime::Runtime;

use self::run::{Outcome, Shell};
use self::session::{Printer, Settings};
use self::terminal::{Input, ShellPrompt};

const USAGE: &str = "oxkeeper shell [-server host:port,…[/chroot]] [-timeout ms] [-r] \
                     [-waitforconnection] [-auth scheme:proof] [command …]";

const AFTER_HELP: &str = "\
Options, as the reference's zkCli.sh has them, stand before the command:
  -server host:port,…[/chroot]  where to connect [default: localhost:2181]
  -timeout ms                   session timeout, and limit of the connect [default: 30000]
  -r                            accept a server without a quorum, for reads
  -waitforconnection            keep trying until the timeout
  -auth scheme:proof            prove an identity at once, as addauth does

With a command it runs that and ends: exit code 0, 1 if it failed, 127 if there is no such command.
The session is then left to its timeout, so that an ephemeral znode stays that long.
Without one it reads commands: with history and completion in a terminal, one per line in a pipe,
where the exit code is that of the last one. `oxkeeper shell help` lists the commands.
Dates are in UTC. A znode without data looks like one with empty data.

Examples:
  oxkeeper shell ls -R /
  oxkeeper shell -server a:2181,b:2181 create -s /jobs/job- 'some data'
  oxkeeper shell watch /jobs                 shows changes until Ctrl-C
  printf 'create /a 1\\nget /a\\n' | oxkeeper shell";

/// Work with znodes, by the commands of zkCli.sh
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct ShellArgs {
    /// Options, then a command with its words
    #[arg(value_name = "-option … command …", allow_hyphen_values = true, trailing_var_arg = true)]
    args: Vec<String>,
}

/// Runs the shell; the exit code is that of the last command.
pub fn run(args: ShellArgs) -> ExitCode {
    let (settings, command) = match options(args.args) {
        Ok(split) => split,
        Err(text) => {
            eprintln!("error: {text}\n  {USAGE}");
            return 2.into();
        }
    };
    start(settings, &command)
}

fn start(settings: Settings, command: &[String]) -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = if !command.is_empty() {
        single(&runtime, settings, command)
    } else if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        converse(&runtime, settings)
    } else {
        pipe(&runtime, settings)
    };
    // A hanging name resolution or probe must not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code.into()
}

/// `zkCli.sh`: exactly as scripts call the reference's. At a terminal, without a command, it is the pleasant shell.
pub fn zk_cli(words: Vec<String>) -> ExitCode {
    let (call, request_timeout) = match zkcli::prepare(words) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    let typed = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if !call.command.is_empty() || !typed {
        return zkcli::run(call, request_timeout);
    }
    let settings = Settings {
        server: call.server,
        timeout: call.timeout,
        read_only: call.read_only,
        wait: call.wait,
        detached: false,
        auths: Vec::new(),
    };
    start(settings, &[])
}

/// Splits the arguments into settings and the words of a command.
fn options(args: Vec<String>) -> Result<(Settings, Vec<String>), String> {
    let mut settings = Settings {
        server: "localhost:2181".to_owned(),
        timeout: Duration::from_secs(30),
        read_only: false,
        wait: false,
        detached: false,
        auths: Vec::new(),
    };
    let mut args = args.into_iter().peekable();
    while let Some(option) = args.next_if(|word| word.starts_with('-')) {
        let mut value =
            |what: &str| args.next().ok_or_else(|| format!("{option} needs a value: {what}"));
        match option.trim_start_matches('-') {
            "server" => settings.server = value("host:port,host:port")?,
            "timeout" => {
                let text = value("milliseconds")?;
                let ms = text.parse().ok().filter(|ms| (1..=i32::MAX).contains(ms));
                let ms =
                    ms.ok_or_else(|| format!("-timeout {text} is no number of milliseconds"))?;
                settings.timeout = Duration::from_millis(ms as u64);
            }
            "r" => settings.read_only = true,
            "waitforconnection" => settings.wait = true,
            "auth" => {
                let text = value("scheme:proof")?;
                let (scheme, proof) = text
                    .split_once(':')
                    .ok_or_else(|| format!("-auth {text} has not the form scheme:proof"))?;
                settings.auths.push((scheme.to_owned(), proof.to_owned()));
            }
            _ => return Err(format!("unknown option {option}")),
        }
    }
    Ok((settings, args.collect()))
}

fn single(runtime: &Runtime, mut settings: Settings, command: &[String]) -> u8 {
    settings.detached = true;
    let mut shell = Shell::new(settings, Printer::new(None), true);
    show(&runtime.block_on(shell.words(command)))
}

fn pipe(runtime: &Runtime, settings: Settings) -> u8 {
    let mut shell = Shell::new(settings, Printer::new(None), false);
    let mut code = 0;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else {
            eprintln!("error: the input is not UTF-8 text");
            code = 1;
            break;
        };
        if line.trim_start().starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let outcome = runtime.block_on(shell.line(&line));
        let quit = outcome.quit;
        code = if quit { code } else { show(&outcome) };
        if quit {
            break;
        }
    }
    runtime.block_on(shell.session.close());
    code
}

fn converse(runtime: &Runtime, settings: Settings) -> u8 {
    let notes = ExternalPrinter::default();
    let printer = Printer::new(Some(notes.sender()));
    let client = Arc::new(Mutex::new(None));
    let mut editor = terminal::editor(notes, client.clone(), runtime.handle().clone());
    let mut shell = Shell::new(settings, printer, false);
    println!("oxkeeper {}: `help` lists the commands, Tab completes", env!("CARGO_PKG_VERSION"));
    if let Err(text) = runtime.block_on(shell.session.client()) {
        eprintln!("{text}\n  the next command tries again; `connect host:port` goes elsewhere");
    }
    let mut code = 0;
    loop {
        if let Ok(mut client) = client.lock() {
            client.clone_from(&shell.session.current().cloned());
        }
        let prompt = ShellPrompt {
            server: shell.session.settings.server.clone(),
            state: shell.session.state(),
            number: shell.number(),
        };
        match terminal::read(&mut editor, &prompt) {
            Ok(Input::Line(line)) => {
                // A session lives as long as any handle to it: the completer's must not outlast
                // a `close`.
                if let Ok(mut client) = client.lock() {
                    *client = None;
                }
                let outcome = runtime.block_on(shell.line(&line));
                if outcome.quit {
                    break;
                }
                code = show(&outcome);
            }
            Ok(Input::Nothing) => {}
            Ok(Input::End) => break,
            Err(error) => {
                eprintln!("error: cannot read from the terminal: {error}");
                code = 1;
                break;
            }
        }
    }
    if let Ok(mut client) = client.lock() {
        *client = None;
    }
    runtime.block_on(shell.session.close());
    code
}

/// Prints what a command leaves; gives its exit code.
fn show(outcome: &Outcome) -> u8 {
    let mut out = std::io::stdout().lock();
    // A reader that has gone away is not our concern.
    let _ = out.write_all(&outcome.out).and_then(|()| out.flush());
    let _ = std::io::stderr().lock().write_all(outcome.err.as_bytes());
    outcome.code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(words: &[&str]) -> Result<(Settings, Vec<String>), String> {
        options(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn options_stand_before_the_command() {
        let (settings, command) =
            split(&["-server", "a:1/x", "-timeout", "500", "-r", "ls", "-s", "/"]).unwrap();
        assert_eq!(settings.server, "a:1/x");
        assert_eq!(settings.timeout, Duration::from_millis(500));
        assert!(settings.read_only && !settings.wait);
        assert_eq!(command, ["ls", "-s", "/"]);
        let (settings, _) = split(&["--server", "a:1", "-auth", "digest:u:p"]).unwrap();
        assert_eq!(settings.auths, [("digest".to_owned(), "u:p".to_owned())]);
    }

    #[test]
    fn wrong_options_are_named() {
        assert_eq!(split(&["-server"]).unwrap_err(), "-server needs a value: host:port,host:port");
        assert_eq!(split(&["-sever", "x"]).unwrap_err(), "unknown option -sever");
        assert_eq!(
            split(&["-timeout", "soon"]).unwrap_err(),
            "-timeout soon is no number of milliseconds"
        );
    }
}
