//! `oxkeeper ready`: the question of a readiness probe.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::failure::Failure;
use crate::{four_letter, servers, time};

const AFTER_HELP: &str = "\
Exit code 0 if the server serves (it is standalone, or a member of a quorum), 1 with a reason if not.

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
    if let Some(mode) = four_letter::mode(&answer) {
        return Ok(mode.to_owned());
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
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
    fn an_absent_server_is_named() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = ask("zk:1", free, Duration::from_secs(1)).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "error: not ready: zk:1 refuses connections: no server runs there"
        );
    }
}
