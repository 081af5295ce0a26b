"""T1 to T29 of docs/spec/kubernetes.md 2: create, write, survive, configuration, processes."""

import json
import re
import shlex

from . import kubectl
from .run import Step
from .watch import contains_in_order, first, ordered_start, rolling, states, told

HEADER = ["", "WATCHER::", "", "WatchedEvent state:SyncConnected type:None path:null"]
DATE = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d\d \d\d:\d\d:\d\d UTC \d{4}"
STAT = [
    r"cZxid = 0x100000002",
    rf"ctime = {DATE}",
    r"mZxid = 0x100000002",
    rf"mtime = {DATE}",
    r"pZxid = 0x100000002",
    r"cversion = 0",
    r"dataVersion = 0",
    r"aclVersion = 0",
    r"ephemeralOwner = 0x0",
    r"dataLength = 5",
    r"numChildren = 0",
]
CONFIGURATION = [
    ("clientPort", "2181"),
    ("dataDir", "/var/lib/zookeeper/data"),
    ("dataLogDir", "/var/lib/zookeeper/data/log"),
    ("tickTime", "2000"),
    ("initLimit", "10"),
    ("syncLimit", "5"),
    ("maxClientCnxns", "60"),
    ("minSessionTimeout", "4000"),
    ("maxSessionTimeout", "40000"),
    ("autopurge.snapRetainCount", "3"),
    ("autopurge.purgeInterval", "12"),
]
FLAGS = [
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
LOG4J = """\
zookeeper.root.logger=CONSOLE
zookeeper.console.threshold=INFO
log4j.rootLogger=${zookeeper.root.logger}
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender
log4j.appender.CONSOLE.Threshold=${zookeeper.console.threshold}
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout
log4j.appender.CONSOLE.layout.ConversionPattern=%d{ISO8601} [myid:%X{myid}] - %-5p [%t:%C{1}@%L] - %m%n"""
LOG_LINE = re.compile(
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \[myid:(\d+)\] - (FATAL|ERROR|WARN |INFO |DEBUG|TRACE) "
    r"\[.*:[\w$.]+@\d+\] - (.*)$"
)
PATCH = '[{"op":"replace","path":"/spec/template/spec/containers/0/resources/requests/cpu","value":"0.3"}]'


class Tutorial:
    """What the steps share."""

    def __init__(self, ensemble, manifest, domain):
        self.ensemble = ensemble
        self.run = ensemble.run
        self.watch = ensemble.watch
        self.pods = ensemble.pods
        self.manifest = manifest
        self.domain = domain
        self.began = 0  # the watch's mark before the objects were created
        self.deleted = 0  # before the StatefulSet was deleted
        self.patched = 0  # before its template was changed
        self.stat = None
        self.volumes = {}

    # 2.1 Create

    def t1(self):
        self.began = self.watch.mark()
        answer = self.run.type("apply", "-f", self.manifest)
        wanted = [
            "service/zk-hs",
            "service/zk-cs",
            "poddisruptionbudget.policy/zk-pdb",
            "statefulset.apps/zk",
        ]
        wanted = [f"{name} created" for name in wanted]
        self.run.check(
            "four objects created, in this order", answer.out.splitlines() == wanted, answer.text()
        )
        self.run.check("exit 0", answer.ok, answer.code)

    def starts_in_order(self):
        events = self.watch.since(self.began)
        self.ensemble.show(events)
        self.run.checks(ordered_start(events, self.pods))

    def t2(self):
        self.ensemble.all_ready(180)
        self.starts_in_order()
        claims = kubectl.get(["pvc", "-l", "app=zk"])["items"]
        self.volumes = {claim["metadata"]["name"]: claim["spec"].get("volumeName") for claim in claims}

    def each(self, words):
        return [self.run.type("exec", pod, "--", *words) for pod in self.pods]

    def t3(self):
        seen = [answer.out for answer in self.each(["hostname"])]
        self.run.check("zk-0, zk-1, zk-2", seen == [f"{pod}\n" for pod in self.pods], seen)

    def t4(self):
        seen = [answer.out for answer in self.each(["cat", "/var/lib/zookeeper/data/myid"])]
        self.run.check("1, 2, 3, each a line", seen == ["1\n", "2\n", "3\n"], seen)

    def t5(self):
        seen = [answer.out for answer in self.each(["hostname", "-f"])]
        wanted = [f"{pod}.zk-hs.default.svc.{self.domain}\n" for pod in self.pods]
        self.run.check("the full name of each pod", seen == wanted, seen)
        for flag, wanted in (("-s", "zk-0"), ("-d", f"zk-hs.default.svc.{self.domain}")):
            answer = self.run.type("exec", "zk-0", "--", "hostname", flag)
            self.run.check(f"hostname {flag} gives {wanted}", answer.out == f"{wanted}\n", answer.text())

    def t6(self):
        answer = self.run.type("exec", "zk-0", "--", "cat", "/opt/zookeeper/conf/zoo.cfg")
        lines = [line for line in answer.out.splitlines() if line.strip() and not line.startswith("#")]
        pairs = [tuple(line.split("=", 1)) for line in lines]
        servers = [
            (f"server.{n + 1}", f"{pod}.zk-hs.default.svc.{self.domain}:2888:3888")
            for n, pod in enumerate(self.pods)
        ]
        wanted = CONFIGURATION + servers
        keys = " ".join(pair[0] for pair in pairs[: len(wanted)])
        self.run.check("the 14 keys in this order", keys == " ".join(key for key, _ in wanted), keys)
        for key, value in wanted:
            found = dict(pairs).get(key)
            self.run.check(f"{key}={value}", found == value, f"{key}={found}")
        known = {key for key, _ in wanted}
        late = all(key not in known for key, *_ in pairs[len(wanted) :])
        self.run.check("other keys only behind the server lines", late, " ".join(pair[0] for pair in pairs))

    def t7(self):
        self.run.type("get", "pods", "-l", "app=zk")
        self.starts_in_order()
        self.ensemble.check_consensus()

    # 2.2 Write, read, survive

    def t8(self):
        answer = self.run.type("exec", "zk-0", "--", "zkCli.sh", "create", "/hello", "world")
        self.run.check(
            "header, then `Created /hello`",
            answer.out.splitlines() == [*HEADER, "Created /hello"],
            repr(answer.out),
        )
        self.run.check("nothing on the other stream", not answer.err.strip(), answer.err)
        self.run.check("exit 0", answer.ok, answer.code)

    def hello(self, pod):
        """Reads /hello; the stat lines."""
        answer = self.run.type("exec", pod, "--", "zkCli.sh", "get", "/hello")
        lines = answer.out.splitlines()
        self.run.check("the same header", lines[: len(HEADER)] == HEADER, repr(answer.out[:120]))
        rest = lines[len(HEADER) :]
        self.run.check("`world`", rest[:1] == ["world"], rest[:1])
        self.run.check("then 11 lines", len(rest) == 12, f"{len(rest) - 1}")
        for pattern, line in zip(STAT, [*rest[1:], *[""] * len(STAT)]):
            shown = pattern.replace(DATE, "a date as `Thu Dec 08 15:13:30 UTC 2016`")
            self.run.check(shown, re.fullmatch(pattern, line) is not None, line)
        self.run.check("nothing on the other stream", not answer.err.strip(), answer.err)
        return rest[1:]

    def t9(self):
        self.stat = self.hello("zk-1")

    def t10(self):
        self.deleted = self.watch.mark()
        answer = self.run.type("delete", "statefulset", "zk")
        wanted = r'statefulset\.apps "zk" deleted( from default namespace)?\n'
        self.run.check(
            'statefulset.apps "zk" deleted', re.fullmatch(wanted, answer.out) is not None, answer.text()
        )

    def t11(self):
        self.ensemble.all_gone()
        events = self.watch.since(self.deleted)
        self.ensemble.show(events)
        leaves = [first(events, pod, lambda event: event.status == "Terminating") for pod in self.pods]
        for pod in self.pods:
            seen = states(events, pod)
            holds = bool(seen) and seen[0].split()[1] == "Terminating" and seen[-1] == "gone"
            self.run.check(f"{pod}: Terminating, then gone", holds, told(events, pod))
        if None in leaves:
            return
        gone = [first(events, pod, lambda event: event.kind == "DELETED") for pod in self.pods]
        spread = max(events[at].at for at in leaves) - min(events[at].at for at in leaves)
        at_once = max(leaves) < min(gone) and spread < 5
        self.run.check("all three Terminating at once, before any is gone", at_once, f"within {spread:.1f} s")
        longest = max(events[end].at - events[begin].at for begin, end in zip(leaves, gone))
        self.run.check("promptly: gone within 10 s each", longest < 10, f"{longest:.1f} s")

    def t12(self):
        self.began = self.watch.mark()
        budget = kubectl.get(["pdb", "zk-pdb"])["metadata"]["generation"]
        answer = self.run.type("apply", "-f", self.manifest)
        lines = answer.out.splitlines()
        self.run.check(
            "the Services are unchanged",
            lines[:2] == ["service/zk-hs unchanged", "service/zk-cs unchanged"],
            answer.text(),
        )
        # kubectl always sends a patch for a selector of policy/v1, and calls that "configured".
        wanted = [f"poddisruptionbudget.policy/zk-pdb {word}" for word in ("unchanged", "configured")]
        self.run.check("the budget is unchanged", lines[2:3] != [] and lines[2] in wanted, answer.text())
        after = kubectl.get(["pdb", "zk-pdb"])["metadata"]["generation"]
        self.run.check("the budget's generation too", budget == after, f"{budget}, {after}")
        self.run.check(
            "only the StatefulSet is created", lines[3:] == ["statefulset.apps/zk created"], answer.text()
        )

    def t13(self):
        self.ensemble.all_ready(180)
        self.starts_in_order()
        seen = [answer.out for answer in self.each(["cat", "/var/lib/zookeeper/data/myid"])]
        self.run.check("myid kept", seen == ["1\n", "2\n", "3\n"], seen)

    def t14(self):
        stat = self.hello("zk-2")
        self.run.check("every line as in T9", stat == self.stat, "the same" if stat == self.stat else stat)

    def t15(self):
        answer = self.run.type("get", "pvc", "-l", "app=zk")
        head, *rows = answer.out.splitlines() or [""]
        heads = re.split(r"\s{2,}", head.strip())
        wanted = ["NAME", "STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS"]
        self.run.check("columns", heads[: len(wanted)] == wanted, head)
        rows = {row.split()[0]: row.split() for row in rows}
        self.run.check("three claims", sorted(rows) == [f"datadir-{pod}" for pod in self.pods], sorted(rows))
        for name, row in rows.items():
            holds = row[1] == "Bound" and row[3:5] == ["20Gi", "RWO"]
            self.run.check(f"{name} Bound, 20Gi, RWO", holds, " ".join(row))
            before = self.volumes.get(name)
            self.run.check(f"{name}: volume as before", row[2] == before, f"{row[2]}, {before}")

    # 2.3 Configuration, logs, user

    def t16(self):
        answer = self.run.type("get", "sts", "zk", "-o", "yaml", show=12)
        lines = {line.strip().removeprefix("- ") for line in answer.out.splitlines()}
        missing = [word for word in ["start-zookeeper", *FLAGS] if word not in lines]
        self.run.check("the command and its 17 flags are shown", not missing, missing or "all")
        container = self.ensemble.container()
        command = [*container.get("command", []), *container.get("args", [])]
        words = command if len(command) > 3 else shlex.split(command[-1].replace("\\\n", " "))
        self.run.check(
            "start-zookeeper with the 17 flags", words == ["start-zookeeper", *FLAGS], " ".join(words)
        )

    def t17(self):
        answer = self.run.type("exec", "zk-0", "--", "cat", "/usr/etc/zookeeper/log4j.properties")
        self.run.check("exactly these 7 lines", answer.out.rstrip("\n") == LOG4J, answer.text())

    def t18(self):
        def probed():
            return "Closed socket connection" in kubectl.call(["logs", "zk-0", "--tail", "20"], 20).out

        try:
            self.run.wait("a probe is in the log", 30, probed)
        finally:
            answer = self.run.type("logs", "zk-0", "--tail", "20")
        lines = answer.out.splitlines()
        odd = [line for line in lines if not LOG_LINE.match(line)]
        self.run.check(
            "20 lines in the pattern", len(lines) == 20 and not odd, odd[0] if odd else f"{len(lines)}"
        )
        found = [match for match in map(LOG_LINE.match, lines) if match]
        self.run.check(
            "[myid:1]", found and all(match[1] == "1" for match in found), {match[1] for match in found}
        )
        info = "\n".join(match[3] for match in found if match[2] == "INFO ")
        ports = set(re.findall(r"^Processing ruok command from /127\.0\.0\.1:(\d+)$", info, re.M))
        accepted = set(re.findall(r"^Accepted socket connection from /127\.0\.0\.1:(\d+)$", info, re.M))
        closed = set(
            re.findall(
                r"^Closed socket connection for client /127\.0\.0\.1:(\d+) \(no session established for client\)$",
                info,
                re.M,
            )
        )
        seen = f"accepted {len(accepted)}, ruok {len(ports)}, closed {len(closed)}"
        self.run.check("a probe's three INFO lines", bool(accepted & ports & closed), seen)

    def processes(self, answer, pid, ppid, command):
        """Checks the tree that `ps` printed; columns by number."""
        rows = [line.split(None, command) for line in answer.out.splitlines()[1:]]
        rows = [row for row in rows if len(row) > command]
        one = next((row for row in rows if row[pid] == "1"), None)
        start = one is not None and "start-zookeeper" in one[command]
        self.run.check(
            "PID 1 is the start program or its shell", start, one[command] if one else answer.text()
        )
        server = next((row for row in rows if row[ppid] == "1" and "java" in row[command]), None)
        seen = f"{server[pid]}: {server[command]}" if server else [row[command] for row in rows]
        self.run.check("the server is its child", server is not None, seen)
        return rows

    def t19(self):
        answer = self.run.type("exec", "zk-0", "--", "ps", "-elf")
        rows = self.processes(answer, 3, 4, 14)
        users = {row[2] for row in rows}
        self.run.check("user zookeep+ everywhere", users == {"zookeep+"}, users)

    def t20(self):
        answer = self.run.type_on_terminal(
            "exec", "-ti", "zk-0", "--", "ls", "-ld", "/var/lib/zookeeper/data"
        )
        pattern = r"drwxr-sr-x\.? +\d+ zookeeper zookeeper .*/var/lib/zookeeper/data\s*"
        self.run.check(
            "drwxr-sr-x <n> zookeeper zookeeper", re.fullmatch(pattern, answer.out) is not None, answer.text()
        )

    # 2.4 Process management

    def t21(self):
        self.patched = self.watch.mark()
        answer = self.run.type("patch", "sts", "zk", "--type=json", f"-p={PATCH}")
        self.run.check(
            "statefulset.apps/zk patched", answer.out == "statefulset.apps/zk patched\n", answer.text()
        )

    def rolls(self, since):
        self.ensemble.rolled_out()
        self.ensemble.all_ready(60)
        events = self.watch.since(since)
        self.ensemble.show(events)
        self.run.checks(rolling(events, self.pods[::-1]))

    def t22(self):
        self.rolls(self.patched)

    def revisions(self):
        answer = self.run.type("rollout", "history", "sts/zk")
        lines = answer.out.split("\n")
        headed = lines[0].strip() == "statefulset.apps/zk" and re.fullmatch(
            r"REVISION +CHANGE-CAUSE", lines[1].strip()
        )
        self.run.check("heading and columns", bool(headed), answer.text())
        return [line.split()[0] for line in lines[2:] if line.strip()]

    def t23(self):
        seen = self.revisions()
        self.run.check("revisions 1 and 2", seen == ["1", "2"], seen)

    def t24(self):
        mark = self.watch.mark()
        answer = self.run.type("rollout", "undo", "sts/zk")
        self.run.check(
            "statefulset.apps/zk rolled back",
            answer.out == "statefulset.apps/zk rolled back\n",
            answer.text(),
        )
        self.rolls(mark)
        seen = self.revisions()
        self.run.check("revisions 2 and 3 after it", seen == ["2", "3"], seen)
        cpu = self.ensemble.container()["resources"]["requests"]["cpu"]
        self.run.check("the CPU request is the first one again", cpu in ("0.5", "500m"), cpu)

    def t25(self):
        answer = self.run.type("exec", "zk-0", "--", "ps", "-ef")
        self.processes(answer, 1, 2, 7)

    def others_untouched(self, events):
        seen = [told(events, pod) for pod in self.pods[1:] if states(events, pod)]
        self.run.check("zk-1 and zk-2 untouched", not seen, ", ".join(seen) or "no events")

    def comes_back(self, pod, restarts, limit):
        def back():
            event = self.watch.latest.get(pod)
            return event and event.serving and event.restarts == restarts

        self.run.wait(f"{pod} 1/1 Running {restarts}", limit, back, lambda: told(self.ensemble.events(), pod))
        self.ensemble.show(self.ensemble.events())

    def t26(self):
        restarts = self.watch.latest["zk-0"].restarts
        answer = self.run.type("exec", "zk-0", "--", "pkill", "java")
        self.run.check("exit 0", answer.ok, answer.text())
        self.comes_back("zk-0", restarts + 1, 90)
        seen = states(self.ensemble.events(), "zk-0")
        wanted = [f"0/1 Error {restarts}", f"0/1 Running {restarts + 1}", f"1/1 Running {restarts + 1}"]
        self.run.check(" -> ".join(wanted), seen == wanted, told(self.ensemble.events(), "zk-0"))
        self.others_untouched(self.ensemble.events())
        last = kubectl.get(["pod", "zk-0"])["status"]["containerStatuses"][0]["lastState"]["terminated"]
        self.run.check("the container ended with 143", last["exitCode"] == 143, last["exitCode"])

    def probe(self, name):
        probe = self.ensemble.container()[name]
        command = probe.get("exec", {}).get("command")
        self.run.check(
            'sh -c "zookeeper-ready 2181"', command == ["sh", "-c", "zookeeper-ready 2181"], command
        )
        seen = (probe.get("initialDelaySeconds"), probe.get("timeoutSeconds"))
        self.run.check("delay 15, timeout 5", seen == (15, 5), seen)
        return probe

    def t27(self):
        self.probe("livenessProbe")
        events = kubectl.get(["events", "--field-selector", "reason=Unhealthy"]).get("items", [])
        failures = [
            f"{event['involvedObject']['name']}: {event['message']}"
            for event in events
            if event["involvedObject"].get("uid") in self.ensemble.uids
            and event["message"].startswith("Liveness")
        ]
        self.run.check(
            "it has passed all the time", not failures, "; ".join(failures) or "no failure in the events"
        )

    def t28(self):
        restarts = self.watch.latest["zk-0"].restarts
        answer = self.run.type("exec", "zk-0", "--", "rm", "/usr/bin/zookeeper-ready")
        self.run.check("uid 1000 may remove it", answer.ok, answer.text())
        self.comes_back("zk-0", restarts + 1, 180)
        seen = states(self.ensemble.events(), "zk-0")
        # Kubernetes holds a second restart within ten minutes back: T26 was the first.
        seen = [state for state in seen if state != f"0/1 CrashLoopBackOff {restarts}"]
        # Both probes fail, each at its own time. If the liveness probe is the one that fails first, the
        # container is restarted at once, and there is no time in which it runs without being ready.
        overtaken = f"0/1 Running {restarts}" not in seen and self.killed_by_liveness("zk-0")
        wanted = [] if overtaken else [f"0/1 Running {restarts}"]
        wanted += [f"0/1 Running {restarts + 1}", f"1/1 Running {restarts + 1}"]
        self.run.check(
            " -> ".join(wanted), contains_in_order(seen, wanted), told(self.ensemble.events(), "zk-0")
        )
        self.others_untouched(self.ensemble.events())
        events = kubectl.get(["events", "--field-selector", "reason=Unhealthy,involvedObject.name=zk-0"]).get(
            "items", []
        )
        counts = [event.get("count") or 1 for event in events if event["message"].startswith("Liveness")]
        self.run.check(
            "after three failures", sum(counts) >= 3, f"{sum(counts)} failures of the liveness probe"
        )
        answer = self.run.type("exec", "zk-0", "--", "sh", "-c", "zookeeper-ready 2181")
        self.run.check("the file is there again, and says ready", answer.ok, answer.text())

    def killed_by_liveness(self, pod):
        """Has Kubernetes told that it ended the pod's container because of the liveness probe?"""
        found = kubectl.get(["events", "--field-selector", f"reason=Killing,involvedObject.name={pod}"])
        return any("failed liveness probe" in event["message"] for event in found.get("items", []))

    def t29(self):
        readiness = self.probe("readinessProbe")
        container = self.ensemble.container()
        same = json.dumps(readiness, sort_keys=True) == json.dumps(container["livenessProbe"], sort_keys=True)
        self.run.check("equal to the liveness probe", same, readiness)

    def steps(self):
        """Rows T1 to T29."""
        exec_each = "for i in 0 1 2; do kubectl exec zk-$i -- {}; done"
        return [
            Step(
                "T1",
                "kubectl apply -f zookeeper.yaml",
                "zk-hs, zk-cs, zk-pdb, zk created, in this order",
                self.t1,
                vital=True,
            ),
            Step(
                "T2",
                "kubectl get pods -w -l app=zk",
                "zk-0, zk-1, zk-2 strictly one after another, 20 s each",
                self.t2,
                vital=True,
            ),
            Step("T3", exec_each.format("hostname"), "zk-0 zk-1 zk-2", self.t3),
            Step("T4", exec_each.format("cat /var/lib/zookeeper/data/myid"), "1 2 3", self.t4),
            Step("T5", exec_each.format("hostname -f"), "zk-N.zk-hs.default.svc.<domain>", self.t5),
            Step(
                "T6",
                "kubectl exec zk-0 -- cat /opt/zookeeper/conf/zoo.cfg",
                "14 keys in order, then ours",
                self.t6,
            ),
            Step("T7", "kubectl get pods -w -l app=zk", "as T2; consensus", self.t7),
            Step(
                "T8",
                "kubectl exec zk-0 -- zkCli.sh create /hello world",
                "watcher header, Created /hello",
                self.t8,
            ),
            Step(
                "T9",
                "kubectl exec zk-1 -- zkCli.sh get /hello",
                "header, world, stat with cZxid = 0x100000002",
                self.t9,
            ),
            Step(
                "T10", "kubectl delete statefulset zk", 'statefulset.apps "zk" deleted', self.t10, vital=True
            ),
            Step(
                "T11",
                "kubectl get pods -w -l app=zk",
                "all three Terminating at once, then gone",
                self.t11,
                vital=True,
            ),
            Step(
                "T12",
                "kubectl apply -f zookeeper.yaml",
                "only the StatefulSet is created",
                self.t12,
                vital=True,
            ),
            Step("T13", "kubectl get pods -w -l app=zk", "as T2; myid kept", self.t13, vital=True),
            Step("T14", "kubectl exec zk-2 -- zkCli.sh get /hello", "world and the stat of T9", self.t14),
            Step("T15", "kubectl get pvc -l app=zk", "three claims Bound, 20Gi, RWO, same volumes", self.t15),
            Step("T16", "kubectl get sts zk -o yaml", "start-zookeeper with the 17 flags", self.t16),
            Step(
                "T17",
                "kubectl exec zk-0 -- cat /usr/etc/zookeeper/log4j.properties",
                "exactly 7 lines",
                self.t17,
            ),
            Step("T18", "kubectl logs zk-0 --tail 20", "pattern, [myid:1], three lines per probe", self.t18),
            Step(
                "T19", "kubectl exec zk-0 -- ps -elf", "server is the child of PID 1; user zookeep+", self.t19
            ),
            Step(
                "T20",
                "kubectl exec -ti zk-0 -- ls -ld /var/lib/zookeeper/data",
                "drwxr-sr-x zookeeper zookeeper",
                self.t20,
            ),
            Step(
                "T21",
                f"kubectl patch sts zk --type='json' -p='{PATCH}'",
                "statefulset.apps/zk patched",
                self.t21,
                vital=True,
            ),
            Step(
                "T22",
                "kubectl rollout status sts/zk",
                "zk-2, zk-1, zk-0 replaced one at a time; success",
                self.t22,
                vital=True,
                writer=True,
            ),
            Step("T23", "kubectl rollout history sts/zk", "revisions 1 and 2", self.t23),
            Step(
                "T24",
                "kubectl rollout undo sts/zk",
                "rolled back, one at a time; revisions 2 and 3",
                self.t24,
                vital=True,
                writer=True,
            ),
            Step("T25", "kubectl exec zk-0 -- ps -ef", "PID 1 entry point, server its child", self.t25),
            Step(
                "T26",
                "kubectl exec zk-0 -- pkill java",
                "0/1 Error, 0/1 Running 1, 1/1 Running 1; others untouched",
                self.t26,
                vital=True,
                writer=True,
            ),
            Step(
                "T27",
                "kubectl get sts zk -o json (liveness probe)",
                "as in the manifest; passes all the time",
                self.t27,
            ),
            Step(
                "T28",
                "kubectl exec zk-0 -- rm /usr/bin/zookeeper-ready",
                "0/1 after three failures, restarted, 1/1",
                self.t28,
                vital=True,
                writer=True,
            ),
            Step(
                "T29", "kubectl get sts zk -o json (readiness probe)", "equal to the liveness probe", self.t29
            ),
        ]
