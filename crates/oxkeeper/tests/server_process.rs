//! A server as a process: how it ends, and what it says on stdout and in the termination log.
//! Source: `docs/spec/operations.md` 7.1, 9.1, 9.2, `docs/spec/kubernetes.md` 8.1.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What is promised for a shutdown, and some room for a busy machine.
const END_LIMIT: Duration = Duration::from_secs(8);
const START_LIMIT: Duration = Duration::from_secs(30);

/// A server's process; killed when the test ends.
struct Server {
    child: Child,
    dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server on this zoo.cfg, in which `DIR` stands for its directory.
    fn start(config: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Server {
        Server::start_in(tempfile::tempdir().unwrap(), config, arguments, environment)
    }

    fn start_in(
        dir: tempfile::TempDir,
        config: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Server {
        let file = dir.path().join("zoo.cfg");
        fs::write(&file, config.replace("DIR", dir.path().to_str().unwrap())).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_oxkeeper"))
            .arg("server")
            .args(arguments)
            .arg(&file)
            .env("OXKEEPER_TERMINATION_LOG", dir.path().join("last-word"))
            .env_remove("RUST_LOG")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Server { child, dir }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end: exit code (never a killing signal), and how long it took.
    fn end(&mut self) -> (i32, Duration) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.signal(), None);
                return (status.code().unwrap(), start.elapsed());
            }
            assert!(start.elapsed() < START_LIMIT, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// All of stdout, once the process has ended.
    fn output(&mut self) -> String {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn last_word(&self) -> Option<String> {
        fs::read_to_string(self.dir.path().join("last-word")).ok()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn standalone(port: u16) -> String {
    format!(
        "tickTime=2000\ndataDir=DIR/data\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
         4lw.commands.whitelist=*\n"
    )
}

fn ask(port: u16, word: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(word.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn wait_until_it_serves(port: u16) {
    let start = Instant::now();
    while !ask(port, "srvr").is_ok_and(|text| text.contains("Mode:")) {
        assert!(start.elapsed() < START_LIMIT, "it does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_bad_configuration_ends_with_2_and_a_last_word() {
    let mut server = Server::start("tickTime=x\ndataDir=DIR/data\nclientPort=0\n", &[], &[]);
    assert_eq!(server.end().0, 2);
    let word = server.last_word().unwrap();
    assert!(word.contains("tickTime") && word.ends_with('\n'), "{word:?}");
    assert_eq!(word.lines().count(), 1, "{word:?}");
    let output = server.output();
    assert!(output.contains(" - ERROR [main:QuorumPeerMain@"), "{output}");
    assert!(output.contains("] - Exiting JVM with code 2\n"), "{output}");
}

#[test]
fn a_busy_client_port_is_named_with_who_holds_it() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let mut server = Server::start(&standalone(port), &[], &[]);
    assert_eq!(server.end().0, 1);
    let word = server.last_word().unwrap();
    assert!(word.contains(&format!("cannot open the client port 127.0.0.1:{port}: ")), "{word}");
}

fn ensemble(data: &Path, election_port: u16, retries: u32) -> String {
    fs::create_dir_all(data).unwrap();
    fs::write(data.join("myid"), "1\n").unwrap();
    let (own, client) = (free_port(), free_port());
    format!(
        "tickTime=200\ninitLimit=10\nsyncLimit=5\ndataDir=DIR/data\nclientPort={client}\n\
         clientPortAddress=127.0.0.1\nelectionPortBindRetry={retries}\n\
         server.1=127.0.0.1:{own}:{election_port}\nserver.2=127.0.0.1:1:2\n\
         server.3=no-such-host.invalid:1:2\n"
    )
}

#[test]
fn a_busy_election_port_ends_with_14() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = ensemble(&dir.path().join("data"), held.local_addr().unwrap().port(), 1);
    let mut server = Server::start_in(dir, &config, &[], &[]);
    assert_eq!(server.end().0, 14);
    assert!(server.last_word().unwrap().contains("election port"));
    let output = server.output();
    assert!(output.contains("Starting quorum peer, myid=1"), "{output}");
    assert!(output.contains(" [myid:1] - ERROR ["), "{output}");
    assert!(output.contains("Exiting JVM with code 14"), "{output}");
}

#[test]
fn one_address_of_several_is_enough_to_start_and_the_other_is_told_of_once() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = ensemble(&dir.path().join("data"), port, 1).replace(
        "\nserver.2",
        &format!("|not-yet.invalid:1:{port}\nmultiAddress.enabled=true\nserver.2"),
    );
    let mut server = Server::start_in(dir, &config, &[], &[]);
    std::thread::sleep(Duration::from_millis(3500));
    server.signal(Signal::TERM);
    let code = server.end().0;
    let output = server.output();
    assert_eq!(code, 143, "{output}");
    let told = format!(
        "cannot open the election port not-yet.invalid:{port}: the name not-yet.invalid does not \
         resolve"
    );
    assert_eq!(output.matches(&told).count(), 1, "{output}");
}

#[test]
fn term_ends_the_wait_for_a_busy_election_port() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = ensemble(&dir.path().join("data"), held.local_addr().unwrap().port(), 0);
    let mut server = Server::start_in(dir, &config, &[], &[]);
    std::thread::sleep(Duration::from_millis(1500));
    server.signal(Signal::TERM);
    let (code, took) = server.end();
    assert_eq!(code, 143);
    assert!(took < END_LIMIT, "{took:?}");
    assert!(server.output().contains("trying again"));
}

#[test]
fn a_member_alone_and_with_a_peer_that_does_not_resolve_goes_on_looking() {
    let dir = tempfile::tempdir().unwrap();
    let config = ensemble(&dir.path().join("data"), free_port(), 1);
    let mut server = Server::start_in(dir, &config, &[], &[]);
    std::thread::sleep(Duration::from_secs(3));
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, 143);
    let output = server.output();
    assert!(output.contains("New election. My id = 1, proposed zxid=0x0"), "{output}");
    // Some attempts are told, not each of them.
    for peer in [2, 3] {
        let line = format!("Cannot open channel to {peer} at election address");
        assert_eq!(output.matches(&line).count(), 1, "{output}");
    }
    assert!(server.last_word().is_none());
}

#[test]
fn signals_end_a_server_with_their_code() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let port = free_port();
        let mut server = Server::start(&standalone(port), &[], &[]);
        wait_until_it_serves(port);
        server.signal(signal);
        let (found, took) = server.end();
        assert_eq!(found, code);
        assert!(took < END_LIMIT, "{took:?}");
        assert!(server.output().ends_with(&format!("Exiting JVM with code {code}\n")));
        assert!(server.last_word().is_none(), "a signal is no failure");
    }
}

#[test]
fn quit_dumps_the_state_and_the_server_goes_on() {
    let port = free_port();
    let mut server = Server::start(&standalone(port), &[], &[]);
    wait_until_it_serves(port);
    server.signal(Signal::QUIT);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(ask(port, "ruok").unwrap(), "imok");
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, 143);
    let output = server.output();
    assert!(output.contains("state: znodes "), "{output}");
}

/// A file that nobody writes to stands for a disk that hangs.
#[test]
fn term_ends_a_server_whose_disk_hangs_while_it_starts() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = ensemble(&data, free_port(), 1);
    fs::remove_file(data.join("myid")).unwrap();
    assert!(Command::new("mkfifo").arg(data.join("myid")).status().unwrap().success());
    let mut server = Server::start_in(dir, &config, &[], &[]);
    std::thread::sleep(Duration::from_millis(1000));
    server.signal(Signal::TERM);
    let (code, took) = server.end();
    assert_eq!(code, 143);
    assert!(took < END_LIMIT, "{took:?}");
}

