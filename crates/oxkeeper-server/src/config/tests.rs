use super::*;
use oxkeeper_proto::ensemble::Role;
use oxkeeper_proto::jute::DEFAULT_MAX_BUFFER;
use oxkeeper_storage::Compression;
use std::path::PathBuf;

/// A directory with a zoo.cfg, a data directory and perhaps a `myid`.
struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    /// `@` in the text stands for the data directory.
    fn new(text: &str, my_id: Option<&str>) -> Lab {
        let lab = Lab { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(lab.data()).unwrap();
        if let Some(id) = my_id {
            fs::write(lab.data().join("myid"), id).unwrap();
        }
        let text = text.replace('@', lab.data().to_str().unwrap());
        fs::write(lab.file(), text).unwrap();
        lab
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("zoo.cfg")
    }

    fn load(&self, flags: &[&str]) -> Result<(ServerConfig, Vec<Warning>), LoadError> {
        let file = self.file().to_str().unwrap().to_owned();
        let words = flags.iter().map(|flag| (*flag).to_owned()).chain([file]);
        ServerConfig::load(&Invocation::parse(words).unwrap())
    }
}

fn load(text: &str) -> (ServerConfig, Vec<Warning>) {
    Lab::new(text, None).load(&[]).unwrap()
}

/// The error's text from the file's name on, and its exit code.
fn fails(text: &str, my_id: Option<&str>) -> (String, i32) {
    let lab = Lab::new(text, my_id);
    let error = lab.load(&[]).unwrap_err();
    let dir = format!("{}/", lab.dir.path().display());
    (error.to_string().replace(&dir, ""), error.exit_code())
}

fn assert_fails(text: &str, my_id: Option<&str>, code: i32, parts: &[&str]) {
    let (error, found) = fails(text, my_id);
    for part in parts {
        assert!(error.contains(part), "{text:?}: {error:?} lacks {part:?}");
    }
    assert_eq!(found, code, "{error}");
}

fn texts(warnings: &[Warning]) -> Vec<&str> {
    warnings.iter().map(|warning| warning.text.as_str()).collect()
}

const THREE: &str = "dataDir=@\ntickTime=2000\ninitLimit=10\nsyncLimit=5\nclientPort=2181\n\
                     server.1=zk1:2888:3888\nserver.2=zk2:2888:3888\nserver.3=zk3:2888:3888\n";

#[test]
fn a_small_file_makes_a_standalone_server_with_the_references_defaults() {
    let (config, warnings) = load("dataDir=@\nclientPort=2181\n");
    assert!(config.quorum.is_none());
    assert_eq!(config.server_id(), 0);
    assert_eq!(config.client.unwrap().to_string(), "0.0.0.0:2181");
    assert_eq!((config.tick_ms, config.client_backlog), (3000, -1));
    assert_eq!((config.min_session_timeout_ms, config.max_session_timeout_ms), (6000, 60000));
    assert_eq!(config.data.log_dir, config.data.data_dir);
    assert_eq!(config.clients.max_per_address, 60);
    assert_eq!(config.clients.max_buffer, 1_048_575);
    assert_eq!(config.storage.snap_count, 100_000);
    assert!(config.storage.force_sync && config.storage.digests);
    let expected = "Either no config or no quorum defined in config, running in standalone mode";
    assert_eq!(texts(&warnings), [expected]);
}

#[test]
fn three_servers_make_an_ensemble() {
    let (config, warnings) = Lab::new(THREE, Some("2\n")).load(&[]).unwrap();
    let quorum = config.quorum.clone().unwrap();
    assert_eq!((quorum.me, quorum.role), (2, Role::Participant));
    assert_eq!((quorum.init_limit, quorum.sync_limit, quorum.connect_limit), (10, 5, 10));
    assert_eq!(quorum.election_handshake_ms, 10_000);
    assert_eq!((quorum.election_connect_ms, quorum.election_bind_retries), (5000, 3));
    assert_eq!(quorum.ensemble.voters().count(), 3);
    assert_eq!(config.server_id(), 2);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn the_short_form_needs_no_file() {
    let invocation = Invocation::parse(["2181", "/tmp/data", "1500", "5"]).unwrap();
    let (config, _) = ServerConfig::load(&invocation).unwrap();
    assert_eq!(config.client.unwrap().port, 2181);
    assert_eq!((config.tick_ms, config.clients.max_per_address), (1500, 5));
    assert_eq!(config.data.data_dir, PathBuf::from("/tmp/data"));
    let invocation = Invocation::parse(["port", "/tmp/data"]).unwrap();
    let error = ServerConfig::load(&invocation).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().starts_with("argument clientPort: "), "{error}");
}

