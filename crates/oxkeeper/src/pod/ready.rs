//! `oxkeeper ready`: the question of a readiness probe, for people; `zookeeper-ready` and `zkOk.sh`:
//! the same for Kubernetes, without a word.
//!
//! None of them opens a session. Source: `docs/spec/kubernetes.md` 4.3.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::failure::Failure;
use crate::{four_letter, servers, time};

const AFTER_HELP: &str = "\
Exit code 0 if the server serves (it is standalone, or a member of a quorum), 1 with a reason if not.
Called zookeeper-ready, as an image has it, this program is the silent probe of a pod.

Examples:
  oxkeeper ready 2181
  oxkeeper ready 2181 --host zk-1 --timeout 500ms
  until oxkeeper ready 2181; do sleep 1; done";

/// Tell whether a server serves requests, as a readiness probe
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct ReadyArgs {
    /// Client port of the server
    port: u16,
    /// Where the server is
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// How long to wait for its answer
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = time::parse)]
    timeout: Duration,
}

/// Asks the server once.
pub fn run(args: &ReadyArgs) -> Result<(), Failure> {
    let host = match args.host.contains(':') && !args.host.starts_with('[') {
        true => format!("[{}]:{}", args.host, args.port),
        false => format!("{}:{}", args.host, args.port),
    };
    let server = servers::resolve(std::slice::from_ref(&host))?[0];
    let mode = ask(&host, server, args.timeout)?;
    println!("{host} is serving ({mode})");
    Ok(())
}

fn ask(host: &str, server: SocketAddr, timeout: Duration) -> Result<String, Failure> {
    let not = |why: String| Failure::new(format!("not ready: {host} {why}"));
    let answer = four_letter::ask(server, "srvr", timeout).map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => not("refuses connections: no server runs there".to_owned()),
        ErrorKind::TimedOut => not(format!("gave no answer within {timeout:?}")),
        _ => not(format!("cannot be asked: {error}")),
    })?;
    match four_letter::mode(&answer) {
        Some(READ_ONLY) => return Err(not("is read-only: it has no quorum".to_owned())),
        Some(mode) => return Ok(mode.to_owned()),
        None => {}
    }
    Err(if answer.contains("not currently serving") {
        not("runs but does not serve: it has no quorum, or is still starting".to_owned())
    } else if answer.contains("not in the whitelist") {
        not("does not answer srvr: its 4lw.commands.whitelist leaves it out".to_owned())
    } else if answer.is_empty() {
        not("closed the connection without an answer: not a ZooKeeper client port?".to_owned())
    } else {
        not(format!("answered {:?}", answer.chars().take(80).collect::<String>()))
    })
}

/// Limit of a probe: below the 5 s that manifests give it.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// The mode of a server that lost its quorum and still lets read.
const READ_ONLY: &str = "read-only";

const PROBE_USAGE: &str = "\
usage: zookeeper-ready [--quorum] [--admin] PORT
  exit code 0 if the server on this machine answers ruok on its client port PORT, 1 if not
  --quorum  only if it serves: standalone, or a member of a quorum
  --admin   PORT is that of the AdminServer: ask it for /livez, with --quorum for /readyz";

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Probe {
    port: u16,
    quorum: bool,
    admin: bool,
}

