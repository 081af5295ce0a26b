"""The steps of the ZooKeeper tutorial for Kubernetes that need no cluster: docs/spec/kubernetes.md 2 and 12.

The tests of this module are one story, told in the order of the file on the same three pods; T numbers are the
rows of the acceptance table.
"""

import re

import pytest

import pods

COMMAND = [
    "start-zookeeper",
    "--servers=3",
    "--data_dir=/var/lib/zookeeper/data",
    "--data_log_dir=/var/lib/zookeeper/data/log",
    "--conf_dir=/opt/zookeeper/conf",
    "--client_port=2181",
    "--election_port=3888",
    "--server_port=2888",
    "--tick_time=2000",
    "--init_limit=10",
    "--sync_limit=5",
    "--heap=512M",
    "--max_client_cnxns=60",
    "--snap_retain_count=3",
    "--purge_interval=12",
    "--max_session_timeout=40000",
    "--min_session_timeout=4000",
    "--log_level=INFO",
]

ZOO_CFG_KEYS = """clientPort dataDir dataLogDir tickTime initLimit syncLimit maxClientCnxns minSessionTimeout
    maxSessionTimeout autopurge.snapRetainCount autopurge.purgeInterval server.1 server.2 server.3""".split()

LOG4J = """\
zookeeper.root.logger=CONSOLE
zookeeper.console.threshold=INFO
log4j.rootLogger=${zookeeper.root.logger}
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender
log4j.appender.CONSOLE.Threshold=${zookeeper.console.threshold}
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout
log4j.appender.CONSOLE.layout.ConversionPattern=%d{ISO8601} [myid:%X{myid}] - %-5p [%t:%C{1}@%L] - %m%n
"""

WATCHER = "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null\n"
DATE = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} \d{2} \d{2}:\d{2}:\d{2} UTC \d{4}"
GET_HELLO = re.compile(
    re.escape(WATCHER)
    + rf"""world
cZxid = 0x100000002
ctime = (?P<ctime>{DATE})
mZxid = 0x100000002
mtime = (?P<mtime>{DATE})
pZxid = 0x100000002
cversion = 0
dataVersion = 0
aclVersion = 0
ephemeralOwner = 0x0
dataLength = 5
numChildren = 0
"""
)
PROBE = ["sh", "-c", "zookeeper-ready 2181"]
seen = {}


def start_in_order(three):
    """OrderedReady: the next one is created when this one is ready. Each gets a new address."""
    for pod in three:
        pod.unplace()
    for pod in three:
        pod.place().start().wait_well()


@pytest.fixture(scope="module")
def three(node, images):
    with pods.stateful_set(node, images["tutorial"], COMMAND) as three:
        start_in_order(three)
        yield three


@pytest.fixture(autouse=True)
def _all_well_before(request):
    """A step that left the ensemble unwell is not held against the next one."""
    if "three" in request.fixturenames:
        for pod in request.getfixturevalue("three"):
            if pod.process is None or pod.process.poll() is not None:
                pod.delete()
                pod.place().start()
            pod.wait_well()


def header_and_rest(pod, *words):
    """What a command of the reader prints; everything must be on stdout (row "Client order" of 12)."""
    ended = pod.exec(*words)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


def processes(pod, options):
    """Lines of ps as lists of words, without the heading."""
    return [line.split() for line in pod.says("ps", options).splitlines()[1:]]


def test_t3_host_names_are_those_of_the_pods(three):
    assert [pod.says("hostname") for pod in three] == ["zk-0\n", "zk-1\n", "zk-2\n"]


def test_t4_myid_is_one_more_than_the_ordinal(three):
    assert [pod.says("cat", "/var/lib/zookeeper/data/myid") for pod in three] == ["1\n", "2\n", "3\n"]


def test_t5_every_pod_knows_its_full_name(three):
    names = [f"zk-{ordinal}.zk-hs.default.svc.cluster.local\n" for ordinal in range(3)]
    assert [pod.says("hostname", "-f") for pod in three] == names
    assert [pod.says("hostname", "-s") for pod in three] == ["zk-0\n", "zk-1\n", "zk-2\n"]
    assert {pod.says("hostname", "-d") for pod in three} == {"zk-hs.default.svc.cluster.local\n"}