#[test]
fn the_file_wins_over_process_properties() {
    let lab = Lab::new("dataDir=@\nsnapCount=7\nznode.container.maxPerMinute=9\n", None);
    let flags =
        ["-Dzookeeper.snapCount=5", "-Dzookeeper.commitLogCount=900", "-Djute.maxbuffer=4194304"];
    let (config, _) = lab.load(&flags).unwrap();
    assert_eq!(config.storage.snap_count, 7);
    assert_eq!(config.storage.commit_log_count, 900);
    assert_eq!(config.clients.max_buffer, 4_194_304);
    assert_eq!(config.max_record(), 2 * 4_194_304);
    assert_eq!(config.rules.container_max_per_minute, 9);
}

#[test]
fn numbers_among_properties_are_read_as_java_decodes_them() {
    let max_buffer = |text: &str| {
        let flag = format!("-Djute.maxbuffer={text}");
        let (config, warnings) = Lab::new("dataDir=@\n", None).load(&[&flag]).unwrap();
        let warned = warnings.iter().any(|warning| {
            warning.text.contains("jute.maxbuffer") && warning.text.contains(&format!("\"{text}\""))
        });
        (config.clients.max_buffer, warned)
    };
    for (text, number) in [
        ("0x9fffff", 0x9f_ffff),
        ("0X9FFFFF", 0x9f_ffff),
        ("#9fffff", 0x9f_ffff),
        ("+0x10", 16),
        ("010", 8),
        ("4194304", 4_194_304),
    ] {
        assert_eq!(max_buffer(text), (number, false), "{text}");
    }
    // Where Java keeps the default, so do we, and say it.
    for text in ["4M", "0x", "#", "", "08", "0x-1", "--1", "1_000", "10 000", "2147483648", "-1"] {
        assert_eq!(max_buffer(text), (DEFAULT_MAX_BUFFER, true), "{text}");
    }
    let lab = Lab::new("dataDir=@\nsnapCount=0x10\ntxnLogSizeLimitInKb=0x100000000\n", None);
    let (config, _) = lab.load(&["-Dzookeeper.globalOutstandingLimit=#20"]).unwrap();
    assert_eq!(config.storage.snap_count, 16);
    assert_eq!(config.storage.log_size_limit_kib, Some(0x1_0000_0000));
    assert_eq!(config.clients.global_outstanding, 32);
}

#[test]
fn numbers_that_the_reference_reads_as_decimals_stay_so() {
    let text = "dataDir=@\npreAllocSize=0x100\ncommitLogCount=0x1000\ncnxTimeout=010\n";
    let (config, warnings) = load(text);
    assert_eq!(config.storage.preallocate_kib, 65536);
    assert_eq!(config.storage.commit_log_count, 500);
    let found = texts(&warnings);
    for part in ["line 2: preAllocSize", "line 3: commitLogCount"] {
        assert!(found.iter().any(|text| text.contains(part)), "{part}: {found:#?}");
    }
    let members = format!("{THREE}cnxTimeout=010\n");
    let (config, _) = Lab::new(&members, Some("1")).load(&[]).unwrap();
    assert_eq!(config.quorum.unwrap().election_connect_ms, 10);
    assert_fails("dataDir=@\ntickTime=0x10\n", None, 2, &["zoo.cfg line 2: ", "\"0x10\""]);
}

#[test]
fn the_limit_of_a_slow_fsync_is_heard_with_and_without_its_prefix() {
    let limit = |flag: &str| {
        Lab::new("dataDir=@\n", None).load(&[flag]).unwrap().0.storage.fsync_warning_ms
    };
    assert_eq!(limit("-Dfsync.warningthresholdms=20"), 20);
    assert_eq!(limit("-Dzookeeper.fsync.warningthresholdms=30"), 30);
}