/// `zookeeper-ready [--quorum] [--admin] PORT` and `zkOk.sh`: prints nothing but wrong usage.
pub fn probe(name: &str, words: &[String]) -> ExitCode {
    let default = if name == "zkOk.sh" { Some(super::client_port()) } else { None };
    let probe = match Probe::parse(words, default) {
        Ok(probe) => probe,
        Err(text) => {
            eprintln!("{name}: {text}");
            return ExitCode::FAILURE;
        }
    };
    if probe.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Probe {
    fn parse(words: &[String], default: Option<Result<u16, String>>) -> Result<Probe, String> {
        let (mut port, mut quorum, mut admin) = (None, false, false);
        for word in words {
            match word.as_str() {
                "--quorum" => quorum = true,
                "--admin" => admin = true,
                "--tls" => {
                    return Err("--tls: this release does not speak TLS, so it cannot ask a TLS \
                                port; ask a plain port, or the AdminServer with --admin"
                        .to_owned());
                }
                word if port.is_none() && !word.starts_with('-') => port = Some(super::port(word)?),
                word => return Err(format!("unexpected '{word}'\n{PROBE_USAGE}")),
            }
        }
        match (port, default) {
            (Some(port), _) => Ok(Probe { port, quorum, admin }),
            (None, Some(port)) => Ok(Probe { port: port?, quorum, admin }),
            (None, None) => Err(format!("PORT is missing\n{PROBE_USAGE}")),
        }
    }

    fn passes(self) -> bool {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let passes = match (self.admin, self.quorum) {
            (true, true) => is_http_ok(server, "/readyz", PROBE_LIMIT),
            (true, false) => is_http_ok(server, "/livez", PROBE_LIMIT),
            (false, true) => four_letter::ask(server, "srvr", PROBE_LIMIT)
                .map(|answer| four_letter::mode(&answer).is_some_and(|mode| mode != READ_ONLY)),
            (false, false) => {
                four_letter::ask(server, "ruok", PROBE_LIMIT).map(|answer| answer.trim() == "imok")
            }
        };
        passes.unwrap_or(false)
    }
}

/// Does `GET path` give status 200? `limit` bounds everything together.
fn is_http_ok(server: SocketAddr, path: &str, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    let mut stream = TcpStream::connect_timeout(&server, limit)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(request.as_bytes())?;
    // `HTTP/1.x 200 `: what follows does not matter.
    let (mut line, mut filled) = ([0; 13], 0);
    while filled < line.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut line[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(line.starts_with(b"HTTP/1.") && line[8..12] == *b" 200")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn verdict(answer: &'static str) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut word = [0; 4];
            stream.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"srvr");
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let verdict = ask("zk:1", address, Duration::from_secs(2)).map_err(|f| f.to_string());
        server.join().unwrap();
        verdict
    }

    #[test]
    fn a_server_is_ready_if_and_only_if_it_names_its_mode() {
        assert_eq!(verdict("Zookeeper version: 1\nMode: follower\n"), Ok("follower".to_owned()));
        assert_eq!(
            verdict("This ZooKeeper instance is not currently serving requests\n"),
            Err("error: not ready: zk:1 runs but does not serve: it has no quorum, or is still \
                 starting"
                .to_owned())
        );
        assert_eq!(
            verdict(""),
            Err("error: not ready: zk:1 closed the connection without an answer: not a ZooKeeper \
                 client port?"
                .to_owned())
        );
    }

    #[test]
    fn a_read_only_server_is_not_ready() {
        assert_eq!(
            verdict("Zookeeper version: 1\nMode: read-only\n"),
            Err("error: not ready: zk:1 is read-only: it has no quorum".to_owned())
        );
    }

    fn probe(words: &[&str]) -> Result<Probe, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        Probe::parse(&words, None)
    }

    /// Is the probe content with a server that gives this answer to this question?
    fn passes(words: &[&str], question: &'static str, answer: &'static str) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; question.len()];
            stream.read_exact(&mut asked).unwrap();
            assert_eq!(String::from_utf8(asked).unwrap(), question);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let port = port.to_string();
        let words: Vec<_> = words.iter().copied().chain([port.as_str()]).collect();
        let passes = probe(&words).unwrap().passes();
        server.join().unwrap();
        passes
    }

    #[test]
    fn a_probe_passes_on_the_right_answer_alone() {
        assert!(passes(&[], "ruok", "imok"));
        assert!(!passes(&[], "ruok", "ruok is not executed because it is not in the whitelist.\n"));
        assert!(!passes(&[], "ruok", ""));
        let quorum = ["--quorum"];
        assert!(passes(&quorum, "srvr", "Mode: follower\n"));
        assert!(passes(&quorum, "srvr", "Mode: standalone\n"));
        assert!(!passes(&quorum, "srvr", "Mode: read-only\n"));
        assert!(!passes(&quorum, "srvr", "This ZooKeeper instance is not currently serving\n"));
    }

    #[test]
    fn a_probe_of_the_admin_port_wants_status_200() {
        let live = "GET /livez HTTP/1.0\r\n";
        assert!(passes(&["--admin"], live, "HTTP/1.0 200 OK\r\n\r\nok"));
        assert!(passes(&["--admin"], live, "HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!passes(&["--admin"], live, "HTTP/1.0 404 Not Found\r\n\r\n"));
        assert!(!passes(&["--admin"], live, "200"));
        let ready = "GET /readyz HTTP/1.0\r\n";
        let quorum = ["--admin", "--quorum"];
        assert!(!passes(&quorum, ready, "HTTP/1.0 503 Service Unavailable\r\n\r\n"));
        assert!(passes(&quorum, ready, "HTTP/1.0 200 OK\r\n\r\n"));
    }

    #[test]
    fn wrong_words_of_a_probe_are_told() {
        assert!(probe(&[]).unwrap_err().starts_with("PORT is missing"));
        assert!(probe(&["x"]).unwrap_err().contains("'x' is not a port"));
        assert!(probe(&["--quorums", "1"]).unwrap_err().starts_with("unexpected '--quorums'"));
        assert!(probe(&["1", "2"]).unwrap_err().starts_with("unexpected '2'"));
        assert!(probe(&["--tls", "2181"]).unwrap_err().contains("does not speak TLS"));
        assert_eq!(
            Probe::parse(&[], Some(Ok(7))),
            Ok(Probe { port: 7, quorum: false, admin: false })
        );
    }

    #[test]
    fn an_absent_server_is_named() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = ask("zk:1", free, Duration::from_secs(1)).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "error: not ready: zk:1 refuses connections: no server runs there"
        );
    }
}
