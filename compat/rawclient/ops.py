"""Operations of section 4: numbers, request bodies, reply bodies, error codes."""

import base64
import hashlib
from collections import namedtuple

from .jute import In, Out

# Operation numbers.
CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_ACL, SET_ACL, GET_CHILDREN = range(1, 9)
SYNC, PING, GET_CHILDREN2, CHECK, MULTI, CREATE2, RECONFIG = 9, 11, 12, 13, 14, 15, 16
CHECK_WATCHES, REMOVE_WATCHES, CREATE_CONTAINER, DELETE_CONTAINER = 17, 18, 19, 20
CREATE_TTL, MULTI_READ = 21, 22
AUTH, SET_WATCHES, SASL, GET_EPHEMERALS, GET_ALL_CHILDREN_NUMBER = 100, 101, 102, 103, 104
SET_WATCHES2, ADD_WATCH, WHO_AM_I = 105, 106, 107
CREATE_SESSION, CLOSE_SESSION, ERROR = -10, -11, -1

OP_NAMES = {
    1: "create", 2: "delete", 3: "exists", 4: "getData", 5: "setData", 6: "getACL",
    7: "setACL", 8: "getChildren", 9: "sync", 11: "ping", 12: "getChildren2", 13: "check",
    14: "multi", 15: "create2", 16: "reconfig", 17: "checkWatches", 18: "removeWatches",
    19: "createContainer", 20: "deleteContainer", 21: "createTTL", 22: "multiRead",
    100: "auth", 101: "setWatches", 102: "sasl", 103: "getEphemerals",
    104: "getAllChildrenNumber", 105: "setWatches2", 106: "addWatch", 107: "whoAmI",
    -10: "createSession", -11: "closeSession",
}

# Special xids (section 3.1).
XID_EVENT, XID_PING, XID_AUTH, XID_SET_WATCHES = -1, -2, -4, -8
FIXED_XIDS = {PING: XID_PING, AUTH: XID_AUTH, SET_WATCHES: XID_SET_WATCHES,
              SET_WATCHES2: XID_SET_WATCHES}

# Error codes (section 6).
OK = 0
RUNTIME_INCONSISTENCY, MARSHALLING_ERROR, UNIMPLEMENTED, BAD_ARGUMENTS = -2, -5, -6, -8
RECONFIG_DISABLED = -123
NO_NODE, NO_AUTH, BAD_VERSION = -101, -102, -103
NO_CHILDREN_FOR_EPHEMERALS, NODE_EXISTS, NOT_EMPTY = -108, -110, -111
SESSION_EXPIRED, INVALID_ACL, AUTH_FAILED = -112, -114, -115
NO_WATCHER, SESSION_CLOSED_REQUIRE_AUTH, QUOTA_EXCEEDED = -121, -124, -125

# Permissions (section 11.1).
READ, WRITE, CREATE_PERM, DELETE_PERM, ADMIN, ALL = 1, 2, 4, 8, 16, 31

# Create flags (section 7.4).
PERSISTENT, EPHEMERAL, SEQUENTIAL, EPHEMERAL_SEQUENTIAL = 0, 1, 2, 3
CONTAINER, TTL, TTL_SEQUENTIAL = 4, 5, 6

# Event types (section 10.3).
NODE_CREATED, NODE_DELETED, NODE_DATA_CHANGED, NODE_CHILDREN_CHANGED = 1, 2, 3, 4

ACL = namedtuple("ACL", "perms scheme id")
Stat = namedtuple("Stat", "czxid mzxid ctime mtime version cversion aversion ephemeralOwner "
                          "dataLength numChildren pzxid")
#: One entry of the reply of a multi or multiRead; `err` as in the header and the body.
Result = namedtuple("Result", "type err value")

OPEN_ACL = [ACL(ALL, "world", "anyone")]


def write_acl(out, acl):
    out.int(acl[0]).string(acl[1]).string(acl[2])


def read_acl(data):
    return ACL(data.int(), data.string(), data.string())


def read_stat(data):
    return Stat(data.long(), data.long(), data.long(), data.long(), data.int(), data.int(),
                data.int(), data.long(), data.int(), data.int(), data.long())


# Requests: each builder returns (operation number, body bytes).

def create(path, data=b"", acl=OPEN_ACL, flags=0, op=CREATE):
    return op, Out().string(path).buffer(data).vector(acl, write_acl).int(flags).bytes()


def create2(path, data=b"", acl=OPEN_ACL, flags=0):
    return create(path, data, acl, flags, CREATE2)


def create_container(path, data=b"", acl=OPEN_ACL, flags=CONTAINER):
    return create(path, data, acl, flags, CREATE_CONTAINER)


def create_ttl(path, ttl, data=b"", acl=OPEN_ACL, flags=TTL):
    return CREATE_TTL, create(path, data, acl, flags)[1] + Out().long(ttl).bytes()


def delete(path, version=-1):
    return DELETE, Out().string(path).int(version).bytes()


def exists(path, watch=False):
    return EXISTS, Out().string(path).bool(watch).bytes()


def get_data(path, watch=False):
    return GET_DATA, Out().string(path).bool(watch).bytes()


def set_data(path, data=b"", version=-1):
    return SET_DATA, Out().string(path).buffer(data).int(version).bytes()


