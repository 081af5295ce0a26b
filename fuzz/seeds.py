#!/usr/bin/env python3
"""Writes the first inputs of every fuzz target into corpus/, from the recorded bytes of the tests.

The forms of the inputs are described at the top of each target.
"""

import gzip
import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUORUM = HERE.parent / "crates/oxkeeper-proto/tests/vectors/quorum"
STORAGE = HERE.parent / "crates/oxkeeper-storage/tests/vectors/storage"
LONGEST = 32 * 1024

counts = {}


def seed(target, data):
    """Adds one input; long ones only slow the fuzzer down."""
    if len(data) > LONGEST:
        return
    number = counts[target] = counts.get(target, 0) + 1
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{number:04}").write_bytes(data)


def buffer(data):
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def string(text):
    return buffer(text.encode())


def piece(data):
    return struct.pack(">H", len(data)) + data


def streams():
    """Each recorded stream: name, bytes, and (offset, length, name) of its messages."""
    result = []
    for line in (QUORUM / "index.txt").read_text().splitlines():
        fields = line.split(" ")
        if fields[0] == "stream":
            result.append((fields[1], (QUORUM / fields[1]).read_bytes(), []))
        else:
            result[-1][2].append((int(fields[0]), int(fields[1]), fields[2]))
    return result


def packet_data(packet):
    length = struct.unpack(">i", packet[12:16])[0]
    return packet[16 : 16 + length] if length > 0 else b""


def quorum_seeds():
    payloads, requests, seen = [], [], {}
    for _, stream, messages in streams():
        packets = b""
        for offset, length, name in messages:
            message = stream[offset : offset + length]
            seen[name] = seen.get(name, 0) + 1
            if name == "InitialMessage":
                seed("initial_message", message)
            elif name == "Notification":
                seed("notification", message[4:])
                end = struct.unpack(">i", message[44:48])[0]
                seed("ensemble", message[48 : 48 + end])
            elif name == "SNAPSHOT-STREAM":
                seed("snapshot_body", b"\xff" + message)
                seed("snapshot_body", b"\x00" + message)
                for mode in (4, 5, 6, 4 + 8, 5 + 8 + 16):
                    seed("snapshot", bytes([mode]) + message[:-14])
            elif name != "QuorumAuthPacket":
                packets += message
                if seen[name] <= 3:
                    seed("packet", message)
                if name == "PROPOSAL":
                    payloads.append(packet_data(message))
                if name == "REQUEST":
                    requests.append(packet_data(message))
        if packets:
            seed("packet", packets[:4096])
    for payload in payloads[:40]:
        seed("txn", piece(payload))
    seed("txn", b"".join(piece(payload) for payload in payloads))
    seed("log", b"\x01" + b"".join(piece(payload) for payload in payloads[:30]))
    return [(struct.unpack(">i", data[12:16])[0], data[16:]) for data in requests]


def storage_seeds():
    for file in sorted(STORAGE.glob("**/version-2/*")):
        data = file.read_bytes()
        if file.name.startswith("log."):
            seed("log", b"\x00" + data.rstrip(b"\0") + bytes(64))
            payloads, at = [], 16
            while at + 12 < len(data):
                length = struct.unpack(">i", data[at + 8 : at + 12])[0]
                if length <= 0:
                    break
                payloads.append(data[at + 12 : at + 12 + length])
                at += length + 13
            pieces = b"".join(piece(payload) for payload in payloads if len(payload) < 0x10000)
            seed("log", b"\x03" + pieces)
            seed("txn", pieces)
        elif file.name.startswith("snapshot."):
            mode = {".gz": 1, ".snappy": 2}.get(file.suffix, 0)
            seed("snapshot", bytes([mode]) + data)
            if mode == 0:
                seed("snapshot", b"\x01" + gzip.compress(data, mtime=0))
                seed("snapshot_body", b"\x04" + data[16:])
    for file in sorted(STORAGE.glob("**/config/*")):
        seed("properties", file.read_bytes())


ACL = struct.pack(">ii", 1, 31) + string("world") + string("anyone")
ACLS = {
    "open": ACL,
    "auth": struct.pack(">ii", 1, 31) + string("auth") + string(""),
    "digest": struct.pack(">ii", 1, 3) + string("digest") + string("a:b"),
    "none": struct.pack(">i", 0),
}


def create(path, flags=0, data=b"d", acl="open", ttl=None):
    body = string(path) + buffer(data) + ACLS[acl] + struct.pack(">i", flags)
    return body if ttl is None else body + struct.pack(">q", ttl)


def path_flag(path, flag=b"\1"):
    return string(path) + flag


def path_version(path, version=-1):
    return string(path) + struct.pack(">i", version)


def multi(*operations):
    parts = [struct.pack(">i?i", op, False, -1) + body for op, body in operations]
    return b"".join(parts) + struct.pack(">i?i", -1, True, -1)


def set_data(path, data=b"new", version=-1):
    return string(path) + buffer(data) + struct.pack(">i", version)


