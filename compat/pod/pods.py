"""Pods without a cluster: images from the archives of `cargo xtask image`, run by runc as a kubelet would have them.

A pod is a network namespace with an address, a host name and a volume. Its container is the image under a fresh
writable layer, in PID, mount, UTS and IPC namespaces of its own, as user and group 1000 without capabilities. Pods are
joined by a bridge in another network namespace, where the DNS server is. The machine's own network is not touched.

Run as a program it prints why that is impossible here, if it is.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

COMPAT = Path(__file__).resolve().parent.parent
DOMAIN = "zk-hs.default.svc.cluster.local"
NAMESPACES = ("pid", "ipc", "uts", "mount")
USER = 1000
EXEC_LIMIT_S = 20

# As container runtimes have them.
MASKED = ["acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "sched_debug", "scsi"]
READ_ONLY = ["bus", "fs", "irq", "sys", "sysrq-trigger"]


def run(*words, limit=EXEC_LIMIT_S, **more):
    """Runs a command of the machine to its end; what it says is in the error if it fails."""
    words = [str(word) for word in words]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL, **more)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit {ended.returncode}: {ended.stderr.strip()}")
    return ended.stdout


def impossible():
    """Why pods cannot be run on this machine, or None: found by trying."""
    if os.geteuid() != 0:
        return "namespaces, mounts and veth devices need root"
    for program in ("runc", "ip", "mount", "umount", "tar"):
        if not shutil.which(program):
            return f"{program} is not installed"
    with tempfile.TemporaryDirectory() as directory:
        try:
            with Node(Path(directory)) as node:
                lower = Path(directory) / "lower"
                lower.mkdir()
                node.unmount(node.overlay(lower, "trial"))
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            return f"namespaces or mounts are not permitted: {error}"
    return None


def until(condition, seconds, what):
    """Polls until `condition()` is true and returns its value; fails after `seconds`, naming `what()`."""
    end = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what()}")
        time.sleep(0.1)


class Image:
    """An image, unpacked from its archive."""

    def __init__(self, archive, directory):
        self.archive = archive
        self.root = directory / archive.stem
        self.root.mkdir()
        parts = directory / f"{archive.stem}-parts"
        parts.mkdir()
        run("tar", "-xf", archive, "-C", parts)
        manifest = json.loads((parts / "manifest.json").read_text())[0]
        self.names = manifest["RepoTags"]
        self.config = json.loads((parts / manifest["Config"]).read_text())["config"]
        for layer in manifest["Layers"]:
            run("tar", "--numeric-owner", "-xpf", parts / layer, "-C", self.root)
        shutil.rmtree(parts)

    @property
    def env(self):
        return dict(variable.split("=", 1) for variable in self.config["Env"])


def archives():
    """Archives by image, "tutorial" and "production": in $OXKEEPER_IMAGES, or in the target directory."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", COMPAT.parent / "target"))
    found = {}
    for path in sorted(Path(os.environ.get("OXKEEPER_IMAGES", target / "images")).glob("oxkeeper-*.tar")):
        found["tutorial" if path.stem == "oxkeeper-tutorial" else "production"] = path
    return found


