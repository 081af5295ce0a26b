"""A blocking client connection that shows every byte of the conversation."""

import socket
import struct
import time
from collections import namedtuple

from . import ops
from .jute import In, Out

#: A notification as it arrived: header zxid and err, then the WatcherEvent.
Event = namedtuple("Event", "type state path zxid err")
Accepted = namedtuple("Accepted", "version timeout session passwd read_only size")

NO_PASSWORD = bytes(16)


class Closed(Exception):
    """The server closed the connection, or reset it."""


class Reply:
    """One reply: header fields, raw body, and the decoded `value` when `err` is 0."""

    def __init__(self, op, xid, zxid, err, body):
        self.op, self.xid, self.zxid, self.err, self.body = op, xid, zxid, err, body
        self.value, self.rest = (None, body)
        if err == 0:
            self.value, self.rest = ops.read_reply(op, body)

    def ok(self):
        """The decoded value; fails if the reply is an error."""
        assert self.err == 0, f"{ops.OP_NAMES.get(self.op, self.op)} answered {self.err}"
        return self.value

    def __repr__(self):
        name = ops.OP_NAMES.get(self.op, self.op)
        return f"Reply({name} xid={self.xid} zxid={self.zxid} err={self.err} {self.value!r})"


def frame(payload):
    return struct.pack(">i", len(payload)) + payload


def request(op, body, xid):
    """A complete request frame."""
    return frame(struct.pack(">ii", xid, op) + body)


def connect_request(timeout_ms=20000, session=0, passwd=NO_PASSWORD, last_zxid=0,
                    read_only=False, version=0):
    """Body of a ConnectRequest (section 2.4); `read_only=None` leaves that byte out."""
    out = Out().int(version).long(last_zxid).int(timeout_ms).long(session).buffer(passwd)
    if read_only is not None:
        out.bool(read_only)
    return out.bytes()


def read_accepted(payload):
    data = In(payload)
    fields = [data.int(), data.int(), data.long(), data.buffer()]
    read_only = data.bool() if data.rest() else None
    return Accepted(*fields, read_only, len(payload))


