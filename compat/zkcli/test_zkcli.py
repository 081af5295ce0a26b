"""The shell that scripts type, beside that of Apache ZooKeeper 3.9.5, and in the shape of the tutorial.

Sources: docs/spec/operations.md 5, docs/spec/kubernetes.md T8, T9, T14, T36.
"""

import difflib
import re
import socket
import threading
import time

import harness
import pytest
import shells

OLD = {"OXKEEPER_CLI_COMPAT": "3.4"}
NEW_HEADER = "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null zxid: -1\n"
OLD_HEADER = "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null\n"
STAT = (
    r"cZxid = 0x[0-9a-f]+\nctime = \w{3} \w{3} \d\d \d\d:\d\d:\d\d UTC \d{4}\nmZxid = 0x[0-9a-f]+\n"
    r"mtime = .* UTC \d{4}\npZxid = 0x[0-9a-f]+\ncversion = 0\ndataVersion = 0\naclVersion = 0\n"
    r"ephemeralOwner = 0x0\ndataLength = 5\nnumChildren = 0\n"
)
#: Where we differ on purpose: line -> (exit, stderr). The reference dies with the trace of a Java exception, or
#: ignores the version that an old form names and deletes all the same, or does not wait for the server to refuse.
OURS = {
    "set -v x /hello newer": (1, "-v argument must be an int value: x\n"),
    "set -b /two !!!": (1, "the data is not base64: unexpected '!'\n"),
    "delete /stale 7": (
        1,
        "'delete path [version]' has been deprecated. Please use 'delete [-v version] path' instead.\n"
        "version No is not valid : /stale\n",
    ),
    "deleteall /stale": (0, ""),
    "addauth nonsense x": (0, ""),
}


def test_every_line_is_answered_as_by_the_reference(server, request):
    """About 200 lines, one after the other on one server: stdout, stderr and exit code."""
    record = request.config.getoption("--record")
    shell = shells.reference if record else shells.ours
    answers = []
    for line in shells.lines():
        words, script = shells.split(line)
        result = shell(server.address, words, script)
        if not record and line in OURS:
            assert (result.returncode, result.stderr) == OURS[line], line
            answers.append(None)
        else:
            answers.append(shells.shown(line, result, server.address))
    if record:
        shells.EXPECTED.write_text("".join(answers))
        return
    expected = shells.entries(shells.EXPECTED.read_text())
    assert len(expected) == len(answers), "commands.txt has changed: record anew"
    wrong = []
    for wanted, got in zip(expected, answers):
        if got not in (None, wanted):
            wrong += difflib.unified_diff(wanted.splitlines(), got.splitlines(), "reference", "ours", n=20, lineterm="")
    assert not wrong, "\n".join(wrong)


def test_the_header_stands_before_the_output_every_time(server):
    shells.ours(server.address, ["create", "/hello", "world"])
    for _ in range(10):
        result = shells.ours(server.address, ["get", "/hello"])
        assert result.stdout == f"Connecting to {server.address}\n{NEW_HEADER}world\n"
        assert (result.stderr, result.returncode) == ("", 0)


def test_the_tutorial_shape_has_all_on_stdout_in_order(server):
    created = shells.ours(server.address, ["create", "/hello", "world"], environment=OLD)
    assert (created.stdout, created.stderr, created.returncode) == (OLD_HEADER + "Created /hello\n", "", 0)
    got = shells.ours(server.address, ["get", "/hello"], environment=OLD)
    assert re.fullmatch(re.escape(OLD_HEADER) + "world\n" + STAT, got.stdout), got.stdout
    assert (got.stderr, got.returncode) == ("", 0)
    missing = shells.ours(server.address, ["get", "/none"], environment=OLD)
    assert (missing.stdout, missing.stderr) == (OLD_HEADER + "Node does not exist: /none\n", "")
    assert missing.returncode == 1


def test_a_single_command_leaves_its_session_to_the_timeout(server):
    shells.ours(server.address, ["create", "-e", "/lock", "x"], options=["-timeout", "4000"])
    there = lambda: shells.ours(server.address, ["stat", "/lock"]).returncode == 0  # noqa: E731
    assert there()
    harness.until(lambda: not there(), 15, "the ephemeral is gone")


def test_a_command_opens_exactly_one_session(server):
    shells.ours(server.address, ["create", "/n", "x"])
    zxid = lambda: int(server.srvr()["Zxid"], 16)  # noqa: E731
    start = zxid()
    shells.ours(server.address, ["get", "/n"])
    assert zxid() - start == 1


def test_unknown_options_are_passed_over(server):
    result = shells.ours(server.address, ["ls", "/"], options=["-nonsense"])
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "[zookeeper]")


