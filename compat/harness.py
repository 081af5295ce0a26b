"""Servers of any kind as processes on loopback.

A kind is "oxkeeper", "apache-3.9.5" (jars in compat/.cache) or "apache-3.8.0" (Debian's package). All kinds are
started with the same zoo.cfg, so a test written once runs against each.

Every server is a process group of its own and is signalled by its pid only. `RUNNING` lists what is alive, so that
the test run can end all of it and show its logs.
"""

import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

COMPAT = Path(__file__).resolve().parent
CACHE = COMPAT / ".cache"
DEBIAN_JARS = Path("/usr/share/java")
ZKCLI = Path("/usr/share/zookeeper/bin/zkCli.sh")

KINDS = ("oxkeeper", "apache-3.9.5", "apache-3.8.0")
PORTS = range(23000, 24000)

# Small heap and the quick compiler only: tests start many servers on few cores.
JVM_FLAGS = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]

# Short ticks make elections and expiry quick; a small preallocation saves disk.
SETTINGS = {
    "tickTime": 500,
    "initLimit": 20,
    "syncLimit": 6,
    "maxSessionTimeout": 60000,
    "maxClientCnxns": 0,
    "preAllocSize": 1024,
    "admin.enableServer": "false",
    "extendedTypesEnabled": "true",
    "4lw.commands.whitelist": "*",
}

RUNNING = []
_taken = {}  # port -> open lock file


def binary():
    """The server under test: $OXKEEPER_BIN, or the release build in the target directory."""
    if named := os.environ.get("OXKEEPER_BIN"):
        return Path(named)
    target = os.environ.get("CARGO_TARGET_DIR", COMPAT.parent / "target")
    return Path(target) / "release" / "oxkeeper"


def classpath(kind):
    """The class path of an Apache kind, with a log configuration at level INFO."""
    if kind == "apache-3.9.5":
        return f"{COMPAT / 'apache'}:{CACHE / 'zookeeper-3.9.5'}/*"
    if kind == "apache-3.8.0":
        return f"{DEBIAN_JARS}/zookeeper.jar:{DEBIAN_JARS}/slf4j-simple.jar"
    raise ValueError(f"not an Apache kind: {kind}")


def unavailable(kind):
    """Why this kind cannot be started here, or None."""
    needed = {
        "oxkeeper": binary(),
        "apache-3.9.5": CACHE / "zookeeper-3.9.5" / "zookeeper-3.9.5.jar",
        "apache-3.8.0": DEBIAN_JARS / "zookeeper.jar",
    }
    if kind not in needed:
        return f"unknown kind {kind!r}, known are {', '.join(KINDS)}"
    return None if needed[kind].exists() else f"{needed[kind]} is missing; `cargo xtask test` installs it"


def command(kind, config, jvm_flags=()):
    """The command line that starts a server of this kind with this zoo.cfg."""
    if kind == "oxkeeper":
        defines = [flag for flag in jvm_flags if flag.startswith("-D")]
        return [str(binary()), "server", *defines, str(config)]
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    return ["java", *JVM_FLAGS, *jvm_flags, "-cp", classpath(kind), main, str(config)]


def free_port():
    """A loopback port of our range that nobody listens on and that no test run on this machine was given."""
    for port in random.sample(PORTS, len(PORTS)):
        if port in _taken or not _reserved(port):
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"no free port in {PORTS}")


def _reserved(port):
    """Takes this port for the life of this process, against other test runs: by a lock on a file of its name."""
    directory = Path(tempfile.gettempdir()) / "oxkeeper-test-ports"
    directory.mkdir(exist_ok=True)
    lock = (directory / str(port)).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return False
    _taken[port] = lock
    return True


def until(condition, seconds, what):
    """Polls until `condition()` is true and returns its value; fails after `seconds`, naming `what`."""
    end = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.02)