class Node:
    """The bridge and DNS server that join pods, and the place where they write. Closing it ends all that is in it."""

    _count = 0

    def __init__(self, directory):
        Node._count += 1
        self.name = f"oxpod-{os.getpid()}-{Node._count}"
        self.directory = directory / self.name
        self.pods = []
        self._addresses = iter(range(10, 250))
        self._undo = []
        self._names = {}
        self._serial = 0

    def __enter__(self):
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def _open(self):
        self.directory.mkdir()
        # Writable layers cannot be on an overlay, which a machine's /tmp may be.
        scratch = self.directory / "layers"
        scratch.mkdir()
        run("mount", "-t", "tmpfs", "oxpod", scratch)
        self._undo.append(lambda: self.unmount(scratch))
        self.add_namespace(self.name)
        # Of its own a bridge takes the lowest address of its ports, so that it would change as pods come and go.
        self.ip("link", "add", "name", "br0", "address", "02:00:0a:f4:00:01", "type", "bridge")
        self.ip("address", "add", "10.244.0.1/24", "dev", "br0")
        self.ip("link", "set", "br0", "up")
        self.zone = self.directory / "zone.json"
        self._write_zone()
        words = ["ip", "netns", "exec", self.name, sys.executable, Path(__file__).with_name("dns.py")]
        dns = subprocess.Popen([*words, "10.244.0.1", self.zone], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self._undo.append(lambda: (dns.kill(), dns.wait(5), dns.stdout.close()))
        if dns.stdout.readline() != b"ready\n":
            raise RuntimeError("the DNS server did not start")

    def close(self):
        """Ends containers, processes, mounts and namespaces, the newest first; one failure does not keep the rest."""
        failures = []
        for undo in [*(pod.delete for pod in self.pods), *reversed(self._undo)]:
            try:
                undo()
            except Exception as error:  # noqa: BLE001
                failures.append(str(error))
        self.pods, self._undo = [], []
        if failures:
            raise RuntimeError("; ".join(failures))

    def ip(self, *words):
        run("ip", "-n", self.name, *words)

    def add_namespace(self, name):
        run("ip", "netns", "add", name)
        self._undo.append(lambda: self.delete_namespace(name))
        run("ip", "-n", name, "link", "set", "lo", "up")

    def delete_namespace(self, name):
        if Path("/run/netns", name).exists():
            run("ip", "netns", "delete", name)

    def next_address(self):
        return f"10.244.0.{next(self._addresses)}"

    def next_name(self, word):
        self._serial += 1
        return f"{self.name}-{word}-{self._serial}"

    def overlay(self, lower, name):
        """A fresh writable layer over a directory; returns where both are seen together."""
        places = {part: self.directory / "layers" / f"{name}-{part}" for part in ("upper", "work", "root")}
        for place in places.values():
            place.mkdir()
        options = f"lowerdir={lower},upperdir={places['upper']},workdir={places['work']}"
        run("mount", "-t", "overlay", "overlay", "-o", options, places["root"])
        return places["root"]

    def unmount(self, place):
        # Lazily, so that a process that is slow to die does not keep the mount.
        run("umount", "--lazy", place)

    def publish(self, name, address):
        """Adds the DNS record of a pod, or removes it if there is no address."""
        self._names[f"{name}.{DOMAIN}"] = address
        self._write_zone()

    def _write_zone(self):
        new = self.zone.with_suffix(".new")
        new.write_text(json.dumps({name: at for name, at in self._names.items() if at}))
        new.rename(self.zone)

    def pod(self, name, image, **more):
        """A pod of a stateful set; it has no container yet."""
        pod = Pod(self, name, image, **more)
        self.pods.append(pod)
        return pod


class Pod:
    """One pod; `place` gives it a network and address, `start` a container."""

    def __init__(self, node, name, image, command=None, read_only=False, env=None, empty_dirs=(), fs_group=True):
        self.node, self.name, self.image = node, name, image
        self.command = command or image.config["Cmd"]
        self.read_only, self.env, self.empty_dirs = read_only, env or {}, empty_dirs
        self.directory = node.directory / node.next_name(name)
        self.directory.mkdir()
        self.volume = self.directory / "volume"
        self.volume.mkdir()
        if fs_group:
            # What fsGroup: 1000 makes of a fresh volume.
            os.chown(self.volume, 0, USER)
            self.volume.chmod(0o2775)
        else:
            os.chown(self.volume, USER, USER)
        self.termination = self.directory / "termination-log"
        self.process = self.namespace = self.address = self.container = self.rootfs = None
        self.starts = 0

    def __repr__(self):
        return self.name

    def place(self, published=True):
        """Gives the pod a network and a new address, as scheduling does."""
        self.unplace()
        self.namespace = self.node.next_name(self.name)
        self.address = self.node.next_address()
        self.node.add_namespace(self.namespace)
        veth = f"veth{self.address.rsplit('.')[-1]}"
        self.node.ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        self.node.ip("link", "set", veth, "master", "br0", "up")
        run("ip", "-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", self.namespace, "link", "set", "eth0", "up")
        self._write_hosts()
        if published:
            self.publish()
        return self

    def publish(self, there=True):
        self.node.publish(self.name, self.address if there else None)

    def unplace(self):
        if self.namespace:
            self.publish(False)
            self.node.delete_namespace(self.namespace)
            self.namespace = None

    def _write_hosts(self):
        (self.directory / "hosts").write_text(
            "# Kubernetes-managed hosts file.\n"
            "127.0.0.1\tlocalhost\n"
            "::1\tlocalhost ip6-localhost ip6-loopback\n"
            f"{self.address}\t{self.name}.{DOMAIN}\t{self.name}\n"
        )
        service = DOMAIN.split(".", 2)[2]
        (self.directory / "resolv.conf").write_text(
            "nameserver 10.244.0.1\n"
            f"search default.{service} {service} {service.split('.', 1)[1]}\n"
            "options ndots:5\n"
        )

    def start(self):
        """Starts a container on a fresh root file system; volume, address and name stay."""
        assert self.process is None, f"{self} has a container already"
        self.container = self.node.next_name(f"{self.name}-c")
        self.rootfs = self.node.overlay(self.image.root, self.container)
        bundle = self.directory / self.container
        bundle.mkdir()
        self.termination.write_text("")
        self.termination.chmod(0o666)
        self.log = bundle / "log"
        self.errors = bundle / "stderr"
        (bundle / "config.json").write_text(json.dumps(self._spec(bundle)))
        with self.log.open("wb") as log, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*self._runc(), "run", "--bundle", bundle, self.container],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=errors,
            )
        self.starts += 1
        return self

    def _runc(self):
        return ["runc", "--root", self.node.directory / "runc"]

    def _spec(self, bundle):
        mounts = [
            _mount("/proc", "proc"),
            _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
            _mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            _bind("/etc/hosts", self.directory / "hosts"),
            _bind("/etc/resolv.conf", self.directory / "resolv.conf"),
            _bind("/var/lib/zookeeper", self.volume),
            _bind("/dev/termination-log", self.termination),
        ]
        for index, place in enumerate(self.empty_dirs):
            source = bundle / f"empty-{index}"
            source.mkdir()
            os.chown(source, 0, USER)
            source.chmod(0o2777)
            mounts.append(_bind(place, source))
        user, group = (int(word) for word in self.image.config["User"].split(":"))
        none = {kind: [] for kind in ("bounding", "effective", "permitted", "ambient", "inheritable")}
        env = {**self.image.env, "HOSTNAME": self.name, **self.env}
        return {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False,
                "user": {"uid": user, "gid": group, "additionalGids": [USER]},
                "args": self.command,
                "env": [f"{name}={value}" for name, value in env.items()],
                "cwd": self.image.config["WorkingDir"],
                "capabilities": none,
                "noNewPrivileges": True,
            },
            "root": {"path": str(self.rootfs), "readonly": self.read_only},
            "hostname": self.name,
            "mounts": mounts,
            "linux": {
                "namespaces": [
                    *({"type": kind} for kind in NAMESPACES),
                    {"type": "network", "path": f"/run/netns/{self.namespace}"},
                ],
                "cgroupsPath": f"/{self.container}",
                "maskedPaths": [f"/proc/{name}" for name in MASKED] + ["/sys/firmware"],
                "readonlyPaths": [f"/proc/{name}" for name in READ_ONLY],
            },
        }

    def exec(self, *words, limit=EXEC_LIMIT_S):
        """Runs a command in the container as `kubectl exec` does; the result has returncode, stdout, stderr."""
        words = [*self._runc(), "exec", self.container, *words]
        return subprocess.run(words, capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL)

    def says(self, *words):
        """The output of a command in the container that must succeed."""
        ended = self.exec(*words)
        assert ended.returncode == 0, f"{self}: {' '.join(words)}: {ended}"
        return ended.stdout

    def pid(self):
        """The container's PID 1, as the machine numbers it."""
        return json.loads(run(*self._runc(), "state", self.container))["pid"]

    def is_well(self):
        """What the kubelet's probe says, if it is `zookeeper-ready 2181`."""
        return self.process.poll() is None and self.exec("zookeeper-ready", "2181").returncode == 0

    def serves(self):
        """Whether it is part of a quorum."""
        return self.process.poll() is None and self.exec("oxkeeper", "ready", "2181").returncode == 0

    def wait_well(self, seconds=20):
        return self._wait(self.is_well, seconds, "is well")

    def wait_serves(self, seconds=30):
        return self._wait(self.serves, seconds, "serves")

    def _wait(self, condition, seconds, what):
        # A container that has ended will not become better.
        until(lambda: condition() or self.process.poll() is not None, seconds, lambda: f"{self} {what}")
        status = self.process.poll()
        assert status is None, f"{self} ended with status {status}; wanted: {what}"
        return self

    def said(self):
        """The end of what the container wrote, both streams."""
        return "".join(path.read_text(errors="replace")[-3000:] for path in (self.log, self.errors))

    def signal(self, number):
        run(*self._runc(), "kill", self.container, number)

    def ended(self, seconds=10):
        """Waits for the container's end and returns its exit status: 128 + n for a signal."""
        status = self.process.wait(seconds)
        self._clear()
        return status

    def terminate(self, seconds=30):
        self.signal("TERM")
        return self.ended(seconds)

    def kill(self):
        self.signal("KILL")
        return self.ended()

    def _clear(self):
        self.process = None
        self.node.unmount(self.rootfs)

    def delete(self):
        """Ends the pod whatever it does; its volume stays."""
        if self.process:
            if self.process.poll() is None:
                subprocess.run([*self._runc(), "delete", "--force", self.container], capture_output=True, timeout=20)
                try:
                    self.process.wait(5)
                except subprocess.TimeoutExpired:
                    self.process.send_signal(signal.SIGKILL)
                    self.process.wait(5)
            self._clear()
        self.unplace()


def _mount(place, kind, *options):
    return {"destination": place, "type": kind, "source": kind, "options": list(options)}


def _bind(place, source):
    return {"destination": place, "type": "bind", "source": str(source), "options": ["bind", "rprivate"]}


@contextmanager
def stateful_set(node, image, command, count=3, **more):
    """Pods zk-0 … of one kind, each with a network and none with a container."""
    pods = [node.pod(f"zk-{ordinal}", image, command=command, **more).place() for ordinal in range(count)]
    try:
        yield pods
    finally:
        for pod in pods:
            pod.delete()


if __name__ == "__main__":
    if reason := impossible():
        sys.exit(reason)
