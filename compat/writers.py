"""Steady writers that record what was acknowledged and when."""

import threading
import time

import rawclient

PERIOD_S = 0.005
REPLY_LIMIT_S = 1.0
SESSION_TIMEOUT_MS = 10000


class Writer(threading.Thread):
    """Creates root/0, root/1, ... one at a time, on any server that answers. Never repeats a number.

    A create whose reply did not arrive is neither acknowledged nor retried: it may exist or not. It reconnects at
    once, resuming its session, so that gaps between acknowledgements are the servers' and not the client's.
    """

    def __init__(self, ports, root):
        super().__init__(daemon=True)
        self.ports = list(ports)
        self.root = root
        self.client = None
        self.session = {}  # what a connect request needs to resume
        self.acked = []  # (name, monotonic time of the reply)
        self.refused = []  # (name, error code): never expected
        self.stopping = threading.Event()

    def run(self):
        number = 0
        while not self.stopping.is_set():
            try:
                self.connect()
                name, number = str(number), number + 1
                self.write(name)
            except (OSError, rawclient.Closed):
                self.drop()
            time.sleep(PERIOD_S)
        if self.client is not None:
            self.client.wait_s = 5
            try:
                self.client.close()
            except (OSError, rawclient.Closed):
                self.client.drop()

    def connect(self):
        if self.client is not None:
            return
        address = ("127.0.0.1", self.ports[0])
        client = rawclient.Client.connect(address, REPLY_LIMIT_S, timeout_ms=SESSION_TIMEOUT_MS, **self.session)
        if client.accepted.timeout <= 0:  # expired: the next attempt makes a new session
            self.session = {}
            client.drop()
            raise rawclient.Closed("session expired")
        self.session |= {"session": client.session, "passwd": client.passwd}
        self.client = client

    def write(self, name):
        reply = self.client.call(*rawclient.create(f"{self.root}/{name}", name.encode()))
        if reply.zxid > 0:
            self.session["last_zxid"] = reply.zxid
        if reply.err == rawclient.OK:
            self.acked.append((name, time.monotonic()))
        else:
            self.refused.append((name, reply.err))

    def drop(self):
        """Leaves this server for the next one, keeping the session."""
        if self.client is not None:
            self.client.drop()
            self.client = None
        self.ports.append(self.ports.pop(0))


class Writers:
    """Four writers, spread over the servers; a context manager."""

    def __init__(self, ensemble, client, root, count=4):
        ports = [server.client_port for server in ensemble]
        self.members = []
        client.ensure_path(root)
        for index in range(count):
            path = f"{root}/writer-{index}"
            client.create(path, b"")
            first = index % len(ports)
            self.members.append(Writer(ports[first:] + ports[:first], path))

    def __enter__(self):
        for writer in self.members:
            writer.start()
        self.wait_progress(time.monotonic(), 20)
        return self

    def __exit__(self, *_):
        for writer in self.members:
            writer.stopping.set()
        for writer in self.members:
            writer.join(20)
            assert not writer.is_alive(), f"the writer of {writer.root} hangs"

    def wait_progress(self, since, seconds, writes=20):
        """Waits until each writer has had `writes` acknowledgements after `since`."""
        end = time.monotonic() + seconds
        for writer in self.members:
            while len(writer.acked) < writes or writer.acked[-writes][1] < since:
                assert time.monotonic() < end, f"no progress of the writer of {writer.root} within {seconds} s"
                time.sleep(0.01)

    def acknowledged(self):
        return sum(len(writer.acked) for writer in self.members)

    def longest_gap_s(self):
        """The longest time in which no writer got an acknowledgement."""
        times = sorted(at for writer in self.members for _, at in writer.acked)
        return max(later - earlier for earlier, later in zip(times, times[1:]))

    def lost(self, client):
        """Acknowledged writes that the client's server does not have, after a sync."""
        missing = []
        for writer in self.members:
            client.sync(writer.root)
            present = set(client.get_children(writer.root))
            missing += [f"{writer.root}/{name}" for name, _ in writer.acked if name not in present]
        return missing

    def assert_sound(self, clients):
        refused = [entry for writer in self.members for entry in writer.refused]
        assert not refused, f"creates of fresh names were refused: {refused[:5]}"
        for client in clients:
            assert not (missing := self.lost(client)), f"{client.hosts} lost {len(missing)} writes: {missing[:5]}"
