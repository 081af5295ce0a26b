"""Steps from a seed: every operation, mostly sensible, often wrong, sometimes odd."""

import random

from rawclient import ops
from rawclient.ops import ACL

from .steps import encode

BEN = ops.digest_id(b"ben:passwd")
NAMES = ["a", "b", "c"]
#: Paths that most requests aim at, so that they meet nodes and each other's watches.
HOT_PATHS = ["/t", "/t/a", "/t/a", "/t/b", "/t/c", "/t/a/a", "/t/a/b", "/t/b/a"]
ODD_NAMES = ["é", "…", ".a", "zookeeper_stats", "s0000000000", "s0000000001", "0000000002",
             "x" * 300]
BAD_PATHS = ["", "/", "t", "t/a", "/t/", "/t//a", "/t/.", "/t/..", "/t/./a", "/t/a/..", "/t/\0",
             "/t/a\x01", "/t/\x7f", "/t/\uf8ff", "/t/\U0001f600", "/t/\ufffd", None,
             b"/t/\xff\xfe", b"/t/\xed\xa0\x80", "/zookeeper", "/zookeeper/config",
             "/zookeeper/quota", "/zookeeper/x", "/zookeeper/quota/t", "//", "/ /", " "]
SCHEME_LISTS = [
    ops.OPEN_ACL, ops.OPEN_ACL, ops.OPEN_ACL, ops.OPEN_ACL, ops.OPEN_ACL,
    [ACL(31, "auth", "")], [ACL(31, "digest", BEN)], [ACL(1, "world", "anyone")],
    [ACL(31, "digest", BEN), ACL(1, "world", "anyone")], [ACL(31, "ip", "127.0.0.1")],
    [ACL(31, "ip", "127.0.0.0/8")], [ACL(31, "ip", "10.0.0.0/8")], [ACL(15, "auth", None)],
    [ACL(4, "world", "anyone"), ACL(16, "world", "anyone"), ACL(1, "world", "anyone")],
    [ACL(31, "world", "anyone"), ACL(31, "world", "anyone")], [ACL(0, "world", "anyone")],
    [ACL(-1, "world", "anyone")], [ACL(16, "auth", ""), ACL(1, "world", "anyone")],
    [ACL(2, "digest", BEN), ACL(29, "digest", "u:hash"), ACL(16, "world", "anyone")],
]
BAD_LISTS = [
    [], None, [ACL(31, "world", "other")], [ACL(31, "nosuch", "x")], [ACL(31, None, "x")],
    [ACL(31, "digest", None)], [ACL(31, "digest", "nocolon")], [ACL(31, "digest", "a:b:c")],
    [ACL(31, "digest", ":b")], [ACL(31, "digest", "a:")], [ACL(31, "ip", "1.2.3")],
    [ACL(31, "ip", "1.2.3.4/33")], [ACL(31, "ip", "::1/64")], [ACL(31, "ip", "1.2.3.4/x")],
    [ACL(31, "super", "")], [ACL(31, "", "")], [ACL(31, "world", None)],
    [ACL(31, "auth", "x"), ACL(31, "world", "anyone")], [ACL(31, "sasl", "bob")],
    [ACL(31, "x509", "CN=a")], [ACL(31, "ip", "fe80::1%lo")], [ACL(31, "digest", "")],
]
DATA = [b"", b"", None, b"x", b"hello", b"\0\1\2", b"y" * 200, "café".encode()]
VERSIONS = [-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 1, 1, 2, 3, -2, 7, 2**31 - 1, -2**31]
FLAGS = [0] * 9 + [1] * 6 + [2] * 4 + [3] * 4 + [4, 5, 6, 7, -1, 2**31 - 1]
TTLS = [1, 1000, 1000, 1000, 10**7, 10**7, 2**40 - 1, 2**40, 0, -1, 2**63 - 1, -2**63]
AUTHS = [("digest", b"ben:passwd"), ("digest", b"ben:passwd"), ("digest", b"a:b"),
         ("digest", b"nocolon"), ("digest", b""), ("digest", b":x"), ("ip", b"1.2.3.4"),
         ("digest", ops.SUPER_PASSWORD), ("digest", b"\xff\xfe:\x80")]
