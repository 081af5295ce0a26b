use super::*;
use crate::config::{Invocation, ServerConfig};
use oxkeeper_proto::Zxid;
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_replica::client::statistics::{Latency, Lengths};
use std::cell::Cell;
use std::net::SocketAddr;

/// A server with what the recorded samples show.
struct Sample {
    serving: bool,
    mode: Mode,
    mask: Cell<i64>,
    config: ServerConfig,
    ensemble: Option<EnsembleConfig>,
}

impl Sample {
    fn new() -> Sample {
        let invocation = Invocation::parse(["12183", "/data", "1000"]).unwrap();
        let config = ServerConfig::load(&invocation).unwrap().0;
        Sample { serving: true, mode: Mode::Leader, mask: Cell::new(306), config, ensemble: None }
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn session() -> ConnectionSession {
    let mut latency = Latency::default();
    [12, 0, 0, 0].into_iter().for_each(|ms| latency.record(ms));
    ConnectionSession {
        id: 0x0100_000e_557a_0002,
        last_operation: "EXIS",
        established_ms: 1_795_451_974_445,
        timeout_ms: 10_000,
        last_cxid: 7,
        last_zxid: Zxid(8),
        last_response_ms: 1_116_063,
        latency,
    }
}

impl ServerView for Sample {
    fn serving(&self) -> bool {
        self.serving
    }

    fn summary(&self) -> Summary {
        Summary {
            latency_min_ms: 0,
            latency_avg_ms: 3.5,
            latency_max_ms: 12,
            received: 15,
            sent: 14,
            connections: 2,
            outstanding: 0,
            zxid: Zxid(0x1_0000_0003),
            mode: self.mode,
            node_count: 7,
            proposal_sizes: (self.mode == Mode::Leader).then_some(Lengths {
                last: 102,
                min: 48,
                max: 102,
            }),
            peer_state: Some("leading - broadcast".to_owned()),
        }
    }

    fn connections(&self) -> Vec<Connection> {
        let connection = |remote: &str, interest, n, session: Option<_>| Connection {
            remote: at(remote),
            interest,
            queued: 0,
            received: n,
            sent: if session.is_some() { n } else { 0 },
            session,
        };
        vec![
            connection("127.0.0.1:50634", 1, 8, Some(session())),
            // Over a socket for both families.
            connection("[::ffff:127.0.0.1]:50656", 0, 1, None),
        ]
    }

    fn conf(&self) -> Conf<'_> {
        let member = self.ensemble.clone().map(|ensemble| Member { ensemble });
        Conf {
            config: &self.config,
            sizes: DirectorySizes { data: 67_109_602, log: 67_109_602 },
            member,
        }
    }

    fn metrics(&self) -> Vec<Metric> {
        let metric = |name: &str, value| Metric { name: name.to_owned(), value };
        vec![
            metric("avg_latency", MetricValue::Real(1.07694)),
            metric("znode_count", MetricValue::Integer(7)),
        ]
    }

    fn dump(&self) -> Dump {
        let expires_ms = 1_795_452_488_000;
        let connection = (at("127.0.0.1:47242"), 0);
        Dump {
            sessions: match self.mode {
                Mode::Follower => Sessions::Known(vec![(0x0100_0018_a961_0000, 4000)]),
                _ => Sessions::Expiring(vec![Bucket {
                    expires_ms,
                    entries: vec![0x0100_0018_a961_0000],
                }]),
            },
            ephemerals: vec![(0x0100_0018_a961_0000, vec!["/app/e-0000000000".to_owned()])],
            connections: vec![
                Bucket { expires_ms, entries: vec![] },
                Bucket { expires_ms: expires_ms + 10_000, entries: vec![connection] },
            ],
        }
    }

    fn watches(&self) -> Watches {
        let session = 0x0100_000e_557a_0002;
        Watches {
            by_session: vec![(session, vec!["/hello".to_owned(), "/nope".to_owned()])],
            by_path: vec![("/hello".to_owned(), vec![session])],
        }
    }

    fn watch_summary(&self) -> WatchSummary {
        WatchSummary { connections: 1, paths: 2, total: 2 }
    }

    fn directory_sizes(&self) -> DirectorySizes {
        DirectorySizes { data: 67_109_358, log: 67_109_358 }
    }

    fn digests(&self) -> Vec<(Zxid, u64)> {
        vec![(Zxid(0x80), 4_387_670_117), (Zxid(0x1_0000_0000), u64::MAX)]
    }

    fn trace_mask(&self) -> i64 {
        self.mask.get()
    }

    fn set_trace_mask(&self, mask: i64) {
        self.mask.set(mask);
    }

    fn reset_server_statistics(&self) {}

    fn reset_connection_statistics(&self) {}
}

fn ask(word: &[u8; 4], sample: &Sample) -> String {
    let word = Word::from_bytes(*word).unwrap();
    answer(word, None, &Whitelist::parse(Some("*")), sample).unwrap()
}

#[test]
fn srvr_of_a_leader() {
    let text = ask(b"srvr", &Sample::new());
    let (version, rest) = text.split_once('\n').unwrap();
    assert!(version.starts_with("Zookeeper version: 3.9.5-oxkeeper-"), "{version}");
    assert!(version.ends_with(" UTC") && version.contains(", built on "), "{version}");
    assert_eq!(
        rest,
        "Latency min/avg/max: 0/3.5/12\nReceived: 15\nSent: 14\nConnections: 2\nOutstanding: 0\n\
         Zxid: 0x100000003\nMode: leader\nNode count: 7\nProposal sizes last/min/max: 102/48/102\n"
    );
}

#[test]
fn srvr_tells_read_only_mode_in_its_second_line() {
    let sample = Sample { mode: Mode::ReadOnly, ..Sample::new() };
    let text = ask(b"srvr", &sample);
    assert_eq!(text.lines().nth(1), Some("READ-ONLY mode; serving only read-only clients"));
    assert!(text.contains("\nMode: read-only\n") && !text.contains("Proposal"));
    assert_eq!(ask(b"isro", &sample), "ro");
    assert_eq!(ask(b"isro", &Sample::new()), "rw");
}

#[test]
fn stat_inserts_the_clients_behind_the_version() {
    let text = ask(b"stat", &Sample::new());
    let (_, rest) = text.split_once('\n').unwrap();
    assert!(
        rest.starts_with(
            "Clients:\n /127.0.0.1:50634[1](queued=0,recved=8,sent=8)\n \
             /127.0.0.1:50656[0](queued=0,recved=1,sent=0)\n\nLatency min/avg/max: 0/3.5/12\n"
        ),
        "{text}"
    );
}

#[test]
fn cons_shows_the_session_and_ends_in_an_empty_line() {
    assert_eq!(
        ask(b"cons", &Sample::new()),
        " /127.0.0.1:50634[1](queued=0,recved=8,sent=8,sid=0x100000e557a0002,lop=EXIS,\
         est=1795451974445,to=10000,lcxid=0x7,lzxid=0x8,lresp=1116063,llat=0,minlat=0,avglat=3,\
         maxlat=12)\n /127.0.0.1:50656[0](queued=0,recved=1,sent=0)\n\n"
    );
}

#[test]
fn conf_of_a_standalone_server_ends_with_its_id() {
    assert_eq!(
        ask(b"conf", &Sample::new()),
        "clientPort=12183\nsecureClientPort=-1\ndataDir=/data/version-2\ndataDirSize=67109602\n\
         dataLogDir=/data/version-2\ndataLogSize=67109602\ntickTime=1000\nmaxClientCnxns=60\n\
         minSessionTimeout=2000\nmaxSessionTimeout=20000\nclientPortListenBacklog=-1\nserverId=0\n"
    );
}

#[test]
fn conf_tells_absolute_directories() {
    let mut sample = Sample::new();
    sample.config.data.data_dir = "./data".into();
    sample.config.data.log_dir = "log".into();
    let here = std::env::current_dir().unwrap();
    let text = ask(b"conf", &sample);
    // As the reference: the working directory in front, nothing resolved.
    for line in [
        format!("dataDir={}/./data/version-2\n", here.display()),
        format!("dataLogDir={}/log/version-2\n", here.display()),
    ] {
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn conf_of_a_member_ends_with_the_configuration_and_no_newline() {
    let dir = tempfile::tempdir().unwrap();
    let members = "server.3=127.0.0.1:12803:12813:participant;127.0.0.1:12183\n\
                   server.4=127.0.0.1:12804:12814:observer;127.0.0.1:12184";
    let text = format!(
        "dataDir={}\ntickTime=1000\ninitLimit=10\nsyncLimit=5\nstandaloneEnabled=false\n{members}\n",
        dir.path().display()
    );
    std::fs::write(dir.path().join("myid"), "3").unwrap();
    let file = dir.path().join("zoo.cfg");
    std::fs::write(&file, text).unwrap();
    let invocation = Invocation::parse([file.to_str().unwrap()]).unwrap();
    let config = ServerConfig::load(&invocation).unwrap().0;
    let mut ensemble = config.quorum.clone().unwrap().ensemble;
    ensemble.version = 0x1_0000_0000;
    let sample = Sample { config, ensemble: Some(ensemble), ..Sample::new() };
    let text = ask(b"conf", &sample);
    let expected = format!(
        "serverId=3\ninitLimit=10\nsyncLimit=5\nelectionAlg=3\nelectionPort=12813\n\
         quorumPort=12803\npeerType=0\nmembership: \n{members}\nversion=100000000"
    );
    assert!(text.ends_with(&expected), "{text}");
    assert!(text.starts_with("clientPort=12183\n"), "{text}");
}

#[test]
fn dump_of_a_leader_and_of_a_follower() {
    let ephemerals_and_connections = "ephemeral nodes dump:\nSessions with Ephemerals (1):\n\
         0x1000018a9610000:\n\t/app/e-0000000000\nConnections dump:\nConnections Sets (2)/(1):\n\
         0 expire at Mon Nov 23 16:48:08 UTC 2026:\n1 expire at Mon Nov 23 16:48:18 UTC 2026:\n\
         \tip: /127.0.0.1:47242 sessionId: 0x0\n";
    assert_eq!(
        ask(b"dump", &Sample::new()),
        format!(
            "SessionTracker dump:\nSession Sets (1)/(1):\n1 expire at Mon Nov 23 16:48:08 UTC \
             2026:\n\t0x1000018a9610000\n{ephemerals_and_connections}"
        )
    );
    let follower = Sample { mode: Mode::Follower, ..Sample::new() };
    assert_eq!(
        ask(b"dump", &follower),
        format!(
            "SessionTracker dump:\nGlobal Sessions(1):\n0x1000018a9610000\t4000ms\n\
             {ephemerals_and_connections}"
        )
    );
}

#[test]
fn watches_three_ways() {
    let sample = Sample::new();
    assert_eq!(ask(b"wchs", &sample), "1 connections watching 2 paths\nTotal watches:2\n");
    assert_eq!(ask(b"wchc", &sample), "0x100000e557a0002\n\t/hello\n\t/nope\n\n");
    assert_eq!(ask(b"wchp", &sample), "/hello\n\t0x100000e557a0002\n\n");
}

#[test]
fn mntr_begins_with_version_and_state() {
    let text = ask(b"mntr", &Sample::new());
    assert!(text.starts_with("zk_version\t3.9.5-oxkeeper-"), "{text}");
    let (_, rest) = text.split_once('\n').unwrap();
    assert_eq!(
        rest,
        "zk_server_state\tleader\nzk_peer_state\tleading - broadcast\nzk_avg_latency\t1.0769\n\
         zk_znode_count\t7\n"
    );
}

#[test]
fn small_words_end_as_the_reference_ends_them() {
    let sample = Sample::new();
    assert_eq!(ask(b"ruok", &sample), "imok");
    assert_eq!(ask(b"gtmk", &sample), "306");
    assert_eq!(ask(b"srst", &sample), "Server stats reset.\n");
    assert_eq!(ask(b"crst", &sample), "Connection stats reset.\n");
    assert_eq!(ask(b"dirs", &sample), "datadir_size: 67109358\nlogdir_size: 67109358\n");
    assert_eq!(ask(b"hash", &sample), "80: 4387670117\n100000000: -1\n");
    let all = Whitelist::parse(Some("*"));
    assert_eq!(answer(Word::Stmk, None, &all, &sample), None);
    assert_eq!(answer(Word::Stmk, Some(5), &all, &sample).as_deref(), Some("5"));
    assert_eq!(ask(b"gtmk", &sample), "5");
    assert_eq!(answer(Word::TelnetClose, None, &all, &sample), None);
    // As the reference does.
    let refused = answer(Word::TelnetClose, None, &Whitelist::default(), &sample).unwrap();
    assert!(refused.starts_with("telnet close is not executed"), "{refused}");
}

#[test]
fn envi_tells_the_version_that_kazoo_parses() {
    let text = ask(b"envi", &Sample::new());
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("Environment:"));
    assert!(lines.next().unwrap().starts_with("zookeeper.version=3.9.5-oxkeeper-"));
    let keys: Vec<_> = lines.map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(
        keys,
        [
            "host.name",
            "java.version",
            "java.vendor",
            "java.home",
            "java.class.path",
            "java.library.path",
            "java.io.tmpdir",
            "java.compiler",
            "os.name",
            "os.arch",
            "os.version",
            "user.name",
            "user.home",
            "user.dir",
            "os.memory.free",
            "os.memory.max",
            "os.memory.total"
        ]
    );
    for line in text.lines().filter(|line| line.starts_with("os.memory.")) {
        let size = line.split_once('=').and_then(|(_, size)| size.strip_suffix("MB"));
        assert!(size.is_some_and(|size| size.parse::<u64>().is_ok_and(|size| size > 0)), "{line}");
    }
}

#[test]
fn only_srvr_is_allowed_without_a_setting() {
    let sample = Sample::new();
    let refused = |setting: Option<&str>, word: Word| {
        let reply = answer(word, None, &Whitelist::parse(setting), &sample).unwrap();
        let expected =
            format!("{} is not executed because it is not in the whitelist.\n", word.name());
        reply == expected
    };
    assert!(!refused(None, Word::Srvr) && refused(None, Word::Ruok));
    assert!(!refused(Some(""), Word::Srvr) && refused(Some(""), Word::Mntr));
    let some = Some(" ruok, mntr ,nonsense");
    assert!(!refused(some, Word::Ruok) && !refused(some, Word::Mntr) && refused(some, Word::Conf));
    assert!(!refused(Some("a, *"), Word::Wchp));
}

#[test]
fn a_server_that_does_not_serve_still_says_that_it_lives() {
    let sample = Sample { serving: false, ..Sample::new() };
    let sentence = "This ZooKeeper instance is not currently serving requests";
    assert_eq!(ask(b"ruok", &sample), "imok");
    assert_eq!(ask(b"isro", &sample), "null");
    assert_eq!(ask(b"hash", &sample), sentence);
    assert!(ask(b"envi", &sample).starts_with("Environment:\n"));
    assert_eq!(ask(b"gtmk", &sample), "306");
    for word in [b"srvr", b"stat", b"mntr", b"conf", b"cons", b"dump", b"dirs", b"srst", b"wchs"] {
        assert_eq!(ask(word, &sample), format!("{sentence}\n"));
    }
}

#[test]
fn words_are_lower_case_and_numbers_print_as_the_reference_prints_them() {
    assert_eq!(Word::from_bytes(*b"RUOK"), None);
    assert_eq!(Word::from_bytes(*b"ruok"), Some(Word::Ruok));
    assert_eq!(Word::from_bytes([0xff, 0xf4, 0xff, 0xfd]), Some(Word::TelnetClose));
    for (ms, text) in [
        (0, "Thu Jan 01 00:00:00 UTC 1970"),
        (951_782_400_000, "Tue Feb 29 00:00:00 UTC 2000"),
        (1_795_452_488_999, "Mon Nov 23 16:48:08 UTC 2026"),
        (4_102_444_799_000, "Thu Dec 31 23:59:59 UTC 2099"),
    ] {
        assert_eq!(format::date(ms), text);
    }
}