def test_t6_zoo_cfg_has_the_keys_of_the_tutorial_in_its_order(three):
    lines = three[0].says("cat", "/opt/zookeeper/conf/zoo.cfg").splitlines()
    settings = [line.split("=", 1) for line in lines if line.strip() and not line.startswith("#")]
    assert lines[0].startswith("#")
    assert [key for key, _ in settings][: len(ZOO_CFG_KEYS)] == ZOO_CFG_KEYS
    values = dict(settings)
    assert values["dataDir"] == "/var/lib/zookeeper/data"
    assert values["dataLogDir"] == "/var/lib/zookeeper/data/log"
    assert (values["clientPort"], values["tickTime"], values["initLimit"], values["syncLimit"]) == (
        "2181",
        "2000",
        "10",
        "5",
    )
    assert values["maxClientCnxns"] == "60"
    assert (values["minSessionTimeout"], values["maxSessionTimeout"]) == ("4000", "40000")
    assert (values["autopurge.snapRetainCount"], values["autopurge.purgeInterval"]) == ("3", "12")
    for number in (1, 2, 3):
        assert values[f"server.{number}"] == f"zk-{number - 1}.{pods.DOMAIN}:2888:3888"


def test_t8_create_prints_the_text_of_the_tutorial(three):
    said = header_and_rest(three[0], "zkCli.sh", "create", "/hello", "world")
    assert said == f"{WATCHER}Created /hello\n"


def test_t9_another_member_has_it_with_the_zxid_of_the_tutorial(three):
    said = header_and_rest(three[1], "zkCli.sh", "get", "/hello")
    match = GET_HELLO.fullmatch(said)
    assert match, said
    assert match["ctime"] == match["mtime"]
    seen["/hello"] = said


def test_t14_a_new_stateful_set_on_the_old_volumes_has_it_unchanged(three):
    addresses = [pod.address for pod in three]
    for pod in three:
        pod.signal("TERM")
    assert [pod.ended() for pod in three] == [143] * 3
    start_in_order(three)
    assert not {pod.address for pod in three} & set(addresses)
    for pod in three:
        pod.wait_serves()
    said = header_and_rest(three[2], "zkCli.sh", "get", "/hello")
    assert GET_HELLO.fullmatch(said), said
    assert said == seen.get("/hello", said)


def test_t17_log4j_properties_are_the_seven_lines(three):
    assert three[0].says("cat", "/usr/etc/zookeeper/log4j.properties") == LOG4J


def test_t18_a_probe_leaves_three_lines_in_the_log(three):
    first = three[0]
    before = len(first.log.read_text())
    first.says(*PROBE)
    port = r"/127\.0\.0\.1:(\d+)"
    messages = [
        f"Accepted socket connection from {port}",
        f"Processing ruok command from {port}",
        rf"Closed socket connection for client {port} \(no session established for client\)",
    ]
    stamp = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[myid:1\] - INFO  \[.+:.+@\d+\] - "

    def ports():
        log = first.log.read_text()[before:]
        return [re.findall(f"{stamp}{message}$", log, re.M) for message in messages]

    accepted, processed, closed = pods.until(
        lambda: all(found := ports()) and found, 5, lambda: f"three lines per probe; it says:\n{first.said()}"
    )
    assert accepted == processed == closed and len(accepted) == 1
    for line in first.log.read_text().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[myid:\d*\] - (INFO |WARN |ERROR)", line) or (
            line == "Creating ZooKeeper log4j configuration"
        ), line


def test_t19_ps_shows_the_start_program_and_its_child_as_user_zookeeper(three):
    # Columns: F S UID PID PPID C PRI NI ADDR SZ WCHAN STIME TTY TIME CMD.
    by_pid = {line[3]: line for line in processes(three[0], "-elf")}
    assert "start-zookeeper" in " ".join(by_pid["1"][14:]), by_pid
    children = [line for line in by_pid.values() if line[4] == "1" and "oxkeeper-java" in " ".join(line[14:])]
    assert len(children) == 1, by_pid
    assert {line[2] for line in by_pid.values()} == {"zookeep+"}, by_pid


def test_t20_the_data_directory_belongs_to_zookeeper_and_its_group_is_inherited(three):
    said = three[0].says("ls", "-ld", "/var/lib/zookeeper/data")
    assert re.match(r"drwxr-sr-x \d+ zookeeper zookeeper ", said), said


def test_t25_the_server_is_a_child_of_the_entry_point(three):
    lines = processes(three[0], "-ef")
    entry, server = (
        next(line for line in lines if line[1] == "1"),
        next(line for line in lines if "oxkeeper-java" in " ".join(line[7:])),
    )
    assert entry[7].endswith("start-zookeeper")
    assert server[2] == "1"