def four_letter_word(port, word, seconds=3):
    """The reply to a four-letter word; empty if nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=seconds) as conn:
            conn.sendall(word.encode())
            reply = b""
            while block := conn.recv(65536):
                reply += block
    except OSError:
        return ""
    return reply.decode(errors="replace")


class Server:
    """One server, running or not: its directory, its ports, its zoo.cfg."""

    def __init__(self, kind, directory, sid=None, settings=None):
        self.kind = kind
        self.directory = Path(directory)
        self.sid = sid
        self.client_port = free_port()
        self.quorum_port = free_port()
        self.election_port = free_port()
        self.settings = {**SETTINGS, **(settings or {})}
        self.members = []
        self.role = "participant"
        self.jvm_flags = []
        self.process = None
        self.starts = 0
        self.data.mkdir(parents=True, exist_ok=True)

    @property
    def data(self):
        return self.directory / "data"

    @property
    def config(self):
        return self.directory / "zoo.cfg"

    @property
    def log(self):
        return self.directory / "server.log"

    @property
    def address(self):
        return f"127.0.0.1:{self.client_port}"

    def member_line(self):
        ports = f"{self.quorum_port}:{self.election_port}"
        return f"server.{self.sid}=127.0.0.1:{ports}:{self.role};127.0.0.1:{self.client_port}"

    def config_text(self):
        lines = [f"{key}={value}" for key, value in self.settings.items()]
        lines.append(f"dataDir={self.data}")
        if self.members:
            lines += [member.member_line() for member in self.members]
        else:
            lines += [f"clientPort={self.client_port}", "clientPortAddress=127.0.0.1"]
        return "\n".join(lines) + "\n"

    def write_config(self):
        self.config.write_text(self.config_text())
        if self.sid is not None and self.data.is_dir():
            (self.data / "myid").write_text(f"{self.sid}\n")

    def start(self, write_config=True, **popen):
        """Starts the process; does not wait for it to serve."""
        assert self.process is None, f"{self} is already running"
        if write_config:
            self.write_config()
        with self.log.open("ab") as log:
            self.starts += 1
            log.write(f"=== start {self.starts} of {self.kind}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                command(self.kind, self.config, self.jvm_flags),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,
                **popen,
            )
        RUNNING.append(self)
        return self

    def signal(self, number):
        os.kill(self.process.pid, number)

    def _reaped(self, seconds):
        code = self.process.wait(seconds)
        self.process = None
        RUNNING.remove(self)
        return code

    def kill(self):
        """kill -9; returns when the process is gone."""
        self.signal(signal.SIGKILL)
        return self._reaped(20)

    def stop(self, seconds=20):
        """SIGTERM; returns the exit status (negative: ended by that signal)."""
        self.signal(signal.SIGTERM)
        return self._reaped(seconds)

    def pause(self):
        """SIGSTOP; returns when every thread stands still, which takes a while on a busy machine."""
        self.signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.process.pid}/task")

        def all_stopped():
            try:
                states = [(task / "stat").read_text().rsplit(")", 1)[1].split()[0] for task in tasks.iterdir()]
            except OSError:
                return False  # a thread ended while we looked
            return bool(states) and all(state == "T" for state in states)

        until(all_stopped, 10, f"{self} stands still")

    def resume(self):
        self.signal(signal.SIGCONT)

    def wait_exit(self, seconds):
        """Waits for the process to end by itself; returns its exit status."""
        return self._reaped(seconds)

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def srvr(self):
        """`srvr` as a dict; empty when the server does not serve."""
        reply = four_letter_word(self.client_port, "srvr")
        if "Mode:" not in reply:
            return {}
        return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reply.splitlines())}

    def mode(self):
        return self.srvr().get("Mode", "")

    def serving(self):
        return bool(self.srvr())

    def wait_serving(self, seconds=40):
        def serving_or_dead():
            if not self.alive():
                code = self.process.poll()
                raise AssertionError(f"{self} ended with exit status {code} before it served:\n{self.log_tail()}")
            return self.serving()

        until(serving_or_dead, seconds, lambda: f"{self} serves\n{self.log_tail()}")
        return self

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self, lines=12):
        return "\n".join(line[:400] for line in self.log_text().splitlines()[-lines:])

    def wipe(self):
        """Forgets all data, keeping the identity."""
        shutil.rmtree(self.data)
        self.data.mkdir()

    def release_ports(self):
        """Lets others have the ports of a server that is not started again."""
        for port in (self.client_port, self.quorum_port, self.election_port):
            if lock := _taken.pop(port, None):
                lock.close()

    def __repr__(self):
        return f"{self.kind} server {self.sid or ''} on port {self.client_port}"


def standalone(kind, directory, **settings):
    return Server(kind, directory, settings=settings)


class Ensemble:
    """Several servers that know each other. `kinds` may differ: a mixed ensemble."""

    def __init__(self, kinds, directory, settings=None):
        self.servers = [
            Server(kind, Path(directory) / f"server{sid}", sid, settings) for sid, kind in enumerate(kinds, 1)
        ]
        for server in self.servers:
            server.members = self.servers

    def __iter__(self):
        return iter(self.servers)

    def __getitem__(self, index):
        return self.servers[index]

    @property
    def hosts(self):
        return ",".join(server.address for server in self.servers)

    def start(self, seconds=40):
        for server in self.servers:
            server.start()
        return self.wait_serving(seconds)

    def wait_serving(self, seconds=40):
        """Waits until all running servers serve and one of them leads."""
        end = time.monotonic() + seconds
        for server in self.servers:
            if server.process is None:
                continue  # not started; one that ended by itself is a failure
            server.wait_serving(max(0.1, end - time.monotonic()))
        until(self.leader, max(0.1, end - time.monotonic()), "one server leads")
        return self

    def running(self):
        return [server for server in self.servers if server.alive()]

    def leader(self):
        modes = {server: server.mode() for server in self.running()}
        return next((server for server, mode in modes.items() if mode in ("leader", "standalone")), None)

    def followers(self):
        return [server for server in self.running() if server.mode() == "follower"]

    def kill_all(self):
        """kill -9 to all of them within microseconds, then reap."""
        running = self.running()
        for server in running:
            server.signal(signal.SIGKILL)
        for server in running:
            server._reaped(20)


def end_all():
    """Ends every server that is still running, whatever state it is in."""
    for server in list(RUNNING):
        if server.process.poll() is None:
            server.signal(signal.SIGCONT)
            server.signal(signal.SIGKILL)
        server._reaped(20)


def zkcli(address, *words, script=None, seconds=40):
    """Runs Debian's zkCli.sh with a one-shot command or with a script on its input."""
    return subprocess.run(
        [str(ZKCLI), "-server", address, *words],
        input=script,
        stdin=subprocess.DEVNULL if script is None else None,
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "CLIENT_JVMFLAGS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"},
    )