#[test]
fn wrong_values_are_named_with_file_and_line() {
    for (line, parts) in [
        ("tickTime=soon", ["For input string: \"soon\"", "tickTime"]),
        ("tickTime=0", ["tickTime is not set", "tickTime=2000"]),
        ("tickTime=-5", ["tickTime is negative", ""]),
        ("clientPort=70000", ["port out of range", "1 to 65535"]),
        ("maxClientCnxns=1 0", ["For input string: \"1 0\"", ""]),
        ("quorumListenOnAllIPs=yes", ["Choose 'true' or 'false.'", "quorumListenOnAllIPs"]),
        ("standaloneEnabled=no", ["Invalid option no for standaloneEnabled", ""]),
        ("clientPortAddress=h", ["clientPortAddress is set but clientPort is not set", ""]),
        ("secureClientPortAddress=h", ["secureClientPort is not set", ""]),
        ("electionAlg=1", ["Only 3 is supported", ""]),
        ("peerType=boss", ["Unrecognised peertype: boss", ""]),
        ("minSessionTimeout=99000", ["must not be larger", "99000 and 60000 ms"]),
        ("server.1=zk1:2888", ["server.1: zk1:2888 does not have the form", "server.N=host"]),
        ("server.x=zk1:2888:3888", ["server.x is not a number", "whole numbers"]),
        ("server.1=zk1:2888:2888", ["must be different", ""]),
        ("server.1=zk1:2888:x", ["Address unresolved: zk1:x", ""]),
        ("server.1=zk1:2888:3888:boss", ["Unrecognised peertype: boss", ""]),
        ("server.1=a:1:2|b:1:2", ["Multiple address feature is disabled", ""]),
        ("quorum.auth.learnerRequireSasl=true", ["enableSasl is disabled", ""]),
        ("x=\\u12", ["Malformed", ""]),
    ] {
        let text = format!("dataDir=@\n# a comment\n{line}\n");
        assert_fails(&text, None, 2, &["zoo.cfg line 3: ", parts[0], parts[1]]);
    }
}

#[test]
fn missing_settings_are_named() {
    assert_fails("clientPort=2181\n", None, 2, &["zoo.cfg: dataDir is not set"]);
    let without = |key: &str| {
        let kept = THREE.lines().filter(|line| !line.starts_with(key));
        kept.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_fails(&without("initLimit"), Some("1"), 2, &["zoo.cfg: initLimit is not set"]);
    assert_fails(&without("syncLimit"), Some("1"), 2, &["zoo.cfg: syncLimit is not set"]);
    let missing = Invocation::parse(["/nowhere/zoo.cfg"]).unwrap();
    let error = ServerConfig::load(&missing).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("/nowhere/zoo.cfg"), "{error}");
}

#[test]
fn the_own_id_must_be_a_number_and_a_members() {
    assert_fails(THREE, None, 2, &["data/myid: myid file is missing", "echo 1 > myid"]);
    assert_fails(THREE, Some("one\n2"), 2, &["data/myid: serverid one is not a number"]);
    assert_fails(THREE, Some("4"), 1, &["My id 4 not in the peer list", "servers 1, 2, 3"]);
    let (config, _) = Lab::new(THREE, Some("3\nsecond line")).load(&[]).unwrap();
    assert_eq!(config.server_id(), 3);
}

#[test]
fn servers_named_twice_or_sharing_an_address_are_refused() {
    let twice = format!("{THREE}server.02=zk4:2888:3888\n");
    assert_fails(&twice, Some("1"), 2, &["zoo.cfg line 9: ", "server.2", "lines 7 and 9"]);
    let shared = format!("{THREE}server.4=ZK1:9999:3888\n");
    let parts = ["zoo.cfg line 9: ", "server.4 has the address ZK1:3888", "server.1", "line 6"];
    assert_fails(&shared, Some("1"), 2, &parts);
}

