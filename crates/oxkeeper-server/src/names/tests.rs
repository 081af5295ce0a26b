use super::*;
use tokio::time::sleep;

fn at(host: &str, port: u16) -> HostPort {
    HostPort { host: host.to_owned(), port }
}

#[tokio::test]
async fn the_first_address_that_answers_wins() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dead = at("127.0.0.1", 1);
    let found = connect_any(&[dead, at("localhost", port)], Duration::from_secs(2)).await;
    assert_eq!(found.unwrap().peer_addr().unwrap().port(), port);
}

#[tokio::test]
async fn a_refusal_is_told_at_once() {
    let start = std::time::Instant::now();
    let error = connect_any(&[at("127.0.0.1", 1)], Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(start.elapsed() < Duration::from_secs(1));
}

/// A DNS server on loopback, and files that name it. The search domain is `svc.test`.
struct Dns {
    dir: tempfile::TempDir,
}

impl Dns {
    /// Resolver files always name port 53, so the server's port is put in by the test's own
    /// address: 127.0.0.x, where x is free for each test.
    fn files(&self) -> (std::path::PathBuf, std::path::PathBuf) {
        (self.dir.path().join("hosts"), self.dir.path().join("resolv.conf"))
    }

    fn new(hosts: &str, resolv_conf: &str) -> Dns {
        let dns = Dns { dir: tempfile::tempdir().unwrap() };
        let (hosts_file, resolv_file) = dns.files();
        std::fs::write(hosts_file, hosts).unwrap();
        std::fs::write(resolv_file, resolv_conf).unwrap();
        dns
    }

    async fn resolve(&self, host: &str, limit: Duration) -> io::Result<Vec<SocketAddr>> {
        let (hosts, resolv_conf) = self.files();
        let files = Files { hosts: &hosts, resolv_conf: &resolv_conf };
        resolve_with(&at(host, 9), files, limit).await
    }
}

#[tokio::test]
async fn a_name_in_the_hosts_file_needs_no_dns() {
    let dns = Dns::new("# x\n10.1.2.3 zk-0.zk-hs.test ZK-0 # zk-1\nfd00::3\tzk-0\n", "");
    let found = dns.resolve("zk-0", LIMIT).await.unwrap();
    assert_eq!(found, ["10.1.2.3:9".parse().unwrap(), "[fd00::3]:9".parse().unwrap()]);
    assert_eq!(dns.resolve("zk-0.zk-hs.test.", LIMIT).await.unwrap().len(), 1);
    let error = dns.resolve("zk-1", LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("the name zk-1 does not resolve"), "{error}");
}

#[tokio::test]
async fn localhost_resolves_without_any_file() {
    let files = Files { hosts: Path::new("/nowhere"), resolv_conf: Path::new("/nowhere") };
    let found = resolve_with(&at("localhost", 9), files, LIMIT).await.unwrap();
    assert_eq!(found, ["127.0.0.1:9".parse().unwrap(), "[::1]:9".parse().unwrap()]);
    let error = resolve_with(&at("elsewhere", 9), files, LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere"), "{error}");
}

/// Answers questions for `svc.test` on 127.0.0.53-like addresses at port 53, if this machine lets
/// the test open that port.
fn answer(ip: &str, names: &'static [(&'static str, [u8; 4])]) -> bool {
    let Ok(socket) = std::net::UdpSocket::bind((ip, 53)) else { return false };
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut packet) {
            let (mut at, mut name) = (12, String::new());
            while packet[at] != 0 {
                let label = &packet[at + 1..=at + usize::from(packet[at])];
                name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
                name.push('.');
                at += 1 + label.len();
            }
            let (kind, end) = (packet[at + 2], at + 5);
            assert!(end <= len);
            let known = names.iter().find(|(known, _)| *known == name);
            let hit = known.filter(|_| kind == 1);
            let mut reply = packet[..2].to_vec();
            // A response, recursion available; NXDOMAIN if the name is not known.
            reply.extend([0x81, if known.is_some() { 0x80 } else { 0x83 }, 0, 1, 0]);
            reply.extend([u8::from(hit.is_some()), 0, 0, 0, 0]);
            reply.extend(&packet[12..end]);
            if let Some((_, ip)) = hit {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4]);
                reply.extend(ip);
            }
            let _ = socket.send_to(&reply, from);
        }
    });
    true
}