def test_an_option_without_its_value_is_told():
    result = shells.ours(None, options=["-server"], script="quit\n")
    assert result.stderr.startswith("Error: no argument found for option -server\n")
    assert "Connecting to localhost:2181\n" in result.stdout


def test_the_client_configuration_is_read_or_the_exit_code_is_2(server, tmp_path):
    absent = shells.ours(server.address, ["ls", "/"], options=["-client-configuration", str(tmp_path / "none")])
    assert absent.returncode == 2 and "none" in absent.stderr
    (tmp_path / "client").write_text("zookeeper.request.timeout=5000\n")
    found = shells.ours(server.address, ["ls", "/"], options=["-client-configuration", str(tmp_path / "client")])
    assert found.returncode == 0
    flags = {"CLIENT_JVMFLAGS": "-Xmx64m -Dzookeeper.request.timeout=5000", "JVMFLAGS": "-Dx=y"}
    assert shells.ours(server.address, ["ls", "/"], environment=flags).returncode == 0


def test_without_a_server_the_command_fails_soon():
    port = harness.free_port()
    start = time.monotonic()
    result = shells.ours(f"127.0.0.1:{port}", ["get", "/hello"])
    assert time.monotonic() - start < 5
    assert (result.returncode, result.stderr) == (1, "KeeperErrorCode = ConnectionLoss for /hello\n")
    assert result.stdout == f"Connecting to 127.0.0.1:{port}\n"
    waiting = shells.ours(f"127.0.0.1:{port}", ["get", "/hello"], options=["-waitforconnection", "-timeout", "1500"])
    assert (waiting.returncode, waiting.stderr) == (1, "KeeperErrorCode = ConnectionLoss\n")


def test_a_silent_server_costs_no_more_than_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        result = shells.ours(address, ["get", "/hello"], options=["-timeout", "1000"])
    assert time.monotonic() - start < 5
    assert (result.returncode, result.stderr) == (1, "KeeperErrorCode = ConnectionLoss for /hello\n")


def test_dead_servers_of_the_connect_string_are_passed_over(server):
    dead = ",".join(f"127.0.0.1:{harness.free_port()}" for _ in range(2))
    for _ in range(4):
        result = shells.ours(f"{dead},{server.address}", ["ls", "/"])
        assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "[zookeeper]"), result.stderr


def test_waitforconnection_waits_for_a_server_that_comes_later(server):
    address = server.address
    server.kill()
    timer = threading.Timer(1, server.start)
    timer.start()
    result = shells.ours(address, ["ls", "/"], options=["-waitforconnection"])
    timer.join()
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "[zookeeper]"), result.stderr


def test_a_chroot_is_honoured(server):
    shells.ours(server.address, ["create", "/app", "top"])
    inside = f"{server.address}/app"
    assert shells.ours(inside, ["create", "-s", "/job-", "x"]).stderr == "Created /job-0000000000\n"
    assert shells.ours(inside, ["ls", "/"]).stdout.endswith("[job-0000000000]\n")
    assert shells.ours(inside, ["get", "/"]).stdout.endswith("\ntop\n")
    assert shells.ours(server.address, ["get", "/app/job-0000000000"]).stdout.endswith("\nx\n")
    script = "addWatch /\ncreate /b x\nquit\n"
    assert "type:NodeCreated path:/b zxid: " in shells.ours(inside, script=script).stdout


@pytest.mark.parametrize("number", [0, 5000])
def test_long_lists_come_whole(server, number):
    script = "create /many\n" + "".join(f"create /many/{n:05}\n" for n in range(number))
    shells.ours(server.address, script=script)
    assert shells.ours(server.address, ["getAllChildrenNumber", "/many"]).stdout.endswith(f"\n{number}\n")
    shells.ours(server.address, ["deleteall", "/many"])
    assert shells.ours(server.address, ["stat", "/many"]).returncode == 1


def test_a_conversation_and_its_watches_outlive_a_restart_of_the_server(server, tmp_path):
    talk = shells.Conversation(server.address, tmp_path)
    try:
        talk.type("create /a x")
        talk.type("get -w /a")
        talk.type("addWatch /")
        talk.hear("(CONNECTED) 3]")
        server.stop()
        talk.hear("state:Disconnected")
        talk.type("get /a")
        talk.hear("KeeperErrorCode = ConnectionLoss for /a")
        server.start().wait_serving()
        talk.hear("state:SyncConnected type:None", times=2)
        talk.type("set /a y")
        talk.hear("type:NodeDataChanged path:/a")
        assert talk.end() == 0
    finally:
        talk.kill()
