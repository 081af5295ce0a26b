"""Turns what a server said into lines that two servers must agree on.

Time stamps are replaced by the transaction they belong to, session ids by the order in
which they appeared, zxids by their distance from the start of the run. What protocol
leaves unordered is sorted.
"""

import time
from itertools import groupby

from rawclient import Event, ops

UNORDERED = {ops.GET_CHILDREN, ops.GET_EPHEMERALS, ops.WHO_AM_I}
FAR_MS = 120_000
#: What the reference prints first in `mntr` of a standalone server: identity and gauges. The values
#: of some follow from the requests alone.
STEADY_METRICS = {f"zk_{name}" for name in (
    "server_state znode_count ephemerals_count watch_count approximate_data_size global_sessions"
    " local_sessions max_file_descriptor_count connection_drop_probability auth_failed_count"
    " outstanding_requests outstanding_tls_handshake non_mtls_local_conn_count"
    " non_mtls_remote_conn_count watch_bytes last_client_response_size min_client_response_size"
    " max_client_response_size").split()}
BASE_METRICS = STEADY_METRICS | {f"zk_{name}" for name in (
    "version num_alive_connections avg_latency min_latency max_latency packets_sent packets_received"
    " open_file_descriptor_count uptime").split()}


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
        if isinstance(value, list) and value and isinstance(value[0], ops.ACL):
            return f"[{', '.join(self.acls(value))}]"
        if isinstance(value, list):
            items = [self.value(item) for item in value]
            return "[" + ", ".join(sorted(items) if op in UNORDERED else items) + "]"
        if isinstance(value, tuple):
            first = ops.GET_CHILDREN if op == ops.GET_CHILDREN2 else None
            return " ".join(self.value(item, first) for item in value)
        if isinstance(value, bytes) and len(value) > 80:
            return f"<{len(value)} bytes {hash(value) & 0xffff:04x}>"
        return ascii(value)

    def acls(self, acls):
        """An ACL list in its order, but for what an `auth` entry may have become.

        An entry of scheme `auth` is replaced by one entry for each identity of the requester, and
        the reference takes these from a hash set: no client can rely on their order. They are
        neighbours of equal permissions and of scheme digest, and such neighbours are sorted here.
        Entries that differ in permissions or scheme keep their order, see s11_order_of_acl_entries.
        """
        lines = []
        for (_, scheme), group in groupby(acls, lambda acl: (acl.perms, acl.scheme)):
            entries = [self.value(acl) for acl in group]
            lines += sorted(entries) if scheme == "digest" else entries
        return lines

    def lines(self, items, session_ends=False):
        """Lines of replies and notifications of one connection.

        The ephemerals of a session that ends die under one zxid, in the reference in the order of
        a hash set. With `session_ends`, neighbouring notifications of one zxid are sorted.
        """
        lines = []
        for zxid, group in groupby(items, lambda item: isinstance(item, Event) and item.zxid):
            found = [self.line(item) for item in group]
            lines += sorted(found) if session_ends and zxid > 0 else found
        return lines

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

    @staticmethod
    def base_metrics(answer):
        """The names of BASE_METRICS that `mntr` shows, sorted, for the reference prints them in no
        certain order; the steady ones with their values."""
        lines = [line.partition("\t") for line in answer.splitlines()]
        return sorted(f"{name} {value if name in STEADY_METRICS else ''}".rstrip()
                      for name, _, value in lines if name in BASE_METRICS)

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