WRITES = [
    (1, create("/a")),
    (1, create("/a/b", 1)),
    (15, create("/a/s-", 2)),
    (15, create("/a/es-", 3, None)),
    (19, create("/c", 4)),
    (15, create("/c/x")),
    (21, create("/t", 5, ttl=100)),
    (21, create("/t-", 6, ttl=1)),
    (1, create("/p", acl="digest")),
    (1, create("/q", acl="auth")),
    (1, create("/zookeeper/quota/a")),
    (1, create("/zookeeper/quota/a/zookeeper_limits", data=b"count=5,bytes=100;byteHardLimit=200")),
    (1, create("/zookeeper/quota/a/zookeeper_stats", data=b"count=1,bytes=1")),
    (5, set_data("/a")),
    (5, set_data("/a", None, 1)),
    (7, string("/a") + ACLS["digest"] + struct.pack(">i", 0)),
    (14, multi((1, create("/m")), (13, path_version("/m")), (5, set_data("/m")), (2, path_version("/m")))),
    (14, multi((15, create("/m", 3)), (2, path_version("/missing")), (15, create("/n")))),
    (14, multi((21, create("/mt", 5, ttl=5)), (19, create("/mc", 4)))),
    (14, multi()),
    (2, path_version("/a/b")),
    (20, string("/c")),
    (16, buffer(b"server.4=h:1:2:observer;3") + buffer(b"2") + buffer(None) + struct.pack(">q", -1)),
    (-10, struct.pack(">i", 5000)),
    (-11, b""),
]

READS = [
    (3, path_flag("/a")),
    (4, path_flag("/a")),
    (6, string("/a")),
    (8, path_flag("/")),
    (12, path_flag("/")),
    (9, string("/")),
    (11, b""),
    (22, multi((4, path_flag("/a")), (8, path_flag("/a")))),
    (101, struct.pack(">q", 0) + 3 * (struct.pack(">i", 1) + string("/a"))),
    (105, struct.pack(">q", 0) + 5 * (struct.pack(">i", 1) + string("/a"))),
    (106, path_version("/", 1)),
    (106, path_version("/a", 0)),
    (17, path_version("/a", 1)),
    (18, path_version("/a", 3)),
    (103, string("/")),
    (104, string("/")),
    (107, b""),
    (100, struct.pack(">i", 0) + string("digest") + buffer(b"a:b")),
    (102, buffer(b"x")),
]


def request_seeds(recorded):
    def prepared(operations, mode=0):
        pieces = (struct.pack(">iBB", op, 7, time) + piece(body) for time, (op, body) in enumerate(operations))
        return bytes([mode]) + b"".join(pieces)

    for mode in (0x00, 0x03, 0x22, 0x47):
        seed("prepare", prepared(WRITES[:-2], mode))
        seed("prepare", prepared(WRITES, mode))
    for operation in WRITES:
        seed("prepare", prepared([WRITES[0], operation]))
    for start in range(0, len(recorded), 14):
        seed("prepare", prepared(recorded[start : start + 14]))


def client_seeds():
    connect = struct.pack(">iqiq", 0, 0, 10000, 0) + buffer(bytes(16)) + b"\0"
    frames = [struct.pack(">ii", xid, op) + body for xid, (op, body) in enumerate(READS + WRITES + READS, 1)]
    stream = b"".join(buffer(frame) for frame in frames)
    for mode in (2, 3, 7, 15):
        seed("client", bytes([255, mode]) + stream)
    seed("client", bytes([4, 1]) + buffer(connect) + stream)
    seed("client", bytes([255, 0]) + buffer(connect[:-1]) + buffer(frames[-1]))
    wrong = struct.pack(">iqiq", 0, 0, 10000, 77) + buffer(bytes(16))
    seed("client", bytes([255, 0]) + buffer(wrong))
    for frame in frames[:-len(READS)]:
        seed("client", bytes([255, 3]) + buffer(frame))
        seed("client", bytes([0, 15]) + buffer(struct.pack(">ii", 1, 1) + create("/a", 1)) + buffer(frame))


def text_seeds():
    for text in (
        "server.1=h1:2888:3888:participant;0.0.0.0:2181\nserver.2=[::1]:2:3:observer|h:4:5:observer\nversion=100000001",
        "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\ngroup.1=1:2\ngroup.2=3\nweight.3=5\nversion=0",
    ):
        seed("ensemble", text.encode())
        seed("properties", text.encode())
    seed(
        "properties",
        b"# comment\n! other\r\ntickTime=2000\n  dataDir : /tmp/\\u0041\\\n   more\\t\nclientPort 2181\nempty=\n\\=key\\:=v\\\\\n",
    )
    for path in ("/", "/a/b", "//", "/a/", "/a/./b", "/zookeeper/quota", "a", "/\u00e9\ue000", "/a\0b", "/\U0001f600"):
        seed("paths", path.encode())


if __name__ == "__main__":
    request_seeds(quorum_seeds())
    storage_seeds()
    client_seeds()
    text_seeds()
    print(", ".join(f"{target} {count}" for target, count in sorted(counts.items())))