def test_t26_pkill_java_ends_the_container_with_143_and_a_restart_makes_it_well(three):
    first, *others = three
    starts = [pod.starts for pod in others]
    first.says("pkill", "java")
    assert first.ended() == 143
    first.start().wait_well().wait_serves()
    assert [pod.starts for pod in others] == starts
    assert all(pod.serves() for pod in others)
    assert GET_HELLO.fullmatch(header_and_rest(first, "zkCli.sh", "get", "/hello"))


def test_t27_the_probe_passes_all_the_time_and_prints_nothing(three):
    for pod in three:
        for _ in range(3):
            ended = pod.exec(*PROBE)
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_t28_without_its_command_the_probe_fails_until_the_container_is_restarted(three):
    first = three[0]
    assert first.says("rm", "/usr/bin/zookeeper-ready") == ""
    assert first.exec(*PROBE).returncode == 127
    # What the kubelet does after three failures.
    assert first.terminate() == 143
    first.start().wait_well()


def test_t28_removal_of_files_of_root_is_refused(three):
    first = three[0]
    for name in ("oxkeeper", "zkCli.sh", "start-zookeeper", "bash"):
        ended = first.exec("rm", "-f", f"/usr/bin/{name}")
        assert ended.returncode == 1 and "Operation not permitted" in ended.stderr, ended
        first.says("ls", f"/usr/bin/{name}")


def test_tools_that_manifests_and_readers_call_are_there(three):
    first = three[0]
    assert first.says("id") == "uid=1000(zookeeper) gid=1000(zookeeper) groups=1000(zookeeper)\n"
    assert first.says("bash", "-c", "echo $BASH_VERSION").strip()
    assert first.says("sh", "-c", "echo ruok | nc -w 2 127.0.0.1 2181") == "imok"
    assert first.says("sh", "-c", '. zkEnv.sh && echo "$ZOOCFG $ZOO_LOG_DIR"') == (
        "/opt/zookeeper/conf/zoo.cfg /var/log/zookeeper\n"
    )
    assert "bash " in first.says("cat", "/usr/share/oxkeeper/packages.txt")
    assert first.says("date", "+%Z") == "UTC\n"
    found = first.says("bash", "-c", "type -ap zookeeper-ready")
    assert found == "/usr/bin/zookeeper-ready\n"


def test_every_program_of_the_image_finds_its_libraries(images, node):
    image = images["tutorial"]
    check = 'for f in /usr/bin/* /usr/sbin/*; do $(ls /usr/lib*/ld-linux-*) --list "$f" 2>&1; done; true'
    for path in [*(image.root / "usr/bin").iterdir(), *(image.root / "usr/sbin").iterdir()]:
        target = path
        for _ in range(5):
            if not target.is_symlink():
                break
            link = target.readlink()
            target = image.root / str(link).lstrip("/") if link.is_absolute() else target.parent / link
        assert target.exists(), f"{path} is a dangling link"
    pod = node.pod("libraries", image, command=["sleep", "60"]).place().start()
    try:
        pods.until(lambda: pod.exec("true").returncode == 0, 10, lambda: "the container runs")
        lines = pod.says("bash", "-c", check).splitlines()
        assert sum("libc.so.6 => /" in line for line in lines) > 50
        assert [line for line in lines if "not found" in line] == []
    finally:
        pod.delete()


def test_the_upstream_form_of_the_command_works_unchanged(node, images):
    shell = ["sh", "-c", " ".join(COMMAND)]
    with pods.stateful_set(node, images["tutorial"], shell) as three:
        start_in_order(three)
        for pod in three:
            pod.wait_serves()
        by_pid = {line[1]: line for line in processes(three[0], "-ef")}
        assert by_pid["1"][7:9] == ["sh", "-c"]
        servers = [line for line in by_pid.values() if line[2] == "1" and line[7].endswith("oxkeeper-java")]
        assert len(servers) == 1, by_pid
        # The shell ends with its child.
        three[0].says("pkill", "java")
        assert three[0].ended() == 143


def test_the_older_form_by_zkgenconfig_works_unchanged(node, images):
    shell = ["sh", "-c", "zkGenConfig.sh && zkServer.sh start-foreground"]
    env = {"ZK_ENSEMBLE": "zk-0;zk-1;zk-2", "ZK_TICK_TIME": "2000", "ZK_CLIENT_PORT": "2181"}
    with pods.stateful_set(node, images["tutorial"], shell, env=env) as three:
        start_in_order(three)
        for pod in three:
            pod.wait_serves()
            assert pod.exec("zkOk.sh").returncode == 0
        assert "zk_server_state" in three[0].says("zkMetrics.sh")
        three[0].says("zkCli.sh", "create", "/hello", "world")
        assert "world" in three[2].says("zkCli.sh", "get", "/hello")
