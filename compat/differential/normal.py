"""Turns what a server said into lines that two servers must agree on.

Time stamps are replaced by the transaction they belong to, session ids by the order in
which they appeared, zxids by their distance from the start of the run. What protocol
leaves unordered is sorted.
"""

import time

from rawclient import Event, ops

UNORDERED = {ops.GET_CHILDREN, ops.GET_EPHEMERALS, ops.WHO_AM_I}
FAR_MS = 120_000


class Normal:
    def __init__(self, base):
        self.base = base
        self.sessions = {}
        self.times = {}

    def zxid(self, value):
        if value <= 0:
            return str(value)
        return f"+{value - self.base}" if value > self.base else "old"

    def session(self, value):
        if value == 0:
            return "0"
        return self.sessions.get(value, f"unknown:{value:#x}")

    def name_session(self, value):
        self.sessions.setdefault(value, f"S{len(self.sessions) + 1}")
        return self.sessions[value]

    def time(self, value, zxid):
        """A time must belong to its transaction: equal wherever that zxid shows."""
        if zxid <= 0 or zxid <= self.base:
            return "old"
        if abs(value - time.time() * 1000) > FAR_MS:
            return f"far:{value}"
        known = self.times.setdefault(zxid, value)
        return "ok" if known == value else f"differs-from-its-transaction:{value - known}"

    def stat(self, stat):
        times = {self.time(stat.ctime, stat.czxid), self.time(stat.mtime, stat.mzxid)}
        times -= {"ok", "old"}
        return (f"[cz{self.zxid(stat.czxid)} mz{self.zxid(stat.mzxid)} pz{self.zxid(stat.pzxid)}"
                f" v{stat.version} cv{stat.cversion} av{stat.aversion}"
                f" owner={self.session(stat.ephemeralOwner)} len{stat.dataLength}"
                f" kids{stat.numChildren}{' TIME ' + ' '.join(sorted(times)) if times else ''}]")

    def value(self, value, op=None):
        if isinstance(value, ops.Stat):
            return self.stat(value)
        if isinstance(value, ops.Result):
            return f"{{{value.type} err={value.err} {self.value(value.value, value.type)}}}"
        if isinstance(value, ops.ACL):
            return f"{value.perms}:{value.scheme}:{value.id}"
        if isinstance(value, list):
            items = [self.value(item) for item in value]
            return "[" + ", ".join(sorted(items) if op in UNORDERED else items) + "]"
        if isinstance(value, tuple):
            first = ops.GET_CHILDREN if op == ops.GET_CHILDREN2 else None
            return " ".join(self.value(item, first) for item in value)
        if isinstance(value, bytes) and len(value) > 80:
            return f"<{len(value)} bytes {hash(value) & 0xffff:04x}>"
        return ascii(value)

    def line(self, item):
        if isinstance(item, Event):
            err = f" err={item.err}" if item.err else ""
            return (f"event {item.type} state={item.state} {ascii(item.path)}"
                    f" zxid={self.zxid(item.zxid)}{err}")
        name = ops.OP_NAMES.get(item.op, item.op)
        # A multiRead that meets a null path answers -5 and, unlike any other error, a body.
        ignored = item.op == ops.MULTI_READ and item.err == ops.MARSHALLING_ERROR
        rest = f" LEFT OVER {item.rest.hex()}" if item.rest and not ignored else ""
        zxid = self.zxid(item.zxid) if item.zxid > 0 else item.zxid
        return (f"reply {name} xid={item.xid} zxid={zxid} err={item.err}"
                f" {self.value(item.value, item.op)}{rest}")

    def accepted(self, answer):
        """A ConnectResponse; new session ids get their names here."""
        if answer.session == 0:
            who = "session=0"
        else:
            known = answer.session in self.sessions
            who = ("session=" if known else "new ") + self.name_session(answer.session)
            right = answer.passwd == ops.password(answer.session)
            who += " password ok" if right else " PASSWORD WRONG"
        if answer.session == 0:
            who += f" passwd={answer.passwd.hex()}"
        return (f"accepted version={answer.version} timeout={answer.timeout} {who}"
                f" read_only={answer.read_only} size={answer.size}")
