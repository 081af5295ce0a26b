//! `oxkeeper ensemble`: an ensemble on this machine, one process per server.

mod child;
mod layout;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::child::{Server, why};
use self::layout::Member;
use crate::failure::Failure;
use crate::{four_letter, port_owner};

const AFTER_HELP: &str = "\
Data, configuration and log of server N are in <dir>/serverN. A second start finds them again.
Client ports count up from the base port, quorum ports from 707 above it, election ports from 1707
above it: 2181, 2888, 3888. All servers listen on 127.0.0.1 only.

Examples:
  oxkeeper ensemble
  oxkeeper ensemble --servers 5 --base-port 12181 --dir /tmp/five
  oxkeeper ensemble --servers 1        one server, standalone";

/// How long the servers may take until they serve.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long they may take to end by themselves.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How often children and ports are looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long a server may take to say who it is.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Start an ensemble on this machine, for trying things out
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct EnsembleArgs {
    /// How many servers [default: 3, or as many as are there]
    #[arg(long, value_name = "N", value_parser = servers)]
    servers: Option<usize>,
    /// Client port of the first server [default: 2181, or as it was]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    base_port: Option<u16>,
    /// Where everything is kept
    #[arg(long, default_value = "./oxkeeper-data")]
    dir: PathBuf,
}

fn servers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=layout::MAX_SERVERS).contains(&n) => Ok(n),
        _ => Err(format!("must be a whole number from 1 to {}", layout::MAX_SERVERS)),
    }
}

/// Runs until it is told to end, or until no server is left.
pub fn run(args: &EnsembleArgs) -> Result<(), Failure> {
    let lock = layout::lock(&args.dir)?;
    let members = layout::members(&args.dir, args.servers, args.base_port)?;
    check_ports(&members)?;
    layout::write(&members)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    let result = runtime.block_on(supervise(members, &args.dir));
    drop(lock);
    result
}

/// Names everything that would keep a server from its ports, before any server starts.
fn check_ports(members: &[Member]) -> Result<(), Failure> {
    let mut busy = Vec::new();
    let mut owners = Vec::new();
    for member in members {
        for (port, purpose) in member.ports() {
            let Err(error) = TcpListener::bind(("127.0.0.1", port)) else { continue };
            let what = format!("port {port} ({purpose} of server {})", member.id);
            if error.kind() != std::io::ErrorKind::AddrInUse {
                busy.push(format!("{what} cannot be used: {error}"));
            } else if let Some(owner) = port_owner::find(port) {
                busy.push(format!("{what} is in use by pid {}: {}", owner.pid, owner.command));
                owners.push(owner);
            } else {
                busy.push(format!("{what} is in use, by a process that cannot be seen from here"));
            }
        }
    }
    if busy.is_empty() {
        return Ok(());
    }
    owners.sort_by_key(|owner| owner.pid);
    owners.dedup();
    let mut hint = String::new();
    if !owners.is_empty() {
        let pids: Vec<_> = owners.iter().map(|owner| owner.pid.to_string()).collect();
        let leftover = owners.iter().any(|owner| owner.command.contains("--exit-with-parent"));
        let whose =
            if leftover { "another `oxkeeper ensemble`, running or left over; " } else { "" };
        hint = format!("{whose}to stop it: kill {}\n", pids.join(" "));
    }
    hint.push_str("or use other ports, with data of their own: --base-port 12181 --dir other");
    Err(Failure::new(busy.join("\n")).hint(hint))
}

