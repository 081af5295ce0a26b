//! The endpoints of a server whose database is not loaded yet.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::*;
use crate::config::Invocation;

/// A server that has opened its ports and goes no further.
fn loading(admin: u16, metrics: u16) -> Result<Http, HttpError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("zoo.cfg");
    let text = format!(
        "dataDir={}\nadmin.serverAddress=127.0.0.1\nadmin.serverPort={admin}\n\
         metricsProvider.className=org.apache.zookeeper.metrics.prometheus.\
         PrometheusMetricsProvider\nmetricsProvider.httpHost=127.0.0.1\n\
         metricsProvider.httpPort={metrics}\n",
        dir.path().display()
    );
    std::fs::write(&file, text).unwrap();
    let invocation = Invocation::parse([file.to_str().unwrap()]).unwrap();
    Http::start(&ServerConfig::load(&invocation).unwrap().0)
}

/// Status and whole text of an answer.
fn ask(port: u16, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

#[test]
fn a_loading_server_lives_and_is_not_ready_and_has_metrics() {
    let http = loading(21011, 21012).unwrap();
    for path in ["/livez", "/healthz/live"] {
        let (status, text) = ask(21011, "GET", path);
        assert!(status == 200 && text.ends_with("\r\n\r\nok\n"), "{text}");
    }
    for path in ["/readyz", "/healthz/ready", "/healthz/quorum"] {
        let (status, text) = ask(21011, "GET", path);
        assert_eq!(status, 503);
        assert!(text.ends_with("not ready: loading the database\n"), "{text}");
    }
    let (status, text) = ask(21011, "GET", "/");
    assert!(status == 404 && text.contains("/livez, /readyz"), "{text}");
    assert_eq!(ask(21011, "POST", "/livez").0, 405);
    let (status, text) = ask(21012, "GET", "/metrics");
    assert!(status == 200 && text.contains("\nprocess_open_fds "), "{text}");
    http.stopping();
    assert!(ask(21011, "GET", "/readyz").1.ends_with("not ready: shutting down\n"));
    assert_eq!(ask(21011, "GET", "/livez").0, 200);
}

#[test]
fn the_metrics_port_answers_each_method_as_the_reference_does() {
    let _http = loading(21013, 21014).unwrap();
    for (method, path, status) in [
        ("GET", "/metrics", 200),
        ("POST", "/metrics", 200),
        ("HEAD", "/metrics", 200),
        ("OPTIONS", "/metrics", 200),
        ("TRACE", "/metrics", 403),
        ("DELETE", "/metrics", 405),
        ("GET", "/metrics/", 404),
        ("GET", "/", 404),
    ] {
        assert_eq!(ask(21014, method, path).0, status, "{method} {path}");
    }
    let head = ask(21014, "GET", "/metrics").1.to_ascii_lowercase();
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    let (_, text) = ask(21014, "GET", "/metrics?name[]=process_open_fds");
    let body = text.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(body.lines().filter(|line| !line.starts_with('#')).count(), 1, "{body}");
}

#[test]
fn silent_and_garbled_connections_keep_nobody_out() {
    let _http = loading(21015, 21016).unwrap();
    let _silent: Vec<_> = (0..2 * endpoint::MAX_CONNECTIONS)
        .map(|number| {
            let mut stream = TcpStream::connect("127.0.0.1:21015").unwrap();
            if number % 2 == 0 {
                let _ = stream.write_all(b"\x16\x03\x01 no request \r\n\r\n");
            }
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(ask(21015, "GET", "/livez").0, 200);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_busy_port_names_its_owner_and_has_its_exit_code() {
    let _http = loading(21017, 21018).unwrap();
    let own = format!("in use by process {}", std::process::id());
    let admin = loading(21017, 21019).err().unwrap();
    assert!(admin.exit_code() == 4 && admin.to_string().contains(&own), "{admin}");
    let metrics = loading(21020, 21018).err().unwrap();
    assert!(metrics.exit_code() == 1 && metrics.to_string().contains(&own), "{metrics}");
}