#[test]
fn numbers_of_servers_are_judged_as_the_reference_does() {
    let base = "dataDir=@\ninitLimit=5\nsyncLimit=2\n";
    let observers = format!("{base}server.1=a:1:2:observer\n");
    assert_fails(&observers, Some("1"), 2, &["Observers w/o participants"]);
    let one = format!("{base}server.1=a:1:2\nserver.2=b:1:2:observer\n");
    assert_fails(&one, Some("1"), 2, &["Observers w/o quorum"]);
    let none = format!("{base}standaloneEnabled=false\n");
    assert_fails(&none, Some("1"), 2, &["number of participants should be >0"]);

    let check = |text: String, distributed: bool, level: Level, part: &str| {
        let (config, warnings) = Lab::new(&text, Some("1")).load(&[]).unwrap();
        assert_eq!(config.quorum.is_some(), distributed, "{text}");
        let found = warnings.iter().find(|warning| warning.text.contains(part));
        assert_eq!(found.unwrap_or_else(|| panic!("{warnings:?}")).level, level);
    };
    let single = format!("{base}server.1=a:1:2\n");
    check(single.clone(), false, Level::Error, "only one server specified");
    let alone = format!("{single}standaloneEnabled=false\n");
    check(alone, true, Level::Warn, "No server failure will be tolerated");
    let two = format!("{single}server.2=b:1:2\n");
    check(two.clone(), true, Level::Warn, "at least 3 servers");
    let four = format!("{two}server.3=c:1:2\nserver.4=d:1:2\n");
    check(four, true, Level::Warn, "odd number");
}

#[test]
fn roles_come_from_the_list_and_groups_must_be_complete() {
    let text = format!("{THREE}server.4=zk4:2888:3888:observer\npeerType=participant\n");
    let (config, warnings) = Lab::new(&text, Some("4")).load(&[]).unwrap();
    assert_eq!(config.quorum.unwrap().role, Role::Observer);
    let warned = texts(&warnings);
    assert!(warned.iter().any(|text| text.contains("Defaulting to servers list")), "{warned:?}");

    let groups = format!("{THREE}group.1=1:2\nweight.1=2\n");
    assert_fails(&groups, Some("1"), 2, &["Server 3 is not in a group"]);
    let groups = format!("{THREE}group.1=1:2\ngroup.2=2:3\n");
    assert_fails(&groups, Some("1"), 2, &["Server 2 is in multiple groups"]);
}

#[test]
fn the_client_address_of_the_own_line_counts_and_must_not_disagree() {
    let text = |clients: &str| {
        let rest: String = THREE.replace("clientPort=2181\n", "");
        format!("{clients}\n{}", rest.replace("zk1:2888:3888", "zk1:2888:3888;127.0.0.1:2199"))
    };
    let (config, _) = Lab::new(&text(""), Some("1")).load(&[]).unwrap();
    assert_eq!(config.client.unwrap().to_string(), "127.0.0.1:2199");
    let (config, _) = Lab::new(&text("clientPort=2199"), Some("1")).load(&[]).unwrap();
    assert_eq!(config.client.unwrap().to_string(), "127.0.0.1:2199");
    let parts = ["zoo.cfg line 6", "is 0.0.0.0:2181 is different", "127.0.0.1:2199"];
    assert_fails(&text("clientPort=2181"), Some("1"), 2, &parts);
    let (config, _) = Lab::new(&text("clientPort=2181"), Some("2")).load(&[]).unwrap();
    assert_eq!(config.client.unwrap().port, 2181);
}

#[test]
fn the_same_ipv6_address_may_be_written_in_two_ways() {
    let text = |own: &str, fixed: &str| {
        let line = format!("zk1:2888:3888;[{own}]:2181");
        format!("clientPortAddress=[{fixed}]\n{}", THREE.replace("zk1:2888:3888", &line))
    };
    let long = "fe80:0:0:0:0:0:0:1%eth0";
    let (config, _) = Lab::new(&text(long, "fe80::1%eth0"), Some("1")).load(&[]).unwrap();
    assert_eq!(config.client.unwrap().to_string(), format!("[{long}]:2181"));
    let parts = ["is [fe80::1%eth1]:2181 is different", long];
    assert_fails(&text(long, "fe80::1%eth1"), Some("1"), 2, &parts);
    let twice = THREE.replace("zk1:2888", "[::1]:2888").replace("zk2:2888", "[0::1]:2888");
    assert_fails(&twice, Some("1"), 2, &["server.2 has the address", "which server.1"]);
}

