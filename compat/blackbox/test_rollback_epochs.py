"""Going back to Apache after a crash in a synchronization: what it makes of our epoch files.

A server of ours announces an epoch in `currentEpoch.tmp` before it logs history of it, and makes it current through
`currentEpoch.new`. Apache leaves a `currentEpoch.tmp` only when the history is complete, and believes it without a
look at the history (docs/spec/storage-formats.md 10.1). The states here are made from directories of ours, in each of
which the history that came with the synchronization is logged to another point.
"""

import re
import shutil
import struct
from dataclasses import dataclass

import pytest
import rawclient
from harness import Ensemble, unavailable, until
from rawclient import ops

APACHE = ("apache-3.8.0", "apache-3.9.5")
SETTINGS = {"snapCount": 100000, "preAllocSize": 64}
WRITES = 20
LOG_HEADER, RECORD_HEADER = 16, 12
#: Records of the missed epoch in the log of the member that was away.
NONE, SOME, ALL = 0, WRITES // 2, WRITES


@dataclass(frozen=True)
class State:
    """What a crash left at a member in epoch 1 that was being given the history of epoch 2 by the leader of epoch 3."""

    logged: int
    tmp: str | None
    current: str = "1"
    new: str | None = None
    #: currentEpoch once Apache runs, None if it refuses to start.
    then: str | None = None
    why: str = ""


STATES = {
    "announced, nothing logged": State(NONE, "2", then="1"),
    "the leader's epoch announced, nothing logged": State(NONE, "3", then="1"),
    "the history's epoch announced, some of it logged": State(SOME, "2", then="2"),
    "the history's epoch announced, all of it logged": State(ALL, "2", then="2"),
    "the leader's epoch announced, all of it logged": State(ALL, "3", then="3"),
    # The one that must not be: epoch 3 stands for all of epoch 2, of which half is here.
    "the leader's epoch announced, some of it logged": State(SOME, "3", then="3"),
    "about to be current": State(ALL, "3", new="3", then="3"),
    "about to be current, written in part": State(ALL, "3", new="", then="3"),
    "current, the announcement is still there": State(ALL, "3", current="3", then="3"),
    "current, a newer announcement": State(ALL, "4", current="3", then="3"),
    "current, an older announcement": State(ALL, "2", current="3", then="3"),
    "current, an announcement that is no number": State(ALL, "x", current="3", then="3"),
    # Not left by us: an announcement is replaced as a whole, and precedes the history.
    "no announcement, some logged": State(SOME, None, why="is older than the last zxid"),
    "an announcement that is no number, some logged": State(SOME, "x", why="Found "),
    "an empty announcement, some logged": State(SOME, "", why="Found "),
    "an announcement as old as currentEpoch, some logged": State(SOME, "1", then="1"),
    "only the new file, some logged": State(SOME, None, new="3", why="is older than the last zxid"),
}


@pytest.fixture(params=APACHE)
def apache(request):
    if reason := unavailable(request.param):
        pytest.fail(reason)
    return request.param


class Past:
    """Three directories of ours: member 1 was away in epoch 2, in which the others took `WRITES` writes."""

    def __init__(self, kind, directory):
        self.directory = directory
        group = Ensemble([kind] * 3, directory, SETTINGS).start()
        write(group[1], "/first")
        for server in group:
            server.stop()
        # New processes begin new log files.
        for server in group.servers[1:]:
            server.start()
        for server in group.servers[1:]:
            server.wait_serving()
        # The session of the writer is a record as well.
        write(group[1], *[f"/second-{number}" for number in range(WRITES - 1)])
        for server in group.servers[1:]:
            server.stop()
            assert epoch_file(server, "currentEpoch") == "2"
        assert epoch_file(group[0], "currentEpoch") == "1"

    def group(self, directory, kind, state):
        """A copy for these servers, in which member 1 is in this state."""
        group = Ensemble([kind] * 3, directory, SETTINGS)
        for server in group:
            shutil.copytree(self.directory / f"server{server.sid}" / "data", server.data, dirs_exist_ok=True)
        late = group[0].data / "version-2"
        for name in ("currentEpoch.tmp", "currentEpoch.new"):
            (late / name).unlink(missing_ok=True)
        for name, text in {
            "acceptedEpoch": "4",
            "currentEpoch": state.current,
            "currentEpoch.tmp": state.tmp,
            "currentEpoch.new": state.new,
        }.items():
            if text is not None:
                (late / name).write_text(text)
        if state.logged:
            log = next((group[1].data / "version-2").glob("log.2*"))
            (late / log.name).write_bytes(first_records(log, state.logged))
        return group