/// What ends the ensemble from outside: Ctrl-C, TERM, HUP.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> std::io::Result<Stop> {
        Ok(Stop {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

async fn supervise(members: Vec<Member>, dir: &Path) -> Result<(), Failure> {
    // Before the first child, so that no signal can leave one behind.
    let mut stop =
        Stop::new().map_err(|error| Failure::new(format!("cannot watch for signals: {error}")))?;
    let started = Instant::now();
    let mut running = Vec::new();
    for member in members {
        match Server::start(member) {
            Ok(server) => running.push(server),
            Err(failure) => {
                end_all(&mut running, &mut stop).await;
                return Err(failure);
            }
        }
    }
    let served = tokio::select! {
        served = until_serving(&mut running) => served,
        () = stop.asked() => {
            end_all(&mut running, &mut stop).await;
            return Err(Failure::new("interrupted before the servers were serving"));
        }
    };
    let modes = match served {
        Ok(modes) => modes,
        Err(failure) => {
            end_all(&mut running, &mut stop).await;
            return Err(failure);
        }
    };
    print!("{}", welcome(&running, &modes, dir, started.elapsed(), &program()));
    let result = tokio::select! {
        () = until_all_dead(&mut running) => Err(Failure::new("no server is left")),
        () = stop.asked() => Ok(()),
    };
    end_all(&mut running, &mut stop).await;
    if result.is_ok() {
        println!("All servers have ended. The data stays in {}.", dir.display());
    }
    result
}

/// Waits until every server says that it serves; gives their modes.
async fn until_serving(running: &mut [Server]) -> Result<Vec<String>, Failure> {
    let give_up = Instant::now() + START_LIMIT;
    loop {
        if let Some(dead) = first_dead(running) {
            return Err(Failure::new(dead));
        }
        let mut modes = Vec::new();
        let mut silent = Vec::new();
        for server in running.iter() {
            match mode(&server.member).await {
                Ok(mode) => modes.push(mode),
                Err(why) => silent.push(format!("server {} {why}", server.member.id)),
            }
        }
        if silent.is_empty() {
            return Ok(modes);
        }
        if Instant::now() > give_up {
            let logs: String = running
                .iter()
                .map(|server| format!("server {}:\n{}", server.member.id, server.last_lines()))
                .collect();
            return Err(Failure::new(format!(
                "not serving after {} s: {}\n{logs}",
                START_LIMIT.as_secs(),
                silent.join("; ")
            )));
        }
        tokio::time::sleep(TICK).await;
    }
}

fn first_dead(running: &mut [Server]) -> Option<String> {
    let (server, status) =
        running.iter_mut().find_map(|server| server.just_ended().map(|status| (server, status)))?;
    Some(format!(
        "server {} {} before it served. The end of {}:\n{}",
        server.member.id,
        why(status),
        server.member.log().display(),
        server.last_lines().trim_end()
    ))
}

/// The mode of a server, or why it does not serve.
async fn mode(member: &Member) -> Result<String, String> {
    let address = SocketAddr::from(([127, 0, 0, 1], member.client_port));
    let ask = move || four_letter::ask(address, "srvr", ANSWER_LIMIT);
    match tokio::task::spawn_blocking(ask).await {
        Ok(Ok(answer)) => match four_letter::mode(&answer) {
            Some(mode) => Ok(mode.to_owned()),
            None => Err("has no quorum".to_owned()),
        },
        Ok(Err(error)) => Err(format!("cannot be asked ({error})")),
        Err(error) => Err(format!("cannot be asked ({error})")),
    }
}

/// Reports each server that dies; completes with the last one.
async fn until_all_dead(running: &mut [Server]) {
    while running.iter().any(Server::is_running) {
        tokio::time::sleep(TICK).await;
        for at in 0..running.len() {
            let Some(status) = running[at].just_ended() else { continue };
            let left = running.iter().filter(|server| server.is_running()).count();
            eprint!("{}", obituary(&running[at], &why(status), left, running.len()));
        }
    }
}

fn obituary(server: &Server, why: &str, left: usize, all: usize) -> String {
    let quorum = if left > all / 2 { "still a quorum" } else { "no quorum any more" };
    let member = &server.member;
    format!(
        "\nServer {} (pid {}) {why}. The end of {}:\n{}\
         {left} of {all} servers are left: {quorum}. To start it again:\n  {} server {}\n",
        member.id,
        server.pid(),
        member.log().display(),
        server.last_lines(),
        program(),
        member.config().display()
    )
}

/// Ends all servers: politely, and after a while or a second signal with force.
async fn end_all(running: &mut [Server], stop: &mut Stop) {
    for server in running.iter() {
        server.terminate();
    }
    tokio::select! {
        () = until_gone(running) => return,
        () = tokio::time::sleep(STOP_LIMIT) => {}
        () = stop.asked() => {}
    }
    for server in running.iter().filter(|server| server.is_running()) {
        eprintln!("server {} (pid {}) does not end: killed", server.member.id, server.pid());
        server.kill();
    }
    until_gone(running).await;
}

async fn until_gone(running: &mut [Server]) {
    loop {
        for server in running.iter_mut() {
            server.just_ended();
        }
        if !running.iter().any(Server::is_running) {
            return;
        }
        tokio::time::sleep(TICK).await;
    }
}

/// How this program was called, for commands to copy.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "oxkeeper".to_owned())
}

fn welcome(
    running: &[Server],
    modes: &[String],
    dir: &Path,
    took: Duration,
    program: &str,
) -> String {
    let rows: Vec<_> = running
        .iter()
        .zip(modes)
        .map(|(server, mode)| (&server.member, mode.as_str(), server.pid()))
        .collect();
    welcome_text(&rows, dir, took, program)
}

fn welcome_text(
    rows: &[(&Member, &str, u32)],
    dir: &Path,
    took: Duration,
    program: &str,
) -> String {
    let mut text = format!(
        "{} serving after {} ms, data in {}\n\n",
        match rows.len() {
            1 => "One server is".to_owned(),
            n => format!("{n} servers are"),
        },
        took.as_millis(),
        dir.display()
    );
    for (member, mode, pid) in rows {
        text.push_str(&format!(
            "  server {}  {}  {mode:<10}  pid {pid}  log {}\n",
            member.id,
            member.address(),
            member.log().display()
        ));
    }
    let addresses: Vec<_> = rows.iter().map(|(member, ..)| member.address()).collect();
    let connect = addresses.join(",");
    text.push_str(&format!(
        "\nConnect string: {connect}\n\n\
         Now, in another terminal:\n  \
         {program} shell -server {connect}\n  \
         {program} bench --connect {connect} --workload mixed\n  \
         python3 -c \"from kazoo.client import KazooClient as K; z = K('{connect}'); z.start(); \
         z.ensure_path('/hello'); print(z.get_children('/'))\"\n\n\
         Ctrl-C ends all servers; the next start finds the data again.\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_welcome_says_who_leads_and_what_to_type_next() {
        let dir = Path::new("./oxkeeper-data");
        let members = layout::members(Path::new("/nonexistent/x"), Some(2), None).unwrap();
        let rows = [(&members[0], "follower", 11), (&members[1], "leader", 12)];
        let expected = "\
2 servers are serving after 250 ms, data in ./oxkeeper-data

  server 1  127.0.0.1:2181  follower    pid 11  log /nonexistent/x/server1/oxkeeper.log
  server 2  127.0.0.1:2182  leader      pid 12  log /nonexistent/x/server2/oxkeeper.log

Connect string: 127.0.0.1:2181,127.0.0.1:2182

Now, in another terminal:
  oxkeeper shell -server 127.0.0.1:2181,127.0.0.1:2182
  oxkeeper bench --connect 127.0.0.1:2181,127.0.0.1:2182 --workload mixed
  python3 -c \"from kazoo.client import KazooClient as K; z = K('127.0.0.1:2181,127.0.0.1:2182'); z.start(); z.ensure_path('/hello'); print(z.get_children('/'))\"

Ctrl-C ends all servers; the next start finds the data again.
";
        assert_eq!(welcome_text(&rows, dir, Duration::from_millis(250), "oxkeeper"), expected);
    }

    #[test]
    fn a_busy_port_is_named_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // A high port leaves no room for the election ports: then one server is enough.
        let member =
            Member { id: 2, dir: dir.path().to_owned(), client_port: port, peer_ports: None };
        let text = check_ports(&[member]).unwrap_err().to_string();
        let pid = std::process::id();
        let expected =
            format!("error: port {port} (client port of server 2) is in use by pid {pid}: ");
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.contains(&format!("to stop it: kill {pid}\n")), "{text}");
    }
}