#[test]
fn a_dynamic_file_holds_the_members_and_its_name_the_version() {
    let rest = "initLimit=5\nsyncLimit=2\nclientPort=2181\n";
    let members = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\n";
    let load = |dynamic: &str, more: &str| {
        let lab = Lab::new("", Some("1"));
        let file = lab.dir.path().join("zoo.cfg.dynamic.10000000a");
        fs::write(&file, dynamic).unwrap();
        let data = lab.data();
        let text = format!(
            "dataDir={}\n{rest}{more}dynamicConfigFile={}\n",
            data.display(),
            file.display()
        );
        fs::write(lab.file(), text).unwrap();
        lab.load(&[]).map_err(|error| error.to_string())
    };
    let (config, _) = load(members, "").unwrap();
    assert_eq!(config.quorum.unwrap().ensemble.version, 0x1_0000_000a);
    let error = load("version=1\n", "").unwrap_err();
    assert!(error.contains("dynamic.10000000a line 1: dynamic file shouldn't"), "{error}");
    let error = load("tickTime=1\n", "").unwrap_err();
    assert!(error.contains("Unrecognised parameter: tickTime"), "{error}");
    let error = load(members, "server.4=d:1:2\n").unwrap_err();
    assert!(error.contains("must be in a separate dynamic config file"), "{error}");
}

#[test]
fn several_addresses_need_the_switch_which_may_stand_in_the_file() {
    let text = THREE.replace("zk1:2888:3888", "zk1:2888:3888|zk9:2888:3888");
    let (config, _) =
        Lab::new(&format!("{text}multiAddress.enabled=true\n"), Some("1")).load(&[]).unwrap();
    assert!(config.quorum.unwrap().multi_address);
}

#[test]
fn unknown_and_unsupported_keys_warn_once_and_do_not_stop_the_start() {
    let text = "dataDir=@\nautopurge.purgeInteval=1\nzookeeper.snapCount=5\nadmin.commandURL=8081\n\
                reconfigEnabled=false\nreconfigEnabled=true\nnio.numWorkerThreads=4\n";
    let lab = Lab::new(text, None);
    let (_, warnings) = lab.load(&["-Dzookeeper.nonsense=1", "-Dfile.encoding=UTF-8"]).unwrap();
    let found = texts(&warnings);
    let once = |part: &str| {
        let count = found.iter().filter(|text| text.contains(part)).count();
        assert_eq!(count, 1, "{part}: {found:#?}");
    };
    once("line 2: unknown key autopurge.purgeInteval");
    once(
        "line 3: unknown key zookeeper.snapCount is ignored; in a file the key is written snapCount",
    );
    once("line 4: not supported yet: admin.commandURL is ignored");
    once("line 6: reconfigEnabled was set in");
    once("line 6: not supported yet: reconfigEnabled");
    once("line 7: nio.numWorkerThreads has no effect");
    once("-Dzookeeper.nonsense: unknown key nonsense");
    assert!(!found.iter().any(|text| text.contains("file.encoding")));
}

#[test]
fn keys_of_the_reference_are_no_misspellings() {
    let text = "dataDir=@\nclientPort=2181\nrequireClientAuthScheme=sasl\njaasLoginRenew=3600000\n\
                SASLAuthenticationProvider.superPassword=x\nsecurity.auth_to_local=DEFAULT\n";
    let flags = [
        "-Dzookeeper.client.secure=true",
        "-Dzookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty",
        "-Dzookeeper.sasl.client=true",
        "-Dzookeeper.server.principal=zookeeper/host",
        "-Dzookeeper.jmx.log4j.disable=true",
        "-Dzookeeper.requireKerberosConfig=true",
        "-Dzookeeper.kinit=/usr/bin/kinit",
        "-Dzookeeper.request.timeout=5000",
    ];
    let (_, warnings) = Lab::new(text, None).load(&flags).unwrap();
    let found = texts(&warnings);
    assert!(!found.iter().any(|text| text.contains("unknown key")), "{found:#?}");
    let level = |part: &str| {
        let about = |warning: &&Warning| warning.text.contains(part);
        warnings.iter().find(about).unwrap_or_else(|| panic!("{part}: {found:#?}")).level
    };
    // What people write to be protected, and is not.
    assert_eq!(level("requireClientAuthScheme"), Level::Error);
    assert_eq!(level("SASLAuthenticationProvider.superPassword"), Level::Error);
    assert_eq!(level("client.secure is for clients"), Level::Info);
    assert_eq!(level("jaasLoginRenew"), Level::Warn);
}