def get_acl(path):
    return GET_ACL, Out().string(path).bytes()


def set_acl(path, acl=OPEN_ACL, version=-1):
    return SET_ACL, Out().string(path).vector(acl, write_acl).int(version).bytes()


def get_children(path, watch=False):
    return GET_CHILDREN, Out().string(path).bool(watch).bytes()


def get_children2(path, watch=False):
    return GET_CHILDREN2, Out().string(path).bool(watch).bytes()


def sync(path="/"):
    return SYNC, Out().string(path).bytes()


def ping():
    return PING, b""


def check(path, version=-1):
    return CHECK, Out().string(path).int(version).bytes()


def multi(ops, op=MULTI):
    """A multi of requests made by the other builders."""
    out = Out()
    for kind, body in ops:
        out.int(kind).bool(False).int(-1).raw(body)
    return op, out.int(-1).bool(True).int(-1).bytes()


def multi_read(ops):
    return multi(ops, MULTI_READ)


def check_watches(path, kind):
    return CHECK_WATCHES, Out().string(path).int(kind).bytes()


def remove_watches(path, kind):
    return REMOVE_WATCHES, Out().string(path).int(kind).bytes()


def add_watch(path, mode=0):
    return ADD_WATCH, Out().string(path).int(mode).bytes()


def set_watches(zxid, data=(), exist=(), child=()):
    out = Out().long(zxid)
    for paths in (data, exist, child):
        out.strings(paths)
    return SET_WATCHES, out.bytes()


def set_watches2(zxid, data=(), exist=(), child=(), persistent=(), recursive=()):
    out = Out().raw(set_watches(zxid, data, exist, child)[1])
    return SET_WATCHES2, out.strings(persistent).strings(recursive).bytes()


def auth(scheme, data):
    return AUTH, Out().int(0).string(scheme).buffer(data).bytes()


def sasl(token):
    return SASL, Out().buffer(token).bytes()


def get_ephemerals(prefix="/"):
    return GET_EPHEMERALS, Out().string(prefix).bytes()


def get_all_children_number(path):
    return GET_ALL_CHILDREN_NUMBER, Out().string(path).bytes()


def who_am_i():
    return WHO_AM_I, b""


def reconfig(joining=None, leaving=None, members=None, config_id=-1):
    out = Out().string(joining).string(leaving).string(members).long(config_id)
    return RECONFIG, out.bytes()


def close_session():
    return CLOSE_SESSION, b""


# Replies: one reader per operation that has a body.

def _path_and_stat(data):
    return data.string(), read_stat(data)


def _data_and_stat(data):
    return data.buffer(), read_stat(data)


def _identities(data):
    return data.vector(lambda d: (d.string(), d.string()))


def read_results(data):
    """The entries of a multi or multiRead reply, without the terminator (section 9.1)."""
    results = []
    while True:
        kind, done, err = data.int(), data.bool(), data.int()
        if done:
            return results
        if kind == ERROR:
            value = data.int()
        elif kind in MULTI_RESULTS:
            value = MULTI_RESULTS[kind](data)
        else:
            raise ValueError(f"result of unknown type {kind}")
        results.append(Result(kind, err, value))


def _nothing(_data):
    return None


REPLIES = {
    CREATE: In.string, CREATE2: _path_and_stat, CREATE_CONTAINER: _path_and_stat,
    CREATE_TTL: _path_and_stat, EXISTS: read_stat, GET_DATA: _data_and_stat,
    SET_DATA: read_stat, SET_ACL: read_stat, GET_CHILDREN: In.strings, SYNC: In.string,
    GET_ACL: lambda data: (data.vector(read_acl), read_stat(data)),
    GET_CHILDREN2: lambda data: (data.strings(), read_stat(data)),
    MULTI: read_results, MULTI_READ: read_results, RECONFIG: _data_and_stat,
    ADD_WATCH: In.int, SASL: In.buffer, GET_EPHEMERALS: In.strings,
    GET_ALL_CHILDREN_NUMBER: In.int, WHO_AM_I: _identities,
}
MULTI_RESULTS = {
    CREATE: In.string, CREATE2: _path_and_stat, DELETE: _nothing, SET_DATA: read_stat,
    CHECK: _nothing, GET_CHILDREN: In.strings, GET_DATA: _data_and_stat,
}


def read_reply(op, body):
    """The decoded body of a successful reply and the bytes left over after it."""
    data = In(body)
    value = REPLIES.get(op, _nothing)(data)
    return value, data.rest()


def password(session_id):
    """The password every server computes for a session id (section 2.7)."""
    state = ((session_id ^ 0xB3415C00) ^ 0x5DEECE66D) & (2**48 - 1)
    result = b""
    for _ in range(4):
        state = (state * 0x5DEECE66D + 11) & (2**48 - 1)
        result += (state >> 16 & 0xFFFFFFFF).to_bytes(4, "little")
    return result


def digest_id(auth):
    """The identity that auth data `user:password` gives in scheme digest (section 11.4)."""
    user = auth.split(b":", 1)[0].decode()
    return f"{user}:{base64.b64encode(hashlib.sha1(auth).digest()).decode()}"


#: The super user of the test servers: digest property and auth data (section 11.4).
SUPER_DIGEST = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
SUPER_PASSWORD = b"super:test"
