"""Steps: plain tuples, so that a trace can be printed, stored and replayed.

    ("connect", name, fields)     a new connection; it makes a session, or presents one
    ("call", name, [request...])  requests of that connection, sent with one write
    ("close", name)               closeSession
    ("drop", name)                closes the socket only
    ("raw", bytes, half_close)    a fresh connection that sends just these bytes
    ("bytes", name, bytes)        bytes on an existing connection, as they are
    ("word", text)                a four-letter word
    ("gone", path, seconds)       waits until the node is gone, then goes on
    ("pause", seconds)

A request is (builder of rawclient.ops, *arguments), or ("body", op, bytes) for a body that
no builder makes, or ("xid", xid, request). Zxids in requests count from the start of the run,
so that they mean the same on both sides; a string, as in "=5", stands for the number itself.

Fields of connect: `of` names the connection whose session is presented; `session`, `passwd`,
`last` (zxid), `timeout`, `read_only` (None: no such byte), `version` replace what would be
sent; `cut` and `tail` shorten and lengthen the body; `then` are requests that follow in
the same write.
"""

import ast

from rawclient import ops
from rawclient.client import frame, request

#: Requests that must end a batch: the server stops reading after them at a time of its own.
CLOSING = "closing"


def encode(req, base):
    """(op, body) of a request; `base` is the zxid that counts as 0."""
    name, *args = req
    if name == "body":
        return args[0], args[1]
    if name in ("multi", "multi_read"):
        parts = [encode(part, base) for part in args[0]]
        return ops.multi(parts, ops.MULTI if name == "multi" else ops.MULTI_READ)
    if name in ("set_watches", "set_watches2"):
        args[0] = zxid(args[0], base)
    return getattr(ops, name)(*args)


def zxid(value, base):
    return int(value[1:]) if isinstance(value, str) else base + value


def send(client, req, base):
    """Encodes a request with the client's next xid; returns (expected xid, frame)."""
    if req[0] == "xid":
        op, body = encode(req[2], base)
        return client.encode(op, body, req[1])
    op, body = encode(req, base)
    return client.encode(op, body)


def ends_session(step):
    """Whether a session may end in this step, and its ephemerals with it."""
    kind, *args = step
    if kind == "call":
        requests = args[1]
    elif kind == "connect":
        requests = dict(args[1]).get("then", [])
    else:
        return kind in ("close", "gone")
    return any((req[2] if req[0] == "xid" else req)[0] == "close_session" for req in requests)


def dump(steps):
    """The text form of steps, one a line."""
    return "".join(f"{plain(step)!r}\n" for step in steps)


def plain(value):
    """Named tuples as mere tuples, which `load` can read; an ACL entry needs no more."""
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def load(text):
    return [ast.literal_eval(line) for line in text.splitlines() if line.strip()]


__all__ = ["encode", "zxid", "send", "dump", "load", "frame", "request"]