#[test]
fn a_server_without_a_client_port_says_so() {
    let says = |text: &str, my_id| {
        let (_, warnings) = Lab::new(text, my_id).load(&[]).unwrap();
        texts(&warnings).iter().any(|text| text.starts_with("clientPort is not set"))
    };
    assert!(says("dataDir=@\n", None));
    assert!(says("dataDir=@\nclientPort=0\n", None));
    assert!(!says("dataDir=@\nclientPort=2181\n", None));
    let without = THREE.replace("clientPort=2181\n", "");
    assert!(says(&without, Some("1")));
    let own_line = without.replace("zk1:2888:3888", "zk1:2888:3888;2181");
    assert!(!says(&own_line, Some("1")));
    assert!(says(&own_line, Some("2")));
}

#[test]
fn rescue_settings_are_off_and_loud_when_on() {
    let (config, warnings) = load("dataDir=@\n");
    assert!(!config.storage.skip_lone_checks && !config.storage.accept_lost_tail);
    assert!(!texts(&warnings).iter().any(|text| text.contains("rescue")));
    let flags = ["-Doxkeeper.skipLoneChecks=true"];
    let (config, warnings) =
        Lab::new("dataDir=@\noxkeeper.acceptLostTail=true\n", None).load(&flags).unwrap();
    assert!(config.storage.skip_lone_checks && config.storage.accept_lost_tail);
    for key in ["oxkeeper.skipLoneChecks", "oxkeeper.acceptLostTail"] {
        let about = |warning: &&Warning| warning.text.contains(key);
        let warning = warnings.iter().find(about).expect(key);
        assert_eq!(warning.level, Level::Error, "{}", warning.text);
        assert!(warning.text.contains("rescue"), "{}", warning.text);
    }
    let flags = ["-Doxkeeper.skipLoneChecks=yes", "-Doxkeeper.skipLoneCheck=true"];
    let (config, warnings) = Lab::new("dataDir=@\n", None).load(&flags).unwrap();
    assert!(!config.storage.skip_lone_checks);
    let found = texts(&warnings);
    assert!(found.iter().any(|text| text.contains("unknown key oxkeeper.skipLoneCheck ")));
    assert!(found.iter().any(|text| text.contains("neither true nor false")), "{found:#?}");
}

#[test]
fn a_server_that_should_be_protected_does_not_run_open() {
    for line in [
        "sslQuorum=true",
        "portUnification=TRUE",
        "secureClientPort=2281",
        "client.portUnification=true",
        "quorum.auth.enableSasl=true",
        "sessionRequireClientSASLAuth=true",
        "enforce.auth.enabled=true",
        "enforce.auth.schemes=sasl",
        "DigestAuthenticationProvider.digestAlg=SHA-256",
    ] {
        let key = line.split('=').next().unwrap();
        let parts = ["zoo.cfg line 2: ", key, "not supported yet"];
        assert_fails(&format!("dataDir=@\n{line}\n"), None, 2, &parts);
    }
    let lab = Lab::new("dataDir=@\n", None);
    let error = lab.load(&["-Dzookeeper.sslQuorum=true"]).unwrap_err();
    assert!(error.to_string().starts_with("-Dzookeeper.sslQuorum: "), "{error}");
    load("dataDir=@\nsslQuorum=false\nquorum.auth.enableSasl=false\nenforce.auth.enabled=false\n");
}

#[test]
fn a_protected_way_in_that_cannot_be_offered_is_an_error_in_the_log_beside_an_open_one() {
    let (_, warnings) = load(
        "dataDir=@\nclientPort=2181\nsecureClientPort=2281\nssl.keyStore.location=/k.jks\n\
         authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n",
    );
    for key in ["secureClientPort", "ssl.keyStore.location", "authProvider.1"] {
        let about = |warning: &&Warning| warning.text.contains(key);
        let warning = warnings.iter().find(about).expect(key);
        assert_eq!(warning.level, Level::Error, "{}", warning.text);
        assert!(warning.text.contains("not supported yet"), "{}", warning.text);
    }
}

