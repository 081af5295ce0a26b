"""Starts one server, or an ensemble on loopback, of a named kind.

Kinds: `apache-3.9.5`, `apache-3.8.0`, `oxkeeper`. The same zoo.cfg lines and the same
`-D` properties go to all of them.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from .client import four_letter_word

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KINDS = ("apache-3.9.5", "apache-3.8.0", "oxkeeper")

#: `super:test`, the digest of section 11.4.
SUPER_DIGEST = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
SUPER_PASSWORD = b"super:test"


def class_path(kind):
    jars = "/usr/share/java"
    if kind == "apache-3.8.0":
        return f"{jars}/zookeeper.jar"
    home = os.environ.get("ZK395_JARS", "/tmp/zk395")
    return f"{home}/*:{jars}/metrics-core.jar:{jars}/snappy-java.jar"


def binary():
    """Our server: $OXKEEPER, else the newest build of this checkout."""
    if os.environ.get("OXKEEPER"):
        return os.environ["OXKEEPER"]
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(REPOSITORY, "target"))
    found = [os.path.join(target, profile, "oxkeeper") for profile in ("release", "debug")]
    found = [path for path in found if os.path.exists(path)]
    if not found:
        raise FileNotFoundError(f"no oxkeeper binary under {target}: build it or set OXKEEPER")
    return max(found, key=os.path.getmtime)


def command(kind, properties, config):
    defines = [f"-D{key}={value}" for key, value in properties.items()]
    if kind == "oxkeeper":
        return [binary(), "server", *defines, config]
    assert kind in KINDS, f"unknown kind of server {kind!r}: one of {', '.join(KINDS)}"
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    memory = ["-Xmx256m", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    return ["java", *memory, *defines, "-cp", class_path(kind), main, config]


class Server:
    """One server process and its data directory."""

    def __init__(self, kind, port, config=None, properties=None, peers=None, my_id=None):
        self.kind, self.port = kind, port
        self.address = ("127.0.0.1", port)
        self.dir = tempfile.mkdtemp(prefix="traps-", dir="/tmp")
        os.mkdir(f"{self.dir}/data")
        lines = {"dataDir": f"{self.dir}/data", "clientPort": port, "tickTime": 200,
                 "clientPortAddress": "127.0.0.1", "admin.enableServer": "false",
                 "maxSessionTimeout": 60000, "maxClientCnxns": 0, "forceSync": "no"}
        lines.update(config or {})
        lines.update(peers or {})
        if my_id is not None:
            lines.update({"initLimit": 50, "syncLimit": 25})
            with open(f"{self.dir}/data/myid", "w") as file:
                file.write(f"{my_id}\n")
        self.config = f"{self.dir}/zoo.cfg"
        with open(self.config, "w") as file:
            file.writelines(f"{k}={v}\n" for k, v in lines.items() if v is not None)
        self.properties = dict(properties or {})
        self.process = None

    def start(self):
        log = open(f"{self.dir}/out.log", "ab")
        self.process = subprocess.Popen(command(self.kind, self.properties, self.config),
                                        stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                        cwd=self.dir)
        log.close()
        return self

    def wait_serving(self, timeout=30.0):
        """Waits until `srvr` names a mode, which is when sessions are accepted."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.kind} ended with {self.process.returncode}:\n"
                                   + self.output()[-2000:])
            try:
                if b"Mode:" in four_letter_word(self.address, "srvr", timeout=2.0):
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        raise TimeoutError(f"{self.kind} on port {self.port} does not serve:\n"
                           + self.output()[-2000:])

    def output(self):
        with open(f"{self.dir}/out.log", errors="replace") as file:
            return file.read()

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self, sig=signal.SIGKILL):
        if self.alive():
            self.process.send_signal(sig)
            self.process.wait(20)

    def stop(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


def free_port(first=24000, last=24999):
    """A port nobody listens on; starts searching at a place that depends on the pid."""
    span = last - first
    for step in range(span):
        port = first + (os.getpid() * 37 + step + free_port.used) % span
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        free_port.used += step + 1
        return port
    raise RuntimeError("no free port")


free_port.used = 0


def start(kind, config=None, properties=None):
    """A standalone server that serves."""
    server = Server(kind, free_port(), config, properties).start()
    try:
        return server.wait_serving()
    except BaseException:
        server.stop()
        raise


def start_ensemble(kind, size=3, config=None, properties=None):
    """`size` voters that serve; stop each of them afterwards."""
    ports = [(free_port(), free_port(), free_port()) for _ in range(size)]
    peers = {f"server.{i}": f"127.0.0.1:{peer}:{election}:participant;127.0.0.1:{client}"
             for i, (client, peer, election) in enumerate(ports, 1)}
    config = {"clientPort": None, "clientPortAddress": None, **(config or {})}
    servers = [Server(kind, ports[i - 1][0], config, properties, peers, i)
               for i in range(1, size + 1)]
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.wait_serving()
    except BaseException:
        for server in servers:
            server.stop()
        raise
    return servers