class Client:
    """One TCP connection to a server; usually one session.

    `log` holds everything received after the handshake in order of arrival; `events` the
    notifications that no test has taken yet.
    """

    def __init__(self, address, wait_s=10.0):
        self.address = address
        self.wait_s = wait_s
        try:
            self.sock = socket.create_connection(address, timeout=wait_s)
        except (BrokenPipeError, ConnectionResetError) as error:
            # A server that closes what it has just accepted may be faster than our connect.
            raise Closed(str(error)) from error
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.pending = []
        self.replies = []
        self.events = []
        self.log = []
        self.next_xid = 1
        self.accepted = None

    @classmethod
    def connect(cls, address, wait_s=10.0, **fields):
        """Connects and makes (or renews) a session; `Closed` if the server just closes."""
        client = cls(address, wait_s)
        try:
            client.handshake(**fields)
        except BaseException:
            client.drop()
            raise
        return client

    def handshake(self, **fields):
        self.send_raw(frame(connect_request(**fields)))
        return self.read_handshake()

    def read_handshake(self):
        self.accepted = read_accepted(self.recv_frame())
        return self.accepted

    @property
    def session(self):
        return self.accepted.session

    @property
    def passwd(self):
        return self.accepted.passwd

    def resume(self, address=None, **fields):
        """A new connection that presents this session."""
        return Client.connect(address or self.address, session=self.session,
                              passwd=self.passwd, **fields)

    # Sending.

    def send_raw(self, data):
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Closed(str(error)) from error

    def encode(self, op, body=b"", xid=None):
        """The xid of the reply, awaited from now on, and the request's frame."""
        if xid is None:
            xid = ops.FIXED_XIDS.get(op)
        if xid is None:
            xid = self.next_xid
            self.next_xid += 1
        # A ping is answered with xid -2 whatever xid it came with.
        expected = ops.XID_PING if op == ops.PING else xid
        self.pending.append((expected, op))
        return expected, request(op, body, xid)

    def send(self, op, body=b"", xid=None):
        xid, data = self.encode(op, body, xid)
        self.send_raw(data)
        return xid

    def send_all(self, requests):
        """Sends several requests with one write; returns their xids."""
        encoded = [self.encode(op, body) for op, body in requests]
        self.send_raw(b"".join(data for _, data in encoded))
        return [xid for xid, _ in encoded]

    # Receiving.

    def recv_frame(self, timeout=None):
        """The next frame without its length; `TimeoutError` if none comes in time."""
        deadline = time.monotonic() + (self.wait_s if timeout is None else timeout)
        while True:
            if len(self.buffer) >= 4:
                length = struct.unpack(">i", self.buffer[:4])[0]
                if len(self.buffer) >= 4 + length:
                    payload = self.buffer[4:4 + length]
                    self.buffer = self.buffer[4 + length:]
                    return payload
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no frame from the server in time")
            self.sock.settimeout(left)
            try:
                chunk = self.sock.recv(1 << 16)
            except socket.timeout:
                raise TimeoutError("no frame from the server in time") from None
            except OSError as error:
                raise Closed(str(error)) from error
            if not chunk:
                raise Closed("end of stream")
            self.buffer += chunk

    def recv(self, timeout=None):
        """The next reply or notification."""
        payload = self.recv_frame(timeout)
        data = In(payload)
        xid, zxid, err = data.int(), data.long(), data.int()
        if xid == ops.XID_EVENT:
            item = Event(data.int(), data.int(), data.string(), zxid, err)
            assert not data.rest(), f"bytes after a WatcherEvent: {data.rest().hex()}"
            self.events.append(item)
        else:
            item = Reply(self._op_of(xid), xid, zxid, err, data.rest())
            self.replies.append(item)
        self.log.append(item)
        return item

    def _op_of(self, xid):
        for index, (pending_xid, op) in enumerate(self.pending):
            if pending_xid == xid:
                del self.pending[index]
                return op
        raise AssertionError(f"reply with xid {xid}, which nothing asked for")

    def reply(self, xid, timeout=None):
        """The reply with this xid; notifications met on the way go to `events`."""
        while True:
            for index, item in enumerate(self.replies):
                if item.xid == xid:
                    return self.replies.pop(index)
            self.recv(timeout)

    def call(self, op, body=b"", xid=None, timeout=None):
        return self.reply(self.send(op, body, xid), timeout)

    def call_all(self, requests):
        """Pipelines the requests and returns their replies."""
        return [self.reply(xid) for xid in self.send_all(requests)]

    def ping(self):
        return self.call(*ops.ping())

    def take_events(self, barrier=True):
        """Notifications so far. With `barrier`, first waits until none can be under way:
        a reply follows every notification of what it reflects (section 3.3)."""
        if barrier:
            self.ping()
        taken, self.events = self.events, []
        return taken

    def wait_event(self, timeout=5.0):
        """The next notification, taken; waits for it."""
        deadline = time.monotonic() + timeout
        while not self.events:
            self.recv(max(0.001, deadline - time.monotonic()))
        return self.events.pop(0)

    def until_closed(self, timeout=5.0):
        """Everything that arrives until the server closes; `TimeoutError` if it does not."""
        deadline = time.monotonic() + timeout
        items = []
        while True:
            try:
                items.append(self.recv(max(0.001, deadline - time.monotonic())))
            except Closed:
                return items

    # Ending.

    def close(self):
        """Ends the session in the orderly way; returns the reply."""
        reply = self.call(*ops.close_session())
        self.drop()
        return reply

    def drop(self):
        """Closes the socket only; the session lives on until its timeout."""
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.drop()


def four_letter_word(address, word, timeout=5.0, half_close=False):
    """The answer to a four-letter word, as bytes (section 2.2)."""
    with socket.create_connection(address, timeout=timeout) as sock:
        sock.sendall(word.encode() if isinstance(word, str) else word)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        answer = b""
        while True:
            try:
                chunk = sock.recv(1 << 16)
            except ConnectionError:
                return answer
            if not chunk:
                return answer
            answer += chunk
