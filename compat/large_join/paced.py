"""Writes at a steady pace, whatever the servers do: a write is late from when it was due, not from when it was sent."""

import multiprocessing
import selectors
import struct
import time

import rawclient
from rawclient import ops
from rawclient.client import request

ROOT = "/paced"
ZNODES, SIZE = 1000, 100
CONNECTIONS = 16
SESSION_TIMEOUT_MS = 20000
#: A connection that owes so many answers is given no more: these writes are late, and counted so when sent.
LONGEST_QUEUE = 2000
IDLE_S = 0.001
#: Answers to those still under way at the end are waited for so long.
LAST_S = 5
#: Length, xid, zxid, error.
REPLY_HEADER = 20


def prepare(port):
    with rawclient.Client.connect(("127.0.0.1", port)) as client:
        client.call(*ops.create(ROOT)).ok()
        for reply in client.call_all([ops.create(f"{ROOT}/{number}") for number in range(ZNODES)]):
            reply.ok()
        client.close()


class Connection:
    """One session; `due` holds when each unanswered write should have been sent."""

    def __init__(self, port, selector):
        self.client = rawclient.Client.connect(("127.0.0.1", port), 3, timeout_ms=SESSION_TIMEOUT_MS)
        self.socket, self.selector = self.client.sock, selector
        self.socket.setblocking(False)
        self.due, self.first, self.output, self.input = {}, 1, b"", b""
        selector.register(self.socket, selectors.EVENT_READ, self)

    def write(self, due, body):
        self.output += request(ops.SET_DATA, body, self.first)
        self.due[self.first] = due
        self.first += 1

    def send(self):
        if self.output:
            try:
                self.output = self.output[self.socket.send(self.output) :]
            except BlockingIOError:
                pass

    def receive(self):
        """When the answered writes were due; an error is `OSError`."""
        block = self.socket.recv(1 << 18)
        if not block:
            raise ConnectionResetError("closed by the server")
        self.input += block
        at, answered = 0, []
        while len(self.input) >= at + REPLY_HEADER:
            length, xid, _zxid, error = struct.unpack_from(">iiqi", self.input, at)
            if len(self.input) < at + 4 + length:
                break
            if error:
                raise ConnectionError(f"setData answered {error}")
            answered.append(self.due.pop(xid))
            at += 4 + length
        self.input = self.input[at:]
        return answered

    def close(self):
        self.selector.unregister(self.socket)
        self.client.drop()


class Paced:
    """A process that writes `rate` times a second to these servers, from entering until `stop`."""

    def __init__(self, ports, rate):
        self.ports, self.rate = ports, rate
        self.parent, child = multiprocessing.Pipe()
        # Forked: the parent has no other thread.
        self.process = multiprocessing.get_context("fork").Process(target=self.run, args=(child,), daemon=True)
        self.process.start()

    def stop(self):
        """[(time of the answer, how late in s)] and the number of writes without an answer."""
        self.parent.send(None)
        found = self.parent.recv()
        self.process.join(10)
        return found

    def run(self, pipe):
        self.selector = selectors.DefaultSelector()
        self.bodies = [ops.set_data(f"{ROOT}/{number}", bytes(SIZE))[1] for number in range(ZNODES)]
        self.connections, self.answers, self.lost, self.number = [None] * CONNECTIONS, [], 0, 0
        self.began = time.monotonic()
        while not pipe.poll():
            self.issue()
            self.exchange()
        end = time.monotonic() + LAST_S
        while time.monotonic() < end and self.unanswered():
            self.exchange()
        pipe.send((self.answers, self.lost + self.unanswered()))

    def issue(self):
        """Gives every write that is due to its connection."""
        self.connections = [was or self.connect(at) for at, was in enumerate(self.connections)]
        now = time.monotonic()
        while (due := self.began + self.number / self.rate) <= now:
            connection = self.connections[self.number % CONNECTIONS]
            if connection is None or len(connection.due) > LONGEST_QUEUE:
                return
            connection.write(due, self.bodies[self.number % ZNODES])
            self.number += 1

    def exchange(self):
        ready = [key.data for key, _ in self.selector.select(IDLE_S)]
        for at, connection in enumerate(self.connections):
            if connection is None:
                continue
            try:
                connection.send()
                due = connection.receive() if connection in ready else []
                now = time.monotonic()
                self.answers += [(now, now - moment) for moment in due]
            except OSError:
                self.lost += len(connection.due)
                connection.close()
                self.connections[at] = None

    def unanswered(self):
        return sum(len(connection.due) for connection in self.connections if connection)

    def connect(self, at):
        try:
            return Connection(self.ports[at % len(self.ports)], self.selector)
        except (OSError, rawclient.Closed):
            return None