#[test]
fn properties_with_wrong_values_keep_their_defaults_and_warn() {
    let (config, warnings) = load(
        "dataDir=@\nsnapCount=many\nforceSync=maybe\ndigest.enabled=on\nskipACL=true\n\
         autopurge.snapRetainCount=1\nsnapshotSizeFactor=2\ncommitLogCount=10\n\
         snapshot.compression.method=zip\n",
    );
    assert_eq!(config.storage.snap_count, 100_000);
    assert!(config.storage.force_sync, "off only for no");
    assert!(!config.storage.digests, "true only for true");
    assert!(!config.rules.skip_acl, "needs yes");
    assert_eq!((config.storage.purge_retain, config.storage.commit_log_count), (3, 500));
    assert_eq!(config.storage.snapshot_size_factor, 0.33);
    assert_eq!(config.storage.compression, Compression::None);
    let found = texts(&warnings);
    for part in [
        "line 2: snapCount is not a number",
        "line 4: digest.enabled is neither true nor false",
        "Invalid autopurge.snapRetainCount: 1. Defaulting to 3",
        "snapshotSizeFactor 2 is above 1",
        "line 9: unknown snapshot.compression.method",
    ] {
        assert!(found.iter().any(|text| text.contains(part)), "{part}: {found:#?}");
    }
}

#[test]
fn data_directories_are_made_or_refused_with_exit_code_3() {
    let lab = Lab::new("dataDir=@/deep/er\n", None);
    let (config, _) = lab.load(&[]).unwrap();
    config.data.prepare().unwrap();
    assert!(config.data.snapshot_dir().is_dir());

    let lab = Lab::new("dataDir=@/missing\ndatadir.autocreate=false\n", None);
    let error = lab.load(&[]).unwrap().0.data.prepare().unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("Missing data directory"), "{error}");

    let lab = Lab::new("dataDir=@/file\n", None);
    fs::write(lab.data().join("file"), "").unwrap();
    let error = lab.load(&[]).unwrap().0.data.prepare().unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("Unable to access datadir"), "{error}");
}

#[test]
fn http_ports_are_closed_unless_asked_for() {
    let load = |more: &str| Lab::new(&format!("dataDir=@\n{more}\n"), None).load(&[]);
    let admin = |more: &str| load(more).unwrap().0.admin.map(|address| address.to_string());
    assert_eq!(admin(""), None);
    assert_eq!(admin("admin.serverAddress=127.0.0.1"), None);
    assert_eq!(admin("admin.enableServer=true").as_deref(), Some("0.0.0.0:8080"));
    assert_eq!(admin("admin.serverPort=81").as_deref(), Some("0.0.0.0:81"));
    assert_eq!(admin("admin.serverPort=81\nadmin.enableServer=false"), None);
    assert_eq!(admin("admin.serverPort=0"), None);
    // The reference decodes this one, and keeps its default where that fails.
    assert_eq!(admin("admin.serverPort=0x51").as_deref(), Some("0.0.0.0:81"));
    assert_eq!(admin("admin.serverPort=x").as_deref(), Some("0.0.0.0:8080"));
    assert_eq!(load("admin.serverPort=70000").err().unwrap().exit_code(), 2);
    let name = "metricsProvider.className=org.apache.zookeeper.metrics.";
    let prometheus = |more: &str| load(&format!("{name}{more}")).unwrap();
    assert_eq!(prometheus("impl.DefaultMetricsProvider").0.prometheus, None);
    let (config, warnings) = prometheus("prometheus.PrometheusMetricsProvider");
    let found = config.prometheus.unwrap();
    assert!(found.process && found.address.to_string() == "0.0.0.0:7000");
    assert!(texts(&warnings).iter().all(|text| !text.contains("metricsProvider")));
    let (config, _) = prometheus(
        "prometheus.PrometheusMetricsProvider\nmetricsProvider.httpHost=[::1]\n\
         metricsProvider.httpPort=71\nmetricsProvider.exportJvmInfo=false",
    );
    let wrong = "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.\
                 PrometheusMetricsProvider\nmetricsProvider.httpPort=0x47";
    assert_eq!(load(wrong).err().unwrap().exit_code(), 2);
    let found = config.prometheus.unwrap();
    assert!(!found.process && found.address.host == "::1" && found.address.port == 71);
}
