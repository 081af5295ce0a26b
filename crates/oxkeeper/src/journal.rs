//! `oxkeeper journal`: writes that are remembered, and whether the ensemble still has them.
//!
//! `write` makes one numbered znode after another and prints a line for each that was acknowledged;
//! `check` compares such lines with what is there. Between the two, servers are killed, nodes
//! drained, ensembles restarted. Source: `docs/spec/client-protocol.md` 2, 4, 5.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand};
use oxkeeper_proto::client::{
    AclEntry, CreateRequest, PathRequest, ReadRequest, RequestHeader, perms, put_frame,
};
use oxkeeper_proto::ensemble::HostPort;
use oxkeeper_proto::{Decode, Encode, ErrorCode, OpCode};
use oxkeeper_server::names;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use crate::failure::Failure;
use crate::wire::{Login, OpenError, Wire, bad_reply, reply};
use crate::{servers, time};

const AFTER_HELP: &str = "\
Examples:
  oxkeeper journal write --connect zk-cs:2181 --rate 100 > acknowledged
  oxkeeper journal check --connect zk-cs:2181 < acknowledged

`write` prints `ack <number> <ms since 1970>` for every acknowledged write, and
`gap <ms> same-session|new-session <why>` when it is connected again after a loss.
`check` exits with 0 if all of them are there, with 1 and their numbers if not.";

/// Address and handshake of one server may take this long; then the next one is tried.
const OPEN_LIMIT: Duration = Duration::from_secs(2);
/// Pause after a failed attempt to connect.
const BACKOFF: Duration = Duration::from_millis(50);
/// Missing numbers that are listed one by one.
const LISTED: usize = 20;

/// Record acknowledged writes, and check later that none is lost
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct JournalArgs {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Make numbered znodes, one after another, and print those acknowledged, until TERM or Ctrl-C
    Write(WriteArgs),
    /// Read acknowledged writes from standard input and look for each of them
    Check(Target),
}

#[derive(Args, Debug)]
struct WriteArgs {
    #[command(flatten)]
    target: Target,
    /// Writes per second, at most: each waits for the one before
    #[arg(long, default_value_t = 100, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// End after so many acknowledged writes
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

#[derive(Args, Debug)]
struct Target {
    /// Servers, and perhaps a chroot; names are resolved anew for every connection
    #[arg(long, default_value = "127.0.0.1:2181", value_name = "HOST:PORT,…")]
    connect: String,
    /// Parent of the numbered znodes; made if absent
    #[arg(long, default_value = "/journal")]
    path: String,
    /// Session timeout to ask for
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = time::parse)]
    session_timeout: Duration,
    /// How long the first connection, or the whole check, may take
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = time::parse)]
    limit: Duration,
}

/// Runs `journal write` or `journal check`.
pub fn run(args: JournalArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    match args.task {
        Task::Write(args) => runtime.block_on(write_until_told(&args)),
        Task::Check(target) => {
            let acknowledged = acknowledged(io::stdin().lock())?;
            let found = runtime.block_on(found(&target))?;
            verdict(&acknowledged, &found)
        }
    }
}

