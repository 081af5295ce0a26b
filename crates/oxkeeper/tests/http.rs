//! Health and metrics of a standalone server, over its ports.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Server {
    process: Child,
    _data: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const PROMETHEUS: &str = "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.\
                          PrometheusMetricsProvider\nmetricsProvider.httpHost=127.0.0.1";

fn start(client: u16, more: &str) -> Server {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("zoo.cfg");
    let text = format!(
        "dataDir={}\nclientPort={client}\nclientPortAddress=127.0.0.1\n\
         4lw.commands.whitelist=*\nadmin.serverAddress=127.0.0.1\n{more}\n",
        data.path().display()
    );
    std::fs::write(&file, text).unwrap();
    let process = Command::new(env!("CARGO_BIN_EXE_oxkeeper"))
        .arg("server")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Server { process, _data: data }
}

fn exchange(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Status line and body.
fn get(port: u16, path: &str) -> Option<(String, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let text = exchange(port, &request).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

fn wait_until_ready(port: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while get(port, "/readyz").is_none_or(|(status, _)| status != "HTTP/1.1 200 OK") {
        assert!(Instant::now() < deadline, "not ready in time");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Reads the text format strictly; returns the samples with their labels.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let name_is_valid = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    assert!(text.ends_with('\n'));
    let mut families = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let mut lines = text.lines();
    let (mut family, mut kind) = ("", "");
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split_once(' ').expect("a help text").0;
            let rest = lines.next().unwrap().strip_prefix(&format!("# TYPE {family} "));
            kind = rest.expect("a type behind each help");
            assert!(["gauge", "counter", "summary"].contains(&kind), "{line}");
            assert_eq!(families.insert(family, kind), None, "{family} comes twice");
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap();
        let (name, label) = match key.split_once('{') {
            Some((name, label)) => (name, Some(label.strip_suffix(",}").expect("a label's end"))),
            None => (key, None),
        };
        assert!(name_is_valid(name), "{line}");
        let of_family = match kind {
            "summary" => name.strip_prefix(family).is_some_and(|suffix| match suffix {
                "" => label.is_some_and(|label| label.starts_with("quantile=\"")),
                "_count" | "_sum" => label.is_none(),
                _ => false,
            }),
            _ => name == family,
        };
        assert!(of_family, "{line} is not of {kind} {family}");
        let value: f64 = value.parse().expect("a number");
        assert_eq!(samples.insert(key.to_owned(), value), None, "{key} comes twice");
    }
    samples
}

#[test]
fn a_standalone_server_shows_health_and_metrics_until_it_is_told_to_stop() {
    let more = format!("admin.serverPort=21032\n{PROMETHEUS}\nmetricsProvider.httpPort=21033");
    let mut server = start(21031, &more);
    wait_until_ready(21032);
    assert_eq!(get(21032, "/livez").unwrap().1, "ok\n");
    for path in ["/readyz", "/healthz/ready", "/healthz/quorum"] {
        assert_eq!(get(21032, path).unwrap().1, "ready: standalone\n");
    }
    let samples = parse(&get(21033, "/metrics").unwrap().1);
    for name in [
        "znode_count",
        "uptime",
        "num_alive_connections",
        "commit_count",
        "connection_rejected",
        "fsynctime{quantile=\"0.5\",}",
        "fsynctime_sum",
        "election_time_count",
        "readlatency{quantile=\"0.99\",}",
        "quorum_ack_latency_sum",
        "startup_txns_loaded_count",
        "jvm_memory_bytes_used{area=\"heap\",}",
        "jvm_memory_bytes_max{area=\"heap\",}",
        "jvm_threads_current",
        "process_cpu_seconds_total",
    ] {
        assert!(samples.contains_key(name), "{name} is missing");
    }
    assert_eq!(samples["znode_count"], 5.0);
    assert_eq!(samples["approximate_data_size"], 44.0);
    assert_eq!(samples["dbinittime_count"], 1.0);
    assert!(samples["updatelatency{quantile=\"0.5\",}"].is_nan());
    assert!(!samples.contains_key("learners"), "a leader's gauge");

    // A session is made: one write.
    let mut session = TcpStream::connect("127.0.0.1:21031").unwrap();
    let mut connect = vec![0, 0, 0, 44];
    connect.extend([0; 12]);
    connect.extend(10_000i32.to_be_bytes());
    connect.extend([0; 8]);
    connect.extend(16i32.to_be_bytes());
    connect.extend([0; 16]);
    session.write_all(&connect).unwrap();
    session.read_exact(&mut [0; 40]).unwrap();
    let mut get_root = vec![0, 0, 0, 14];
    for word in [1i32, 4, 1] {
        get_root.extend(word.to_be_bytes());
    }
    get_root.extend(*b"/\0");
    session.write_all(&get_root).unwrap();
    session.read_exact(&mut [0; 20]).unwrap();
    // The log thread counts its sync after it has told of it, so the reply may be here first.
    let counted = || parse(&get(21033, "/metrics").unwrap().1);
    let begin = Instant::now();
    while counted()["fsynctime_count"] < 1.0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "no sync is counted");
        std::thread::sleep(Duration::from_millis(5));
    }
    let samples = counted();
    assert_eq!(samples["connection_request_count"], 1.0);
    assert_eq!(samples["global_sessions"], 1.0);
    assert_eq!(samples["readlatency_count"], 1.0);
    assert_eq!(samples["readlatency{quantile=\"0.5\",}"], 0.0);
    assert_eq!(samples["propagation_latency_count"], 1.0);
    assert_eq!(samples["bytes_received_count"], 66.0);
    assert!(samples["response_bytes"] >= 80.0);

    // The same registry, in the forms of this provider.
    let mntr = exchange(21031, "mntr").unwrap();
    for line in ["zk_znode_count\t5.0\n", "zk_readlatency{quantile=\"0.9\"}\t0.0\n"] {
        assert!(mntr.contains(line), "{mntr}");
    }

    let pid = server.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(server.process.wait().unwrap().code(), Some(143));
}

