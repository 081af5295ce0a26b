//! The client port before any session: four-letter words, silent connections, places.
//! Source: `docs/spec/client-protocol.md` 2.2, 2.3, `docs/spec/operations.md` 2.1.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(30);

/// A standalone server's process; killed when the test ends.
struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts it, and waits until it serves.
    fn start(settings: &str) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = dir.path().join("zoo.cfg");
        let data = dir.path().join("data");
        let text = format!(
            "tickTime=2000\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n{settings}",
            data.display()
        );
        fs::write(&file, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_oxkeeper"))
            .arg("server")
            .arg(&file)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Server { child, port, _dir: dir };
        let start = Instant::now();
        while !server.ask(b"srvr").is_ok_and(|text| text.contains("Mode:")) {
            assert!(start.elapsed() < START_LIMIT, "it does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }

    /// The answer to `bytes`, on a connection that this side closes after it.
    fn ask(&self, bytes: &[u8]) -> std::io::Result<String> {
        self.ask_and_stay(bytes).map(|(text, _)| text)
    }

    /// The same; the connection is left open on this side.
    fn ask_and_stay(&self, bytes: &[u8]) -> std::io::Result<(String, TcpStream)> {
        let mut stream = self.connect()?;
        stream.write_all(bytes)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok((text, stream))
    }
}

#[test]
fn an_answered_word_takes_no_place_from_others() {
    let server = Server::start("maxClientCnxns=2\n4lw.commands.whitelist=*\n");
    // They stay open on the client's side.
    let mut answered = Vec::new();
    for round in 0..8 {
        let (text, stream) = server.ask_and_stay(b"ruok").unwrap();
        assert_eq!(text, "imok", "round {round}");
        answered.push(stream);
    }
    let text = server.ask(b"srvr").unwrap();
    assert!(text.contains("\nConnections: 1\n"), "{text}");
    // Without an answer it counts.
    let _silent = [server.connect().unwrap(), server.connect().unwrap()];
    std::thread::sleep(Duration::from_millis(200));
    assert!(server.ask(b"ruok").map_or(true, |text| text.is_empty()));
}

#[test]
fn an_answer_arrives_whole_whatever_else_the_client_has_sent() {
    let server = Server::start("4lw.commands.whitelist=*\n");
    let mut bytes = b"ruok".to_vec();
    bytes.resize(100_000, b'\n');
    assert_eq!(server.ask(&bytes).unwrap(), "imok");
    let mut stream = server.connect().unwrap();
    stream.write_all(b"isro").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "rw");
}

#[test]
fn every_known_word_outside_of_the_whitelist_is_told_so() {
    let server = Server::start("");
    let words =
        "conf cons crst dirs dump envi gtmk hash isro mntr ruok srst stat stmk wchc wchp wchs";
    for word in words.split(' ') {
        let refusal = format!("{word} is not executed because it is not in the whitelist.\n");
        assert_eq!(server.ask(word.as_bytes()).unwrap(), refusal);
    }
    let refusal = "stmk is not executed because it is not in the whitelist.\n";
    assert_eq!(server.ask(b"stmk12345678").unwrap(), refusal);
    let refusal = "telnet close is not executed because it is not in the whitelist.\n";
    assert_eq!(server.ask(b"\xff\xf4\xff\xfd").unwrap(), refusal);
}

#[test]
fn the_trace_mask_is_set_by_eight_bytes_behind_the_word() {
    let server = Server::start("4lw.commands.whitelist=*\n");
    assert_eq!(server.ask(b"stmk\0\0\0\0\0\0\x01\x33").unwrap(), "307");
    assert_eq!(server.ask(b"gtmk").unwrap(), "307");
    assert_eq!(server.ask(b"\xff\xf4\xff\xfd").unwrap(), "");
}

#[test]
fn a_connection_without_a_session_ends_after_one_to_two_of_its_timeouts() {
    let server = Server::start("maxClientCnxns=0\nnio.sessionlessCnxnTimeout=600\n");
    let start = Instant::now();
    let connections: Vec<_> = (0..20u8)
        .map(|n| {
            let mut stream = server.connect().unwrap();
            // Some have sent a part of a word.
            stream.write_all(&b"ruo"[..usize::from(n % 4)]).unwrap();
            stream
        })
        .collect();
    for mut stream in connections {
        assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
        let took = start.elapsed();
        assert!(
            (Duration::from_millis(590)..Duration::from_millis(1700)).contains(&took),
            "{took:?}"
        );
    }
}

#[test]
fn a_fresh_server_has_a_snapshot_and_no_log() {
    let server = Server::start("4lw.commands.whitelist=*\n");
    assert_eq!(server.ask(b"dirs").unwrap(), "datadir_size: 478\nlogdir_size: 478\n");
    let conf = server.ask(b"conf").unwrap();
    assert!(conf.contains("\ndataDirSize=478\n") && conf.contains("\ndataLogSize=478\n"), "{conf}");
}
