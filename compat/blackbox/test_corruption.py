"""Damaged data directories: served or refused as recorded from Apache, never served wrong in silence.

The recorded directories are those of the storage crate's tests; `corruption/operations.json` says how each case is
made from one of them, `corruption/outcomes.json` what Apache 3.9.5 and 3.8.0 did with it.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import COMPAT, standalone

RECORDED = COMPAT.parent / "crates" / "oxkeeper-storage" / "tests" / "vectors" / "storage"
VECTORS = Path(os.environ.get("VECTORS", RECORDED))
POISON = "standalone-3.8.0-check-poison"
# Valid directories that Apache refuses because it reads by its own settings; read by their lengths they are fine.
READABLE_BY_LENGTH = {"closetxn_off", "digest_off"}
# Whole records lie behind a hole. Apache passes over them without a word.
LOST_TAIL = {"mid_eor_zero", "mid_len_zero"}
# Sessions found in a directory may time out, and TTL nodes be removed, before the first look.
LATER_ZXIDS = 4


def load(name):
    return json.loads((VECTORS / "corruption" / name).read_text())


CASES = load("operations.json") if VECTORS.exists() else {}


def test_the_recorded_directories_are_there():
    assert CASES, f"no vectors in {VECTORS}"


def build(case, data):
    """The damaged directory: a copy of its base with the edits applied."""
    shutil.copytree(VECTORS / case["base"] / "data", data, dirs_exist_ok=True)
    for operation, name, *arguments in case["ops"]:
        path = data / name
        if operation == "write":
            offset, content = arguments
            with path.open("r+b") as file:
                file.seek(offset)
                file.write(bytes.fromhex(content))
        elif operation == "truncate":
            os.truncate(path, arguments[0])
        elif operation == "create":
            path.write_bytes(bytes.fromhex(arguments[0]))
        elif operation == "unlink":
            path.unlink()
        else:
            raise ValueError(f"unknown operation {operation}")


def start(server):
    """The server's `srvr` if it serves, else its exit status."""
    server.start()
    try:
        server.wait_serving(25)
    except AssertionError:
        if server.alive():
            raise
        return server.wait_exit(1), {}
    shown = server.srvr()
    server.kill()
    return None, shown


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_damaged_directory_is_treated_as_recorded(kind, name, tmp_path):
    server = standalone(kind, tmp_path)
    build(CASES[name], server.data)
    recorded = load("outcomes.json")[name]["3.8.0" if kind == "apache-3.8.0" else "3.9.5"]
    expected = recorded["starts"] or (kind == "oxkeeper" and name in READABLE_BY_LENGTH)
    status, shown = start(server)
    if kind == "oxkeeper" and name in LOST_TAIL:
        assert status not in (None, 0), "transactions behind a hole were passed over"
        assert "oxkeeper.acceptLostTail" in server.log_text(), server.log_tail()
        server = standalone(kind, tmp_path / "accepted", **{"oxkeeper.acceptLostTail": "true"})
        build(CASES[name], server.data)
        status, shown = start(server)
    assert (status is None) == expected, f"exit status {status}, recorded {recorded}:\n{server.log_tail()}"
    if not expected:
        assert status != 0
        named = "log." in server.log_text() or "snapshot" in server.log_text()
        assert kind != "oxkeeper" or named, f"the message names no file:\n{server.log_tail()}"
    elif recorded["starts"]:
        zxid, recorded_zxid = int(shown["Zxid"], 16), int(recorded["zxid"], 16)
        assert recorded_zxid - 1 <= zxid <= recorded_zxid + LATER_ZXIDS, f"{shown} recorded {recorded}"
        if zxid == recorded_zxid:
            assert shown["Node count"] == recorded["nodes"], f"{shown} recorded {recorded}"


def test_a_directory_with_a_poisoned_record_is_refused_with_the_reason(kind, tmp_path):
    server = standalone(kind, tmp_path)
    build({"base": POISON, "ops": []}, server.data)
    status, _ = start(server)
    assert status not in (None, 0), "a record that no reader can apply was passed over"
    assert kind != "oxkeeper" or "13" in server.log_text(), server.log_tail()


def test_a_refused_directory_is_left_as_it_was(kind, tmp_path):
    """What the operator must decide about is not touched by trying to start."""
    if not CASES:
        pytest.fail(f"no vectors in {VECTORS}")
    server = standalone(kind, tmp_path)
    build(CASES["mid_crc"], server.data)
    before = checksums(server.data)
    status, _ = start(server)
    assert status not in (None, 0)
    assert checksums(server.data) == before


def checksums(directory):
    files = sorted(str(path) for path in directory.glob("version-2/*[0-9a-f]"))
    return subprocess.run(["sha256sum", *files], capture_output=True, check=True, timeout=20).stdout
