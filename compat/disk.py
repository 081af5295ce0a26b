"""Reads transaction logs (docs/spec/storage-formats.md, sections 2 and 3), as far as the suites need it."""

import struct
import zlib

HEADER = 16
ERROR_TYPE, CLOSE_SESSION = -1, -11
DIGEST_VERSION = 2


def log_records(path):
    """(zxid, type, payload) of every whole record of one log file."""
    data = path.read_bytes()
    assert data[:4] == b"ZKLG", f"{path} has the wrong magic {data[:4]!r}"
    position = HEADER
    while position + 12 <= len(data):
        checksum, length = struct.unpack_from(">qi", data, position)
        if length <= 0 or position + 12 + length >= len(data):
            return
        payload = data[position + 12 : position + 12 + length]
        if data[position + 12 + length] != 0x42:
            return
        assert zlib.adler32(payload) == checksum, f"{path}: wrong checksum at offset {position}"
        _client, _cxid, zxid, _time, kind = struct.unpack_from(">qiqqi", payload)
        yield zxid, kind, payload
        position += 12 + length + 1


def log_files(directory):
    """Log files of a data directory in the order of their first zxid."""
    return sorted(directory.glob("version-2/log.*"), key=lambda path: int(path.name.split(".")[1], 16))


def last_digest(directory):
    """(zxid, tree digest) of the newest record that carries a digest, or None."""
    for path in reversed(log_files(directory)):
        found = None
        for zxid, kind, payload in log_records(path):
            if kind == ERROR_TYPE or len(payload) < 32 + 12:
                continue
            version, digest = struct.unpack_from(">iQ", payload, len(payload) - 12)
            if version == DIGEST_VERSION:
                found = (zxid, digest)
        if found:
            return found
    return None


def digests(directory):
    """zxid -> tree digest of every record that carries one, in all logs of a data directory."""
    found = {}
    for path in log_files(directory):
        for zxid, kind, payload in log_records(path):
            if kind != ERROR_TYPE and len(payload) >= 44:
                version, digest = struct.unpack_from(">iQ", payload, len(payload) - 12)
                if version == DIGEST_VERSION:
                    found[zxid] = digest
    return found
