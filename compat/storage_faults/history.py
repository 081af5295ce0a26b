"""Three data directories with a history of several epochs, of which every acknowledged write is known.

A history is made once and copied for each trial. It is kept with what was acknowledged in a folder of its own, so that
a trial can be repeated on the very same bytes (`--work`).
"""

import fcntl
import json
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import rawclient
from harness import Ensemble, end_all, until
from rawclient import ops

from . import tree

#: Small enough that every epoch leaves several logs and snapshots.
SETTINGS = {"snapCount": 40, "preAllocSize": 64, "initLimit": 20, "syncLimit": 10}
LARGE = 900_000
WRITES = 70
#: Writes sent at once before the end, and the time they have at most.
BURST, BURST_S = 60, 0.01
SIDS = (1, 2, 3)


@dataclass(frozen=True)
class Shape:
    """How a history ends, and what is in it."""

    lagging: bool  # one member was stopped before the last acknowledged writes
    signal: str  # what ended the servers: KILL or TERM
    large: bool  # with records of almost the largest size
    burst: bool  # killed in the middle of writes: some are logged that nobody acknowledged


SHAPES = [
    Shape(lagging=False, signal="KILL", large=False, burst=True),
    Shape(lagging=True, signal="KILL", large=False, burst=False),
    Shape(lagging=False, signal="TERM", large=True, burst=False),
    Shape(lagging=True, signal="TERM", large=True, burst=False),
    Shape(lagging=True, signal="KILL", large=False, burst=True),
    Shape(lagging=False, signal="TERM", large=False, burst=False),
    Shape(lagging=True, signal="TERM", large=False, burst=False),
    Shape(lagging=True, signal="KILL", large=True, burst=True),
]


class History:
    """A finished one on disk."""

    def __init__(self, directory):
        self.directory = Path(directory)
        facts = json.loads((self.directory / "facts.json").read_text())
        self.shape, self.lagging, self.acked = Shape(**facts["shape"]), facts["lagging"], facts["acked"]

    def data(self, sid):
        return self.directory / f"server{sid}" / "data"


def make(kind, work, seed, number):
    """The history of this number, made if it is not there yet."""
    directory = Path(work) / f"history-{kind}-{seed}-{number}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "facts.json").exists():
            Maker(kind, directory, random.Random(f"{seed}:{number}"), SHAPES[number % len(SHAPES)]).make()
    return History(directory)


class Maker:
    def __init__(self, kind, directory, rng, shape):
        self.kind, self.directory, self.rng, self.shape = kind, directory, rng, shape
        self.acked = {}  # path -> (summary, version), or None if deleted
        self.doubtful = set()
        self.number = 0

    def make(self):
        self.group = Ensemble([self.kind] * len(SIDS), self.directory / "making", SETTINGS)
        try:
            lagging = self.write_epochs()
        finally:
            end_all()
            for server in self.group:
                server.release_ports()
        for server in self.group:
            shutil.copytree(server.data, self.directory / f"server{server.sid}" / "data", dirs_exist_ok=True)
        acked = {path: value for path, value in self.acked.items() if path not in self.doubtful}
        facts = {"shape": self.shape.__dict__, "lagging": lagging, "acked": acked}
        (self.directory / "facts.json").write_text(json.dumps(facts))

    def write_epochs(self):
        group = self.group.start(60)
        self.write(WRITES)
        leader = group.leader()
        leader.kill()
        group.wait_serving(60)
        self.write(WRITES)
        leader.start()
        group.wait_serving(60)
        self.end_servers("TERM")
        group.start(60)
        self.write(WRITES)
        lagging = None
        if self.shape.lagging:
            late = self.rng.choice(group.servers)
            late.kill() if self.rng.random() < 0.5 else late.stop()
            group.wait_serving(60)
            lagging = late.sid
        self.write(WRITES // 2)
        self.end_servers(self.shape.signal, self.shape.burst)
        return lagging

    def end_servers(self, name, burst=False):
        with self.connect() as client:
            requests = [self.create() for _ in range(BURST if burst else 0)]
            xids = client.send_all([request for _, request in requests])
            time.sleep(self.rng.random() * BURST_S)
            running = self.group.running()
            for server in running:
                server.signal(getattr(signal, f"SIG{name}"))
            for server in running:
                server.wait_exit(20)
            self.take_replies(client, dict(zip(xids, (path for path, _ in requests))))

    def take_replies(self, client, paths):
        """What was answered before the end is acknowledged; of the others nobody knows."""
        waiting = dict(paths)
        try:
            for xid in paths:
                client.reply(xid, 5).ok()
                del waiting[xid]
        except (rawclient.Closed, TimeoutError):
            self.doubtful |= set(waiting.values())

    def connect(self):
        def connected():
            for server in self.rng.sample(self.group.running(), len(self.group.running())):
                try:
                    return rawclient.Client.connect(("127.0.0.1", server.client_port), 10, timeout_ms=10000)
                except (OSError, rawclient.Closed):
                    continue
            return None

        return until(connected, 30, "a server takes a session")

    def write(self, count):
        """So many writes, every one acknowledged, in batches of several."""
        with self.connect() as client:
            if not self.acked:
                client.call(*ops.create(tree.ROOT)).ok()
            while count > 0:
                batch = [self.draw() for _ in range(min(count, self.rng.randint(1, 12)))]
                count -= len(batch)
                for reply in client.call_all([request for _, request in batch]):
                    reply.ok()
            client.close()

    def draw(self):
        """A write, entered as acknowledged: the caller fails if it is not."""
        there = [path for path, value in self.acked.items() if value is not None]
        what = self.rng.random()
        if what < 0.55 or len(there) < 10:
            path, request = self.create()
            return path, request
        path = self.rng.choice(there)
        if what < 0.9:
            data = self.data()
            self.acked[path] = (tree.summary(data), self.acked[path][1] + 1)
            return path, ops.set_data(path, data)
        self.acked[path] = None
        return path, ops.delete(path)

    def create(self):
        path, data = f"{tree.ROOT}/n{self.number}", self.data()
        self.number += 1
        self.acked[path] = (tree.summary(data), 0)
        return path, ops.create(path, data)

    def data(self):
        if self.shape.large and self.rng.random() < 0.03:
            return self.rng.randbytes(LARGE)
        return self.rng.randbytes(self.rng.randint(0, 300))
