//! `oxkeeper metrics`, `zookeeper-metrics`, `zkMetrics.sh`: the answer to `mntr`.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;

use crate::failure::Failure;
use crate::four_letter;

const AFTER_HELP: &str = "\
One line per metric, name and value with a tab between them; the server must allow mntr in its
4lw.commands.whitelist. Without PORT the port is that of ZK_CLIENT_PORT, or 2181.

Examples:
  oxkeeper metrics 2181
  oxkeeper metrics | grep -w zk_outstanding_requests";

const LIMIT: Duration = Duration::from_secs(3);

/// Print the metrics of a server on this machine (answer to mntr)
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct MetricsArgs {
    /// Client port of the server
    port: Option<u16>,
}

/// `oxkeeper metrics [PORT]`
pub fn run(args: &MetricsArgs) -> Result<(), Failure> {
    let port = match args.port {
        Some(port) => port,
        None => super::client_port().map_err(Failure::new)?,
    };
    print(port)
}

/// `zookeeper-metrics PORT`, `zkMetrics.sh`
pub fn script(name: &str, words: &[String]) -> Result<(), Failure> {
    let port = match words {
        [word] => super::port(word),
        [] if name == "zkMetrics.sh" => super::client_port(),
        _ => Err("needs the client port, as in zookeeper-metrics 2181".to_owned()),
    };
    print(port.map_err(|error| Failure::new(format!("{name}: {error}")))?)
}

fn print(port: u16) -> Result<(), Failure> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let answer = four_letter::ask(server, "mntr", LIMIT)
        .map_err(|error| Failure::new(format!("{server} cannot be asked: {error}")))?;
    if answer.is_empty() {
        return Err(Failure::new(format!("{server} closed the connection without an answer")));
    }
    // A reader that has gone away is not our concern.
    let _ = std::io::stdout().lock().write_all(answer.as_bytes());
    Ok(())
}