@pytest.fixture(scope="module")
def past(kind, tmp_path_factory):
    return Past(kind, tmp_path_factory.mktemp("past"))


def write(server, *paths):
    with rawclient.Client.connect(("127.0.0.1", server.client_port)) as client:
        for path in paths:
            client.call(*ops.create(path, path.encode())).ok()


def epoch_file(server, name):
    path = server.data / "version-2" / name
    return path.read_text() if path.exists() else None


def first_records(log, count):
    """The log cut after so many records."""
    data, at = log.read_bytes(), LOG_HEADER
    for _ in range(count):
        at += RECORD_HEADER + struct.unpack_from(">i", data, at + 8)[0] + 1
    return data[:at]


def missing(server):
    """Acknowledged writes that this server does not have."""
    with rawclient.Client.connect(("127.0.0.1", server.client_port)) as client:
        client.call(*ops.sync("/")).ok()
        there = set(client.call(*ops.get_children("/")).ok())
    return {"first", *(f"second-{number}" for number in range(WRITES - 1))} - there


@pytest.mark.parametrize("name", STATES)
def test_apache_reads_the_epochs_that_a_crash_left(past, apache, name, tmp_path):
    """One of three, the others absent: it loads its directory and looks for a leader, or refuses."""
    state = STATES[name]
    server = past.group(tmp_path, apache, state)[0].start()
    if state.then is None:
        assert server.wait_exit(30) != 0
        assert state.why in server.log_text(), server.log_tail(30)
        return
    looks_for_leader = re.compile(r"LOOKING|New election")
    until(lambda: looks_for_leader.search(server.log_text()) or not server.alive(), 30, server.log_tail)
    assert server.alive(), server.log_tail(30)
    assert epoch_file(server, "currentEpoch") == state.then
    assert epoch_file(server, "currentEpoch.new") == state.new  # never looked at


def test_an_announcement_older_than_the_history_is_refused_at_the_second_start(past, apache, tmp_path):
    """The first start writes currentEpoch from it, which uses it up."""
    server = past.group(tmp_path, apache, State(SOME, "1"))[0].start()
    until(lambda: epoch_file(server, "currentEpoch.tmp") is None, 30, server.log_tail)
    server.kill()
    assert server.start().wait_exit(30) != 0
    assert "is older than the last zxid" in server.log_text()


def led_by_late_member(past, apache, tmp_path, tmp):
    """Members 1 and 2 elect, the leader of epoch 3 being gone: member 1 has half of what both are to have."""
    group = past.group(tmp_path, apache, State(SOME, tmp))
    for server in group.servers[:2]:
        server.start()
    for server in group.servers[:2]:
        server.wait_serving(60)
    return group


def test_a_history_announced_by_its_own_epoch_is_completed_by_apache(past, apache, tmp_path):
    group = led_by_late_member(past, apache, tmp_path, "2")
    assert group.leader() is group[1]
    assert not missing(group[0]) and not missing(group[1])


def test_a_partial_history_announced_by_the_leaders_epoch_loses_writes_under_apache(past, apache, tmp_path):
    """Why a server may announce no epoch before all history that precedes it is durable."""
    group = led_by_late_member(past, apache, tmp_path, "3")
    assert group.leader() is group[0]
    assert len(missing(group[1])) == WRITES - SOME