#[test]
fn a_reader_of_stdout_that_stalls_holds_up_neither_service_nor_end() {
    let port = free_port();
    let mut server = Server::start(&standalone(port), &[], &[("OXKEEPER_LOG_COMPAT", "3.4")]);
    wait_until_it_serves(port);
    // More than a pipe holds, three lines each.
    for _ in 0..400 {
        assert_eq!(ask(port, "ruok").unwrap(), "imok");
    }
    server.signal(Signal::TERM);
    let (code, took) = server.end();
    assert_eq!(code, 143);
    assert!(took < END_LIMIT, "{took:?}");
}

#[test]
fn a_four_letter_word_is_told_as_in_3_4_if_that_was_asked_for() {
    for (compat, lines) in [("3.4", 3), ("", 0)] {
        let port = free_port();
        let config = standalone(port);
        let mut server = Server::start(&config, &[], &[("OXKEEPER_LOG_COMPAT", compat)]);
        wait_until_it_serves(port);
        assert_eq!(ask(port, "ruok").unwrap(), "imok");
        std::thread::sleep(Duration::from_millis(300));
        server.signal(Signal::TERM);
        server.end();
        let output = server.output();
        // The lines of that connection, by the client's port: others come and go beside it.
        let told = output.lines().find(|line| line.contains("Processing ruok command"));
        let client = told.and_then(|line| line.split_once("/127.0.0.1:")).map(|(_, port)| port);
        let found: Vec<_> = output
            .lines()
            .filter_map(|line| {
                let (before, behind) = line.split_once("/127.0.0.1:")?;
                behind.starts_with(client?).then_some(before.rsplit_once("] - ")?.1)
            })
            .collect();
        let expected = [
            "Accepted socket connection from ",
            "Processing ruok command from ",
            "Closed socket connection for client ",
        ];
        assert_eq!(found, &expected[..lines], "{output}");
    }
}

#[test]
fn the_log_file_beside_the_configuration_sets_the_level_and_json_is_a_choice() {
    let port = free_port();
    let mut server = Server::start(&standalone(port), &["--log-format", "json"], &[]);
    wait_until_it_serves(port);
    server.signal(Signal::TERM);
    server.end();
    let output = server.output();
    for line in output.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    }
    assert!(output.contains("Exiting JVM with code 143"), "{output}");

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("log4j.properties"), "zookeeper.console.threshold=ERROR\n").unwrap();
    let port = free_port();
    let mut server = Server::start_in(dir, &standalone(port), &[], &[]);
    wait_until_it_serves(port);
    server.signal(Signal::TERM);
    server.end();
    let output = server.output();
    assert_eq!(output.lines().count(), 1, "{output}");
    assert!(output.contains(" [myid:] - ERROR [main:"), "{output}");
}