/// The process may be the first one of a container, which no signal ends by itself.
async fn write_until_told(args: &WriteArgs) -> Result<(), Failure> {
    let no_signals = |error| Failure::new(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    tokio::select! {
        written = write(args, io::stdout()) => written,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Writes number after number; every line is out before the next write begins.
async fn write(args: &WriteArgs, mut out: impl Write) -> Result<(), Failure> {
    let mut client = Client::new(&args.target)?;
    let path = client.path.clone();
    timeout(args.target.limit, client.connect()).await.map_err(|_| client.no_session())?;
    client.make_parents().await?;
    let first = client.numbers().await?.into_iter().max().map_or(0, |last| last + 1);
    let period = Duration::from_secs(1) / args.rate;
    let mut due = Instant::now();
    for number in first..first.saturating_add(args.count.unwrap_or(u64::MAX)) {
        tokio::time::sleep_until(due).await;
        // Time lost is not made up for: a burst after an outage would hide how it recovers.
        due = Instant::now().max(due + period);
        let line = client.write(&format!("{path}/{number}"), number, &mut out).await?;
        told(&mut out, &line)?;
    }
    Ok(())
}

fn told(out: &mut impl Write, line: &str) -> Result<(), Failure> {
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(format!("cannot record an acknowledged write: {error}")))
}

/// One session, kept alive from server to server.
struct Client {
    servers: Vec<HostPort>,
    path: String,
    session_timeout_ms: i32,
    /// A server that is silent for longer is left.
    reply_limit: Duration,
    next: usize,
    wire: Option<Wire>,
    login: Option<Login>,
    xid: i32,
    last_zxid: i64,
    last_error: String,
}

/// What became of one request.
enum Outcome {
    Reply {
        err: i32,
        body: Vec<u8>,
    },
    /// The connection is gone, and nobody knows whether the request was carried out.
    Unknown(String),
}

impl Client {
    fn new(target: &Target) -> Result<Client, Failure> {
        let (list, chroot) = servers::split(&target.connect)?;
        let servers = list.iter().filter_map(|server| names::parse_host_port(server)).collect();
        let path = target.path.as_str();
        if !path.starts_with('/') || path.ends_with('/') || path.contains("//") {
            return Err(Failure::usage(format!("--path '{path}' is not the path of a znode"))
                .hint("write it as /name or /parent/name"));
        }
        let session_timeout_ms = i32::try_from(target.session_timeout.as_millis())
            .map_err(|_| Failure::usage("--session-timeout is longer than 24 days"))?;
        Ok(Client {
            servers,
            path: format!("{chroot}{path}"),
            session_timeout_ms,
            reply_limit: target.session_timeout * 2 / 3,
            next: 0,
            wire: None,
            login: None,
            xid: 0,
            last_zxid: 0,
            last_error: "nothing was tried".to_owned(),
        })
    }

    fn no_session(&self) -> Failure {
        Failure::new(format!("no server gives a session; the last try said {}", self.last_error))
    }

    /// Tries address after address until a session is there; true if it is the old one.
    async fn connect(&mut self) -> bool {
        loop {
            let server = self.servers[self.next % self.servers.len()].clone();
            let resume = self.login.map(|login| (login, self.last_zxid));
            let error = match timeout(OPEN_LIMIT, self.open(&server, resume)).await {
                Ok(Ok((wire, login))) => {
                    (self.wire, self.login) = (Some(wire), Some(login));
                    return resume.is_some();
                }
                Ok(Err(OpenError::Expired)) => {
                    self.login = None;
                    "the session has expired".to_owned()
                }
                Ok(Err(OpenError::Io(error))) => error.to_string(),
                Err(_) => format!("no session within {OPEN_LIMIT:?}"),
            };
            self.last_error = format!("{}:{}: {error}", server.host, server.port);
            self.next += 1;
            sleep(BACKOFF).await;
        }
    }

    /// One address of one server, a different one each time.
    async fn open(
        &self,
        server: &HostPort,
        resume: Option<(Login, i64)>,
    ) -> Result<(Wire, Login), OpenError> {
        let addresses: Vec<SocketAddr> = names::resolve(server).await?;
        let address = addresses[self.next / self.servers.len() % addresses.len()];
        Wire::open(address, self.session_timeout_ms, resume).await
    }

    /// One request and its reply, on the connection there is.
    async fn ask(&mut self, op: OpCode, body: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        self.xid = self.xid.checked_add(1).unwrap_or(1);
        let (xid, limit) = (self.xid, self.reply_limit);
        let Some(wire) = &mut self.wire else {
            return Outcome::Unknown("not connected".to_owned());
        };
        put_frame(wire.out(), |out| {
            RequestHeader { xid, op: op.code() }.encode(out);
            body(out);
        });
        let answer = match timeout(limit, wire.wait_frame()).await {
            Ok(Ok(frame)) => reply(frame).and_then(|(header, body)| match header.xid == xid {
                true => Ok((header, body.to_vec())),
                false => Err(bad_reply(format!("xid {} instead of {xid}", header.xid))),
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("silent for {limit:?}"))),
        };
        match answer {
            Ok((header, body)) => {
                self.last_zxid = self.last_zxid.max(header.zxid);
                Outcome::Reply { err: header.err, body }
            }
            Err(error) => {
                self.wire = None;
                self.next += 1;
                Outcome::Unknown(error.to_string())
            }
        }
    }

    async fn create(&mut self, path: &str, data: &[u8]) -> Outcome {
        self.ask(OpCode::Create, |out| {
            let scheme = Some(Cow::Borrowed("world"));
            let id = Some(Cow::Borrowed("anyone"));
            let acl = Some(vec![AclEntry { perms: perms::ALL, scheme, id }]);
            let path = Cow::Borrowed(path);
            CreateRequest { path, data: Some(data), acl, flags: 0 }.encode(out);
        })
        .await
    }

    async fn make_parents(&mut self) -> Result<(), Failure> {
        let path = self.path.clone();
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
        for end in ends {
            match self.create(&path[..end], b"").await {
                Outcome::Reply { err, .. } if made(err) => {}
                outcome => return Err(refused("create", &path[..end], outcome)),
            }
        }
        Ok(())
    }

    /// Writes one number, again and again until its fate is known; the lines to be told.
    ///
    /// The number is its own identity: if a retry finds the znode there, an earlier try made it.
    async fn write(
        &mut self,
        path: &str,
        number: u64,
        out: &mut impl Write,
    ) -> Result<String, Failure> {
        let data = number.to_string();
        let mut first_try = true;
        loop {
            match self.create(path, data.as_bytes()).await {
                Outcome::Reply { err: 0, .. } => break,
                Outcome::Reply { err, .. } if made(err) && !first_try => break,
                // The session has ended while the connection lasted: the write was not made.
                Outcome::Reply { err, .. } if err == ErrorCode::SessionExpired.code() => {
                    self.wire = None;
                    self.login = None;
                    self.reconnect("the session has expired", out).await?;
                }
                Outcome::Reply { err, .. } if err == ErrorCode::SessionMoved.code() => {
                    self.wire = None;
                    self.reconnect("the session has moved", out).await?;
                }
                Outcome::Unknown(why) => self.reconnect(&why, out).await?,
                outcome => return Err(refused("create", path, outcome)),
            }
            first_try = false;
        }
        Ok(format!("ack {number} {}\n", unix_ms()))
    }

    async fn reconnect(&mut self, why: &str, out: &mut impl Write) -> Result<(), Failure> {
        let since = Instant::now();
        let session = if self.connect().await { "same-session" } else { "new-session" };
        told(out, &format!("gap {} {session} {why}\n", since.elapsed().as_millis()))
    }

    /// The numbers below the path, as of now at the leader.
    async fn numbers(&mut self) -> Result<HashSet<u64>, Failure> {
        let path = self.path.clone();
        let path = Cow::Borrowed(path.as_str());
        let synced = self.ask(OpCode::Sync, |out| PathRequest { path: path.clone() }.encode(out));
        match synced.await {
            Outcome::Reply { err: 0, .. } => {}
            outcome => return Err(refused("sync", &path, outcome)),
        }
        let request = ReadRequest { path: path.clone(), watch: false };
        let body = match self.ask(OpCode::GetChildren, |out| request.encode(out)).await {
            Outcome::Reply { err: 0, body } => body,
            outcome => return Err(refused("getChildren", &path, outcome)),
        };
        let children = Vec::<String>::from_bytes(&body)
            .map_err(|error| Failure::new(bad_reply(error.to_string()).to_string()))?;
        Ok(children.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

/// Is the znode there after this reply to a create?
fn made(err: i32) -> bool {
    err == 0 || err == ErrorCode::NodeExists.code()
}

fn refused(what: &str, path: &str, outcome: Outcome) -> Failure {
    let why = match outcome {
        Outcome::Reply { err, .. } => match ErrorCode::from_code(err) {
            Some(code) => code.to_string(),
            None => format!("error {err}"),
        },
        Outcome::Unknown(why) => why,
    };
    Failure::new(format!("{what} {path}: {why}"))
}

fn unix_ms() -> u128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis())
}

/// The numbers of the `ack` lines.
fn acknowledged(lines: impl BufRead) -> Result<Vec<u64>, Failure> {
    let mut numbers = Vec::new();
    for line in lines.lines() {
        let line = line.map_err(|error| Failure::new(format!("standard input: {error}")))?;
        let mut words = line.split_whitespace();
        if words.next() != Some("ack") {
            continue;
        }
        let number = words.next().and_then(|word| word.parse().ok());
        numbers.push(number.ok_or_else(|| {
            Failure::usage(format!("standard input has no number in the line '{line}'"))
        })?);
    }
    if numbers.is_empty() {
        return Err(Failure::usage("standard input names no acknowledged write")
            .hint("give it the output of `oxkeeper journal write`"));
    }
    Ok(numbers)
}

/// What the ensemble has; connections that break meanwhile are made again within the limit.
async fn found(target: &Target) -> Result<HashSet<u64>, Failure> {
    let mut client = Client::new(target)?;
    let deadline = Instant::now() + target.limit;
    loop {
        let connected = tokio::time::timeout_at(deadline, client.connect()).await;
        connected.map_err(|_| client.no_session())?;
        match client.numbers().await {
            // Only a lost connection takes itself down.
            Err(failure) if client.wire.is_none() && Instant::now() < deadline => {
                client.last_error = failure.what;
            }
            numbers => return numbers,
        }
    }
}

fn verdict(acknowledged: &[u64], found: &HashSet<u64>) -> Result<(), Failure> {
    let missing: Vec<u64> =
        acknowledged.iter().copied().filter(|number| !found.contains(number)).collect();
    println!("{} acknowledged, {} lost", acknowledged.len(), missing.len());
    if missing.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> = missing.iter().take(LISTED).map(u64::to_string).collect();
    let more = if missing.len() > LISTED { ", …" } else { "" };
    Err(Failure::new(format!(
        "{} acknowledged writes are lost: {}{more}",
        missing.len(),
        listed.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use oxkeeper_proto::Reader;
    use oxkeeper_proto::client::{ConnectRequest, ConnectResponse, ReplyHeader};

    use super::*;

    fn receive(stream: &mut TcpStream) -> Vec<u8> {
        let mut len = [0; 4];
        stream.read_exact(&mut len).unwrap();
        let mut body = vec![0; i32::from_be_bytes(len) as usize];
        stream.read_exact(&mut body).unwrap();
        body
    }

    fn send(stream: &mut TcpStream, body: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        put_frame(&mut out, body);
        stream.write_all(&out).unwrap();
    }

    /// Accepts a connection, grants `session`, and returns what session was asked for.
    fn accept(listener: &TcpListener, session: i64) -> (TcpStream, i64) {
        let (mut stream, _) = listener.accept().unwrap();
        let request = receive(&mut stream);
        let asked = ConnectRequest::from_bytes(&request).unwrap().session;
        let timeout_ms = if session == 0 { 0 } else { 10_000 };
        let response =
            ConnectResponse { timeout_ms, session, password: [7; 16], read_only: Some(false) };
        send(&mut stream, |out| response.encode(out));
        (stream, asked)
    }

    /// Receives one request, checks its operation and path, and answers it if told to.
    fn serve(stream: &mut TcpStream, op: OpCode, path: &str, err: Option<i32>) {
        let request = receive(stream);
        let mut reader = Reader::new(&request);
        let header = RequestHeader::decode(&mut reader).unwrap();
        assert_eq!(header.op, op.code());
        assert_eq!(PathRequest::decode(&mut reader).unwrap().path, path);
        let Some(err) = err else { return };
        send(stream, |out| {
            ReplyHeader { xid: header.xid, zxid: 5, err }.encode(out);
            if op == OpCode::GetChildren {
                vec!["4".to_owned(), "x".to_owned()].encode(out);
            }
        });
    }

    /// From the handshake to the first write: the parents, and where the numbers go on.
    fn begin(listener: &TcpListener) -> TcpStream {
        let (mut stream, asked) = accept(listener, 1);
        assert_eq!(asked, 0);
        serve(&mut stream, OpCode::Create, "/a", Some(ErrorCode::NodeExists.code()));
        serve(&mut stream, OpCode::Create, "/a/j", Some(0));
        serve(&mut stream, OpCode::Sync, "/a/j", Some(0));
        serve(&mut stream, OpCode::GetChildren, "/a/j", Some(0));
        stream
    }

    fn args(port: u16, count: u64) -> WriteArgs {
        let target = Target {
            connect: format!("127.0.0.1:{port}/a"),
            path: "/j".to_owned(),
            session_timeout: Duration::from_secs(10),
            limit: Duration::from_secs(5),
        };
        WriteArgs { target, rate: 1000, count: Some(count) }
    }

    /// Runs `write` against the server of `script`; the lines without their times.
    fn lines(
        count: u64,
        script: impl FnOnce(TcpListener) + Send + 'static,
    ) -> Result<Vec<String>, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || script(listener));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut out = Vec::new();
        let written = runtime.block_on(write(&args(port, count), &mut out));
        server.join().unwrap();
        written?;
        let text = String::from_utf8(out).unwrap();
        Ok(text
            .lines()
            .map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
                ["ack", number, _] => format!("ack {number}"),
                ["gap", _, session, ..] => format!("gap {session}"),
                _ => panic!("unknown line {line}"),
            })
            .collect())
    }

    #[test]
    fn a_write_whose_reply_is_lost_is_tried_again_and_counts_once() {
        let told = lines(2, |listener| {
            let mut stream = begin(&listener);
            serve(&mut stream, OpCode::Create, "/a/j/5", Some(0));
            serve(&mut stream, OpCode::Create, "/a/j/6", None);
            drop(stream);
            let (mut stream, asked) = accept(&listener, 1);
            assert_eq!(asked, 1);
            serve(&mut stream, OpCode::Create, "/a/j/6", Some(ErrorCode::NodeExists.code()));
        });
        assert_eq!(told.unwrap(), ["ack 5", "gap same-session", "ack 6"]);
    }

    #[test]
    fn an_expired_session_is_replaced() {
        let told = lines(1, |listener| {
            let mut stream = begin(&listener);
            serve(&mut stream, OpCode::Create, "/a/j/5", None);
            drop(stream);
            let (refused, asked) = accept(&listener, 0);
            assert_eq!(asked, 1);
            drop(refused);
            let (mut stream, asked) = accept(&listener, 2);
            assert_eq!(asked, 0);
            serve(&mut stream, OpCode::Create, "/a/j/5", Some(0));
        });
        assert_eq!(told.unwrap(), ["gap new-session", "ack 5"]);
    }

    #[test]
    fn a_znode_that_somebody_else_made_is_not_acknowledged() {
        let failure = lines(1, |listener| {
            let mut stream = begin(&listener);
            serve(&mut stream, OpCode::Create, "/a/j/5", Some(ErrorCode::NodeExists.code()));
        });
        assert_eq!(failure.unwrap_err().to_string(), "error: create /a/j/5: node exists");
    }

    #[test]
    fn a_missing_number_is_named() {
        let text = "ack 1 10\ngap 3 same-session end of file\nack 2 20\nack 3 30\n";
        let acknowledged = acknowledged(text.as_bytes()).unwrap();
        assert_eq!(acknowledged, [1, 2, 3]);
        assert!(verdict(&acknowledged, &HashSet::from([0, 1, 2, 3, 4])).is_ok());
        let failure = verdict(&acknowledged, &HashSet::from([1, 3])).unwrap_err();
        assert_eq!(failure.to_string(), "error: 1 acknowledged writes are lost: 2");
        assert_eq!(failure.code, 1);
    }

    #[test]
    fn a_check_of_nothing_is_refused() {
        assert_eq!(super::acknowledged(&b"gap 1 same-session x\n"[..]).unwrap_err().code, 2);
        assert_eq!(super::acknowledged(&b"ack x 1\n"[..]).unwrap_err().code, 2);
    }
}