#[tokio::test]
async fn search_domains_are_tried_and_a_name_that_is_nowhere_is_told_at_once() {
    if !answer("127.0.0.77", &[("zk-1.svc.test.", [10, 0, 0, 7])]) {
        eprintln!("port 53 is not ours: not tested here");
        return;
    }
    let dns = Dns::new("", "nameserver 127.0.0.77\nsearch other.test svc.test\noptions ndots:5\n");
    let start = std::time::Instant::now();
    let found = dns.resolve("zk-1", LIMIT).await.unwrap();
    assert_eq!(found, ["10.0.0.7:9".parse().unwrap()]);
    assert_eq!(dns.resolve("zk-1.svc.test.", LIMIT).await.unwrap().len(), 1);
    let error = dns.resolve("zk-2", LIMIT).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("zk-2"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    // The file is read at each use.
    std::fs::write(dns.files().1, "nameserver 127.0.0.77\n").unwrap();
    assert!(dns.resolve("zk-1", LIMIT).await.is_err());
}

#[tokio::test]
async fn a_silent_dns_server_is_told_within_the_limit() {
    // Holds the port and says nothing; where port 53 is not ours the refusal is told instead.
    let _silent = std::net::UdpSocket::bind("127.0.0.78:53");
    let dns = Dns::new("", "nameserver 127.0.0.78\n");
    let start = std::time::Instant::now();
    let error = dns.resolve("zk-1.svc.test", Duration::from_millis(500)).await.unwrap_err();
    assert!(error.to_string().contains("zk-1.svc.test"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn blocking_resolution_works_on_a_thread_of_a_runtime() {
    assert!(!resolve_blocking(&at("localhost", 1)).unwrap().is_empty());
    let error = resolve_blocking(&at("no-such-host.invalid", 1)).unwrap_err();
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
}

#[test]
fn addresses_parse_with_and_without_brackets() {
    assert_eq!(parse_host_port("h1:3888"), Some(at("h1", 3888)));
    assert_eq!(parse_host_port("[::1]:3888"), Some(at("::1", 3888)));
    assert_eq!(parse_host_port("h1:x"), None);
    assert_eq!(parse_host_port(":1"), None);
}

#[test]
fn wildcards_are_recognized_in_both_families() {
    assert!(is_wildcard("0.0.0.0") && is_wildcard("::") && is_wildcard("::%lo"));
    assert!(!is_wildcard("127.0.0.1") && !is_wildcard("zk1") && !is_wildcard("::1%lo"));
}

#[tokio::test]
async fn names_with_underscores_resolve_wherever_the_underscores_stand() {
    const NAMES: &[(&str, [u8; 4])] = &[
        ("my_stack_zoo_1.", [10, 0, 0, 1]),
        ("_zoo.", [10, 0, 0, 2]),
        ("zoo_.", [10, 0, 0, 3]),
        ("zoo_1.my_net.test.", [10, 0, 0, 4]),
        ("zoo_1.xn--bung-zra.test.", [10, 0, 0, 5]),
    ];
    if !answer("127.0.0.79", NAMES) {
        eprintln!("port 53 is not ours: not tested here");
        return;
    }
    let dns = Dns::new("", "nameserver 127.0.0.79\nsearch other_net.test my_net.test\n");
    for (host, last) in [
        ("my_stack_zoo_1", 1),
        ("my_stack_zoo_1.", 1),
        ("MY_stack_Zoo_1", 1),
        ("_zoo", 2),
        ("zoo_", 3),
        ("zoo_1", 4),
        ("zoo_1.my_net.test", 4),
        ("zoo_1.übung.test", 5),
    ] {
        let found = dns.resolve(host, LIMIT).await;
        assert_eq!(found.unwrap(), [SocketAddr::from(([10, 0, 0, last], 9))], "{host}");
    }
    let error = dns.resolve("zoo_2", LIMIT).await.unwrap_err().to_string();
    assert!(error.contains("the name zoo_2 does not resolve: there is no such name"), "{error}");
}

#[tokio::test]
async fn a_text_that_is_no_host_name_is_told_as_such_and_no_server_is_asked() {
    let dns = Dns::new("", "nameserver 127.0.0.80\n");
    let long = "x".repeat(64);
    let longer = vec!["y".repeat(63); 5].join(".");
    for host in ["zoo 1", "a..b", ".", "-zoo", "zoo!", "zoo\\046", "10.0.0.1%eth0", &long, &longer]
    {
        let start = std::time::Instant::now();
        let error = dns.resolve(host, LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{host}: {error}");
        let text = error.to_string();
        assert!(text.contains(&format!("the name {host} does not resolve: it is no")), "{text}");
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

/// The index of the loopback interface.
fn loopback() -> u32 {
    let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
    index.trim().parse().unwrap()
}

#[tokio::test]
async fn an_ipv6_address_with_a_zone_needs_no_dns() {
    let (dns, lo) =
        (Dns::new("fe80::7%lo zk-7\nfe80::8%nosuch zk-8\nfd00::8 zk-8\n", ""), loopback());
    let expected = |ip: &str, scope| {
        [SocketAddr::V6(std::net::SocketAddrV6::new(ip.parse().unwrap(), 9, 0, scope))]
    };
    for (host, ip, scope) in [
        ("fe80::1%lo", "fe80::1", lo),
        (&format!("fe80::1%{lo}"), "fe80::1", lo),
        ("::1%lo", "::1", lo),
        ("::1%0", "::1", 0),
        ("zk-7", "fe80::7", lo),
        ("zk-8", "fd00::8", 0),
    ] {
        assert_eq!(dns.resolve(host, LIMIT).await.unwrap(), expected(ip, scope), "{host}");
    }
    for (host, zone) in [("fe80::1%nosuch0", "nosuch0"), ("::1%4000000", "4000000"), ("::1%", "")] {
        let text = dns.resolve(host, LIMIT).await.unwrap_err().to_string();
        let expected = format!(
            "the address {host} cannot be used: this machine has no network interface \"{zone}\""
        );
        assert_eq!(text, expected);
    }
    let error = resolve_blocking(&at("fe80::1%nosuch0", 1)).unwrap_err().to_string();
    assert!(error.contains("no network interface \"nosuch0\""), "{error}");
}

#[tokio::test]
async fn a_connection_goes_to_an_address_with_a_zone() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else {
        eprintln!("no IPv6: not tested here");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let address = parse_host_port(&format!("[::1%lo]:{port}")).unwrap();
    assert_eq!(address, at("::1%lo", port));
    assert_eq!(address.to_string(), format!("[::1%lo]:{port}"));
    let found = connect_any(&[address], Duration::from_secs(2)).await;
    assert_eq!(found.unwrap().peer_addr().unwrap().port(), port);
}

/// A port on which nobody answers, not even to refuse: its queue of connections is full.
fn silent(ip: &str) -> (socket2::Socket, Vec<std::net::TcpStream>, u16) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(ip.parse().unwrap(), 0).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    let brief = Duration::from_millis(100);
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, brief) {
        waiting.push(stream);
    }
    (socket, waiting, address.port())
}

#[tokio::test]
async fn a_silent_address_does_not_keep_the_others_from_being_tried_again() {
    let (_silent, _waiting, deaf) = silent("127.0.0.1");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let addresses = [at("127.0.0.1", free), at("127.0.0.1", deaf)];
    let dial = tokio::spawn(async move { connect_any(&addresses, Duration::from_secs(8)).await });
    sleep(Duration::from_millis(500)).await;
    let _listener = tokio::net::TcpListener::bind(("127.0.0.1", free)).await.unwrap();
    let found = timeout(Duration::from_secs(3), dial).await.expect("soon").unwrap().unwrap();
    assert_eq!(found.peer_addr().unwrap().port(), free);
}

#[tokio::test]
async fn a_silent_address_of_a_name_does_not_keep_its_others_from_being_tried_again() {
    let (_silent, _waiting, port) = silent("127.0.0.1");
    let found =
        [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 2], port))];
    let dial = tokio::spawn(async move { dial::connect_first(&found).await });
    sleep(Duration::from_millis(600)).await;
    let _listener = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let stream = timeout(Duration::from_secs(3), dial).await.expect("soon").unwrap().unwrap();
    assert_eq!(stream.peer_addr().unwrap(), found[1]);
}

#[tokio::test]
async fn what_is_wrong_with_each_address_is_told() {
    let (_silent, _waiting, deaf) = silent("127.0.0.1");
    let all = [at("127.0.0.1", 1), at("no-such-host.invalid", 2), at("127.0.0.1", deaf)];
    let start = std::time::Instant::now();
    let error = connect_any(&all[..2], Duration::from_secs(5)).await.unwrap_err().to_string();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(error.contains("127.0.0.1:1: Connection refused"), "{error}");
    assert!(
        error.contains("no-such-host.invalid:2: the name no-such-host.invalid does"),
        "{error}"
    );
    let error = connect_any(&all, Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let error = error.to_string();
    assert!(error.contains("127.0.0.1:1: Connection refused"), "{error}");
    assert!(error.contains(&format!("127.0.0.1:{deaf}: no answer in 500ms")), "{error}");
}