#[test]
fn without_a_provider_mntr_has_the_forms_of_the_default_one() {
    let _server = start(21034, "admin.serverPort=21035");
    wait_until_ready(21035);
    let mntr = exchange(21034, "mntr").unwrap();
    for line in [
        "zk_znode_count\t5\n",
        "zk_commit_count\t0\n",
        "zk_cnt_dbinittime\t1\n",
        "zk_avg_updatelatency\t0.0\n",
        "zk_p999_updatelatency\t0\n",
    ] {
        assert!(mntr.contains(line), "{line} is missing in {mntr}");
    }
    // Everything is an integer, or has at most four decimals.
    for (name, value) in mntr.lines().skip(2).map(|line| line.split_once('\t').unwrap()) {
        let decimals = value.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        assert!(value.parse::<f64>().is_ok() && decimals <= 4, "{name} {value}");
    }
}

#[test]
fn an_unknown_metrics_provider_is_an_invalid_configuration() {
    let mut server = start(21036, "metricsProvider.className=org.example.Nothing");
    assert_eq!(server.process.wait().unwrap().code(), Some(2));
    let mut text = String::new();
    server.process.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("metrics provider class was not found"), "{text}");
}

#[test]
fn nothing_is_open_that_was_not_asked_for() {
    let _server = start(21037, "");
    let deadline = Instant::now() + Duration::from_secs(20);
    while exchange(21037, "ruok").ok().as_deref() != Some("imok") {
        assert!(Instant::now() < deadline, "not started in time");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(TcpStream::connect("127.0.0.1:21038").is_err(), "a port of nobody");
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let sockets = sockets + &std::fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    let inodes: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", _server.process.id()))
        .unwrap()
        .filter_map(|file| std::fs::read_link(file.unwrap().path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.replace(']', "")))
        .collect();
    let listening: Vec<_> = sockets
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(3) == Some(&"0A") && inodes.iter().any(|i| i == fields[9]))
        .map(|fields| fields[1].to_owned())
        .collect();
    assert_eq!(listening, ["0100007F:522D"], "only the client port");
}
