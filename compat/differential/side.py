"""One server and the connections of a run to it."""

import re
import socket
import struct
import time

import rawclient
from rawclient import Client, Closed, Event, ops
from rawclient.client import connect_request, frame, read_accepted
from rawclient.jute import In, Malformed

from . import steps as dsl
from .normal import Normal

WAIT_S = 5.0
#: A connection that says nothing for so long after odd bytes is taken to stay open.
QUIET_S = 0.4
ROOT = "/t"
TIMEOUT_MS = 20000


class Side:
    def __init__(self, label, address):
        self.label, self.address = label, address
        self.keeper = None
        self.session_ends = False

    # A run.

    def begin(self):
        """Starts a run: an empty tree below ROOT, and a super user who watches over it."""
        self.clients, self.known = {}, {}
        self.keeper = Client.connect(self.address, WAIT_S, timeout_ms=TIMEOUT_MS)
        self.keeper.call(*ops.auth("digest", ops.SUPER_PASSWORD)).ok()
        self.keeper.call(*ops.create(ROOT)).ok()
        self.normal = Normal(self.keeper.ping().zxid)
        self.normal.sessions[self.keeper.session] = "keeper"

    def run(self, step):
        """Carries out a step; returns the lines both sides must agree on."""
        kind, *args = step
        self.session_ends = dsl.ends_session(step)
        lines = getattr(self, f"do_{kind}")(*args)
        return lines + self.settle()

    def finish(self):
        """Describes the whole tree, then ends all sessions and removes all nodes."""
        self.session_ends = False
        lines = []
        self.describe("/", lines)
        for client in self.clients.values():
            client.drop()
        for session, passwd in self.known.items():
            try:
                Client.connect(self.address, WAIT_S, session=session, passwd=passwd).close()
            except (Closed, OSError, AssertionError):
                pass
        self.keeper.call(*ops.set_acl("/")).ok()
        self.remove_below("/", spare={"/zookeeper"})
        self.remove_below("/zookeeper", spare={"/zookeeper/config", "/zookeeper/quota"})
        self.remove_below("/zookeeper/quota")
        self.remove_below("/zookeeper/config")
        self.keeper.close()
        return lines

    def describe(self, path, lines):
        data, stat = self.keeper.call(*ops.get_data(path)).ok()
        if path == "/zookeeper/config":
            data = b""
        acl, _ = self.keeper.call(*ops.get_acl(path)).ok()
        lines.append(f"node {ascii(path)} {self.normal.value(data)} {self.normal.stat(stat)}"
                     f" {self.normal.value(acl)}")
        for name in sorted(self.keeper.call(*ops.get_children(path)).ok()):
            self.describe(f"{path.rstrip('/')}/{name}", lines)

    def remove_below(self, path, spare=()):
        for name in sorted(self.keeper.call(*ops.get_children(path)).value or []):
            child = f"{path.rstrip('/')}/{name}"
            if child not in spare:
                self.remove_below(child)
                self.keeper.call(*ops.delete(child))

    # Steps. A step whose connection is missing does nothing, so that shrinking may drop any.

    def do_connect(self, name, fields):
        fields = dict(fields)
        of = self.clients.get(fields.pop("of", None))
        then, cut, tail = fields.pop("then", []), fields.pop("cut", None), fields.pop("tail", b"")
        half_close = fields.pop("half_close", False)
        request = {"timeout_ms": fields.pop("timeout", TIMEOUT_MS)}
        if of and of.accepted:
            request.update(session=of.session, passwd=of.passwd)
        if "last" in fields:
            request["last_zxid"] = dsl.zxid(fields.pop("last"), self.normal.base)
        request.update(fields)
        try:
            client = Client(self.address, WAIT_S)
        except Closed:
            return [f"{name}: refused (Closed)"]
        body = (connect_request(**request) + tail)[:cut]
        encoded = [dsl.send(client, req, self.normal.base) for req in then]
        try:
            client.send_raw(frame(body) + b"".join(data for _, data in encoded))
            if half_close:
                client.sock.shutdown(socket.SHUT_WR)
            answer = client.read_handshake()
        except (Closed, TimeoutError, Malformed) as error:
            client.drop()
            return [f"{name}: refused ({type(error).__name__})"]
        lines = [f"{name}: {self.normal.accepted(answer)}"]
        if answer.session == 0:
            return lines + self.until_closed(name, client)
        self.known[answer.session] = answer.passwd
        old = self.clients.get(name)
        self.clients[name] = client
        lines += self.replies(name, client, [xid for xid, _ in encoded])
        if old:
            # Also when its session is another one: this name now means the new connection.
            lines += self.until_closed(f"{name} before", old) \
                if old.accepted.session == answer.session else []
            old.drop()
        return lines

    def do_call(self, name, requests):
        client = self.clients.get(name)
        if client is None:
            return []
        encoded = [dsl.send(client, req, self.normal.base) for req in requests]
        try:
            client.send_raw(b"".join(data for _, data in encoded))
        except Closed:
            pass
        return self.replies(name, client, [xid for xid, _ in encoded])

    def do_close(self, name):
        client = self.clients.get(name)
        if client is None:
            return []
        lines = self.do_call(name, [("close_session",)])
        if name in self.clients:
            lines += self.until_closed(name, client)
            del self.clients[name]
        return lines

    def do_drop(self, name):
        client = self.clients.pop(name, None)
        if client:
            client.drop()
        return []

    def do_bytes(self, name, data):
        client = self.clients.pop(name, None)
        if client is None:
            return []
        client._op_of = lambda xid: None  # whatever comes is shown undecoded
        try:
            client.send_raw(data)
        except Closed:
            pass
        lines = self.until_closed(name, client, QUIET_S)
        client.drop()
        return lines

    def do_raw(self, data, half_close=False):
        try:
            sock = socket.create_connection(self.address, timeout=WAIT_S)
        except (BrokenPipeError, ConnectionResetError):
            return ["raw: closed"]  # already, see Client
        with sock:
            sock.settimeout(QUIET_S)
            answer, end = b"", "closed"
            try:
                sock.sendall(data)
                if half_close:
                    sock.shutdown(socket.SHUT_WR)
                while chunk := sock.recv(65536):
                    answer += chunk
            except TimeoutError:
                end = "stays open"
            except OSError:
                pass
        return [f"raw: {line}" for line in self.frames(answer)] + [f"raw: {end}"]

    def frames(self, answer):
        """What came back on a raw connection: a ConnectResponse, then headers."""
        lines = []
        while len(answer) >= 4:
            length = struct.unpack(">i", answer[:4])[0]
            if not 0 <= length <= len(answer) - 4:
                break
            payload, answer = answer[4:4 + length], answer[4 + length:]
            if not lines:
                accepted = read_accepted(payload)
                if accepted.session:
                    self.known[accepted.session] = accepted.passwd
                lines.append(self.normal.accepted(accepted))
            else:
                data = In(payload)
                lines.append(f"reply xid={data.int()} zxid={self.normal.zxid(data.long())}"
                             f" err={data.int()} {data.rest().hex()}")
        return lines + ([f"bytes {answer!r}"] if answer else [])

    def do_word(self, word):
        answer = rawclient.four_letter_word(self.address, word).decode(errors="replace")
        if word in ("srvr", "stat"):
            found = re.findall(r"^(Zxid|Mode|Node count): (.*)$", answer, re.M)
            found = [(key, self.normal.zxid(int(value, 16)) if key == "Zxid" else value)
                     for key, value in found]
            return [f"word {word}: {found}"]
        if word == "mntr":
            return [f"word {word}: {line}" for line in self.normal.base_metrics(answer)]
        if word in ("envi", "conf"):
            found = sorted(line.split("\t")[0].split("=")[0] for line in answer.splitlines())
            return [f"word {word}: {key}" for key in found]
        return [f"word {word}: {answer!r}"]

    def do_gone(self, path, seconds):
        deadline = time.monotonic() + seconds
        while self.keeper.call(*ops.exists(path)).err == 0:
            if time.monotonic() > deadline:
                return [f"{path} is still there"]
            time.sleep(0.02)
        return [f"{path} is gone"]

    def do_pause(self, seconds):
        time.sleep(seconds)
        return []

    # Receiving.

    def replies(self, name, client, xids):
        """Waits for these replies; lines of all that came, in order."""
        start = len(client.log)
        end, last = None, None
        try:
            for xid in xids:
                last = client.reply(xid, WAIT_S)
            if last is not None and closes(last):
                return self.lines(name, client, start) + self.lost(name, client)
        except Closed:
            end = "closed"
        except TimeoutError:
            end = "no reply in time"
        except (Malformed, ValueError, AssertionError) as error:
            end = f"nonsense: {error}"
        lines = self.lines(name, client, start)
        if end:
            self.clients.pop(name, None)
            client.drop()
            lines.append(f"{name}: {end}")
        return lines

    def lost(self, name, client):
        """After a reply that announces the end: the connection must be closed now."""
        self.clients.pop(name, None)
        lines = self.until_closed(name, client)
        client.drop()
        return lines

    def until_closed(self, name, client, timeout=2.0):
        start, end = len(client.log), "closed"
        try:
            client.until_closed(timeout)
        except TimeoutError:
            end = "stays open"
        except (Malformed, ValueError, AssertionError) as error:
            end = f"nonsense: {error}"
        return self.lines(name, client, start) + [f"{name}: {end}"]

    def lines(self, name, client, start):
        items = client.log[start:]
        client.events.clear()
        # Authentication may be answered ahead of its turn (section 3.3, rule 6).
        auths = [item for item in items if not isinstance(item, Event) and item.op == ops.AUTH]
        others = [item for item in items if item not in auths]
        lines = self.normal.lines(auths + others, self.session_ends)
        return [f"{name}: {line}" for line in lines]

    def settle(self):
        """Collects the notifications of all connections, behind a ping on each."""
        lines, waiting = [], []
        for name, client in list(self.clients.items()):
            try:
                client.send(*ops.ping())
            except Closed:
                pass
            waiting.append((name, client))
        for name, client in waiting:
            start, end = len(client.log), None
            try:
                client.reply(ops.XID_PING, WAIT_S)
            except Closed:
                end = "closed"
            except TimeoutError:
                end = "no reply to ping"
            seen = client.log[start:]
            client.events.clear()
            events = self.normal.lines([item for item in seen if isinstance(item, Event)],
                                       self.session_ends)
            found = [f"{name}: {line}" for line in events]
            found += [f"{name}: ping zxid={self.normal.zxid(item.zxid)}" for item in seen
                      if not isinstance(item, Event)]
            if end:
                found.append(f"{name}: {end}")
                del self.clients[name]
                client.drop()
            lines += found
        return lines


def closes(reply):
    """Replies after which the server closes the connection (sections 4, 11.5)."""
    unknown = reply.err == ops.UNIMPLEMENTED and reply.zxid == -1
    return unknown or reply.err == ops.AUTH_FAILED or reply.op == ops.CLOSE_SESSION
