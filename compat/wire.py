"""The client protocol by hand, for what a well-behaved client library would not do or would do too late.

`Session` reconnects at once and never sleeps by itself, so gaps in service can be measured with it; the functions
build frames, also broken ones. Layouts: docs/spec/client-protocol.md, sections 1, 2 and 5.
"""

import socket
import struct

CREATE, EXISTS, GET_DATA, PING, CLOSE = 1, 3, 4, 11, -11
OK, NO_NODE, NODE_EXISTS = 0, -101, -110
EVERYTHING_FOR_ANYONE = struct.pack(">ii", 1, 31) + struct.pack(">i5s", 5, b"world") + struct.pack(">i6s", 6, b"anyone")


def buffer(data):
    return struct.pack(">i", len(data)) + data


def frame(body):
    return struct.pack(">i", len(body)) + body


def request(xid, op, body=b""):
    return frame(struct.pack(">ii", xid, op) + body)


def create(xid, path, data=b"", flags=0):
    return request(xid, CREATE, buffer(path.encode()) + buffer(data) + EVERYTHING_FOR_ANYONE + struct.pack(">i", flags))


def get_data(xid, path, watch=False):
    return request(xid, GET_DATA, buffer(path.encode()) + bytes([watch]))


def connect_request(timeout_ms=10000, session=0, password=bytes(16), last_zxid=0):
    return frame(struct.pack(">iqiq", 0, last_zxid, timeout_ms, session) + buffer(password) + b"\0")


def read_exactly(conn, count):
    data = b""
    while len(data) < count:
        block = conn.recv(count - len(data))
        if not block:
            raise ConnectionError("closed by the server")
        data += block
    return data


def read_frame(conn):
    (length,) = struct.unpack(">i", read_exactly(conn, 4))
    return read_exactly(conn, length)


class Session:
    """One session over whichever of `ports` answers; one request at a time."""

    def __init__(self, ports, timeout_ms=10000):
        self.ports = list(ports)
        self.timeout_ms = timeout_ms
        self.session, self.password = 0, bytes(16)
        self.last_zxid = 0
        self.conn = None
        self.xid = 0

    def connect_once(self, seconds):
        """One attempt on the first port; on failure that port goes to the end of the list."""
        port = self.ports[0]
        try:
            conn = socket.create_connection(("127.0.0.1", port), timeout=seconds)
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn.sendall(connect_request(self.timeout_ms, self.session, self.password, self.last_zxid))
            reply = read_frame(conn)
        except OSError:
            self.ports.append(self.ports.pop(0))
            return False
        _protocol, timeout_ms, session = struct.unpack_from(">iiq", reply)
        if timeout_ms <= 0:  # expired: start a new session at the next attempt
            self.session, self.password = 0, bytes(16)
            conn.close()
            return False
        self.session, self.password, self.conn = session, reply[20:36], conn
        return True

    def call(self, make_request, seconds):
        """Sends one request over the open connection; returns (error, body). OSError when the connection ends."""
        self.xid += 1
        self.conn.settimeout(seconds)
        self.conn.sendall(make_request(self.xid))
        while True:
            reply = read_frame(self.conn)
            xid, zxid, error = struct.unpack_from(">iqi", reply)
            if xid == self.xid:
                if zxid > 0:
                    self.last_zxid = zxid
                return error, reply[16:]

    def drop(self):
        """Closes the connection, keeps the session; the next attempt goes to another server."""
        if self.conn is not None:
            self.conn.close()
            self.conn = None
            self.ports.append(self.ports.pop(0))

    def close(self):
        if self.conn is not None:
            try:
                self.call(lambda xid: request(xid, CLOSE), 5)
            except OSError:
                pass
            self.conn.close()
            self.conn = None