BAD_AUTHS = [("world", b"anyone"), ("nosuch", b""), ("auth", b""), ("super", b""), ("sasl", b""),
             (None, b"x"), ("digest", None)]
UNKNOWN_OPS = [0, -1, 10, 13, 23, 24, 99, 108, 1000, -2, 2**31 - 1]
BODIED_OPS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 17, 18, 19, 22, 101, 103, 104, 105, 106]
LIMITS = [b"count=-1,bytes=-1=;byteHardLimit=600;countHardLimit=12",
          b"count=2,bytes=-1=;countHardLimit=8", b"count=-1,bytes=-1=;byteHardLimit=90",
          b"count=3,bytes=20", b"", None, b"junk", b"count=1,bytes=x", b"countHardLimit=3"]
CONNECTIONS = ["a", "b", "c"]
MAX_BATCH = 8


class Generator:
    """One seed. `quota` seeds send no batches: quota usage does not see writes in flight."""

    def __init__(self, seed):
        self.rng = random.Random(f"differential {seed}")
        self.quota = seed % 5 == 4
        self.open = set()

    def steps(self, count):
        """About `count` requests, as steps."""
        steps = []
        for name in CONNECTIONS:
            steps.append(("connect", name, {}))
            self.open.add(name)
        for name in NAMES:
            steps.append(("call", "a", [("create", f"/t/{name}", b"")]))
        if self.quota:
            limits = self.rng.choice(LIMITS[:3])
            base = "/zookeeper/quota/t"
            steps += [("call", "a", [("create", base, None)]),
                      ("call", "a", [("create", f"{base}/zookeeper_limits", limits)]),
                      ("call", "a", [("create", f"{base}/zookeeper_stats", b"x")])]
        done = 0
        while done < count:
            step = self.step()
            steps.append(step)
            done += len(step[2]) if step[0] == "call" else 1
        return steps

    def step(self):
        rng = self.rng
        name = rng.choice(CONNECTIONS)
        if name not in self.open:
            self.open.add(name)
            return ("connect", name, self.fields())
        roll = rng.random()
        if roll < 0.015:
            self.open.discard(name)
            return ("close", name)
        if roll < 0.03:
            fields = self.fields()
            if rng.random() < 0.7:
                fields["of"] = name
            return self.connect(name, fields)
        if roll < 0.035:
            self.open.discard(name)
            return ("drop", name)
        if roll < 0.045:
            return ("word", rng.choice(["ruok", "srvr", "isro", "stat", "srvr"]))
        if roll < 0.055:
            self.open.discard(name)
            return ("call", name, [("body", rng.choice(UNKNOWN_OPS), self.any_body())])
        if roll < 0.062:
            self.open.discard(name)
            return ("call", name, [("auth", *rng.choice(BAD_AUTHS))])
        if roll < 0.10:
            return ("call", name, [("auth", *rng.choice(AUTHS))])
        if roll < 0.105:
            return ("call", name, [("sasl", rng.choice([b"", b"token"]))])
        if self.quota or roll < 0.7:
            return ("call", name, [self.request()])
        return ("call", name, self.batch(rng.randint(2, MAX_BATCH)))

    def batch(self, count):
        """Requests to be pipelined. A setACL only ends a batch: the reference checks what is
        pipelined behind one sometimes with the new ACL, sometimes with the old."""
        requests = [self.request() for _ in range(count)]
        for at, req in enumerate(requests):
            if "set_acl" in (req[0], req[-1][0] if req[0] == "xid" else ""):
                return requests[:at + 1]
        return requests

    def connect(self, name, fields):
        if "passwd" in fields and "of" in fields:
            self.open.discard(name)
        return ("connect", name, fields)

    def fields(self):
        rng, fields = self.rng, {}
        if rng.random() < 0.2:
            fields["timeout"] = rng.choice([0, -5, 1, 16000, 30000, 10**6, 2**31 - 1])
        if rng.random() < 0.2:
            fields["read_only"] = rng.choice([None, True])
        if rng.random() < 0.2:
            fields["last"] = rng.choice([-1, 0, 5, 10**6, "=-1", "=0"])
        if rng.random() < 0.1:
            fields["passwd"] = rng.choice([b"x" * 16, b"", None, b"short"])
        if rng.random() < 0.1:
            fields["tail"] = b"tail"
        if rng.random() < 0.3 and not self.quota:
            fields["then"] = self.batch(rng.randint(1, 4))
        return fields

    # Requests.

    def path(self, odd=0.05):
        rng = self.rng
        if rng.random() < odd:
            return rng.choice(BAD_PATHS)
        if rng.random() < 0.6:
            return rng.choice(HOT_PATHS)
        depth = rng.choice([0, 1, 1, 1, 2, 2, 2, 3])
        parts = [rng.choice(NAMES) if rng.random() < 0.9 else rng.choice(ODD_NAMES)
                 for _ in range(depth)]
        return "/".join(["/t", *parts])

    def acl(self):
        return self.rng.choice(BAD_LISTS if self.rng.random() < 0.07 else SCHEME_LISTS)

    def data(self):
        rng = self.rng
        return b"z" * rng.randint(1, 60000) if rng.random() < 0.01 else rng.choice(DATA)

    def flag(self):
        return self.rng.random() < 0.5

    def version(self):
        return self.rng.choice(VERSIONS)

    def create(self):
        rng = self.rng
        kind = rng.choice(["create", "create", "create", "create2", "create2",
                           "create_container", "create_ttl"])
        path = self.path()
        flags = rng.choice(FLAGS)
        if kind == "create_container" and flags in (1, 3):
            # The reference makes a container, but takes it for an ephemeral node, which has no
            # children, until it is applied: what a request right behind it meets is a matter of luck.
            flags += 1
        if flags in (2, 3, 6) and isinstance(path, str):
            path += rng.choice(["/s", "/", "", "/s", "s"])
        if kind == "create_ttl":
            ttl, flags = rng.choice(TTLS), flags if rng.random() < 0.2 else rng.choice([5, 5, 6])
            if flags not in (5, 6):
                # The reference accepts a negative TTL here and dies of it, now and at each
                # later start; see section 7.4 of the specification.
                ttl = abs(ttl) % 2**63
            return (kind, path, ttl, self.data(), self.acl(), flags)
        return (kind, path, self.data(), self.acl(), flags)

    def request(self):
        rng = self.rng
        roll = rng.random()
        if roll < 0.02:
            return ("body", rng.choice(BODIED_OPS), self.any_body())
        if roll < 0.03:
            return ("xid", rng.choice([0, -3, -2**31, 5, 2**31 - 1, -1000]), self.weighted())
        if self.quota and roll < 0.15:
            return self.quota_request()
        return self.weighted()

    def weighted(self):
        kinds = list(REQUESTS)
        kind = self.rng.choices(kinds, [REQUESTS[kind] for kind in kinds])[0]
        return getattr(self, f"make_{kind}")()

    def make_create(self):
        return self.create()

    def make_delete(self):
        return ("delete", self.path(), self.version())

    def make_set_data(self):
        return ("set_data", self.path(), self.data(), self.version())

    def make_set_acl(self):
        return ("set_acl", self.path(), self.acl(), self.version())

    def make_read(self):
        kind = self.rng.choice(["exists", "get_data", "get_children", "get_children2"])
        return (kind, self.path(), self.flag())

    def make_get_acl(self):
        return ("get_acl", self.path())

    def make_sync(self):
        return ("sync", self.path(0.3))

    def make_ping(self):
        return ("ping",)

    def make_add_watch(self):
        return ("add_watch", self.path(), self.rng.choice([0, 0, 0, 1, 1, 1, 1, 2]))

    def make_watch_query(self):
        kind = self.rng.choice(["check_watches", "remove_watches", "remove_watches"])
        return (kind, self.path(), self.rng.choice([1, 1, 2, 2, 3, 3, 3, 4, 5, 5, 0, 6]))

    def make_set_watches(self):
        rng = self.rng
        lists = [[self.path() for _ in range(rng.choice([0, 0, 1, 2]))] for _ in range(5)]
        zxid = rng.choice([0, 1, 5, 20, 50, 10**6, "=0", "=-1"])
        if rng.random() < 0.5:
            return ("set_watches", zxid, *lists[:3])
        return ("set_watches2", zxid, *lists)

    def make_get_ephemerals(self):
        return ("get_ephemerals", self.rng.choice(["/", "", None, "/t", "/t/a", "/t/b/", "x"]))

    def make_all_children_number(self):
        return ("get_all_children_number", self.path())

    def make_who_am_i(self):
        return ("who_am_i",)

    def make_reconfig(self):
        return ("reconfig", None, "3", None, self.rng.choice([-1, 0]))

    def make_multi(self):
        rng = self.rng
        if rng.random() < 0.4:
            return ("multi", [self.likely() for _ in range(rng.randint(1, 5))])
        parts = []
        for _ in range(rng.choice([0, 1, 2, 2, 3, 3, 4, 6])):
            roll = rng.random()
            if roll < 0.45:
                parts.append(self.create())
            elif roll < 0.6:
                parts.append(self.make_delete())
            elif roll < 0.75:
                parts.append(self.make_set_data())
            elif roll < 0.97:
                parts.append(("check", self.path(), self.version()))
            else:
                parts.append(self.make_read())
        return ("multi", parts)

    def likely(self):
        """A part of a multi that seldom fails."""
        path = self.rng.choice(HOT_PATHS[:4])
        return self.rng.choice([
            ("create", f"{path}/m", b"m", ops.OPEN_ACL, self.rng.choice([2, 3])),
            ("create2", f"{path}/m", b"m", ops.OPEN_ACL, 2),
            ("create_ttl", f"{path}/m", 10**7, b"m", ops.OPEN_ACL, 6),
            ("create_container", f"{path}/m", b"", ops.OPEN_ACL, 4),
            ("set_data", path, self.data(), -1), ("check", path, -1),
            ("create", f"{path}/tmp", b""), ("delete", f"{path}/tmp", -1),
        ])

    def make_multi_read(self):
        rng = self.rng
        parts = []
        for _ in range(rng.choice([0, 1, 2, 3, 5])):
            kind = rng.choice(["get_data", "get_children"])
            parts.append((kind, self.path(), self.flag()))
        if rng.random() < 0.05:
            parts.append(self.make_get_acl())
        return ("multi_read", parts)

    def quota_request(self):
        rng = self.rng
        target = rng.choice(["/zookeeper/quota/t", "/zookeeper/quota/t/a", "/zookeeper/quota/t/b"])
        limits = rng.choice(LIMITS)
        return rng.choice([
            ("create", target, None), ("create", f"{target}/zookeeper_limits", limits),
            ("create", f"{target}/zookeeper_stats", b"count=0,bytes=0"),
            ("set_data", f"{target}/zookeeper_limits", limits),
            ("get_data", f"{target}/zookeeper_stats", self.flag()),
            ("delete", f"{target}/zookeeper_limits"), ("delete", f"{target}/zookeeper_stats"),
        ])

    def any_body(self):
        """A body cut short, or with a length that is wrong, or just bytes."""
        rng = self.rng
        body = encode(self.weighted(), 0)[1]
        roll = rng.random()
        if roll < 0.6:
            return body[:rng.randint(0, len(body))] if body else b""
        if roll < 0.8 and len(body) > 4:
            at = rng.randrange(0, len(body) - 3)
            wrong = rng.choice([-1, -2, 2**31 - 1, 10**6, 0, 3, -2**31])
            return body[:at] + wrong.to_bytes(4, "big", signed=True) + body[at + 4:]
        return rng.randbytes(rng.randint(0, 40))


REQUESTS = {
    "create": 22, "delete": 9, "set_data": 9, "set_acl": 4, "read": 20, "get_acl": 4,
    "sync": 1, "ping": 1, "add_watch": 5, "watch_query": 4, "set_watches": 3,
    "get_ephemerals": 2, "all_children_number": 2, "who_am_i": 1, "reconfig": 0.5,
    "multi": 9, "multi_read": 4,
}


def steps(seed, count):
    return Generator(seed).steps(count)
