"""The production image without a cluster: docs/spec/kubernetes.md 3, 7, 8 and the chaos row of 12."""

import os
import re
import secrets
import stat
import subprocess
import time
import zlib

import pytest

import pods

SERVERS = ["start-zookeeper", "--servers=3", "--data_dir=/var/lib/zookeeper/data", "--tick_time=2000"]
PROBE = """
import socket, sys, time
end = time.monotonic() + 20
while time.monotonic() < end:
    try:
        with socket.create_connection(("127.0.0.1", 2181), 1) as server:
            server.sendall(b"ruok")
            if server.recv(4) == b"imok":
                print(time.clock_gettime(time.CLOCK_BOOTTIME))
                sys.exit()
    except OSError:
        pass
    time.sleep(0.002)
sys.exit("no imok within 20 s")
"""


@pytest.fixture
def image(images):
    return images["production"]


@pytest.fixture
def alone(node, image):
    """What `docker run --read-only` makes of the image: its own command, an empty volume, a host name without order."""
    pod = node.pod(secrets.token_hex(6), image, read_only=True, fs_group=False).place()
    yield pod
    pod.delete()


@pytest.fixture
def ensemble(node, image):
    """Three pods under a read-only root, conf and tmp as emptyDirs; started all at once."""
    with pods.stateful_set(
        node, image, SERVERS, read_only=True, empty_dirs=("/opt/zookeeper/conf", "/tmp")
    ) as three:
        yield three


def started(three):
    for pod in three:
        pod.start()
    for pod in three:
        pod.wait_serves()


def create(pod, path, data):
    pod.says("zkCli.sh", "create", path, data)


def get(pod, path):
    return pod.says("zkCli.sh", "get", path).splitlines()


def boot_time_of_start(pid):
    """When a process was started, in seconds since boot."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        after_name = file.read().rpartition(")")[2].split()
    return int(after_name[19]) / os.sysconf("SC_CLK_TCK")


def test_run_without_a_command_it_is_a_standalone_server_on_a_read_only_root(alone, summary, image):
    alone.start()
    probe = ["ip", "netns", "exec", alone.namespace, "python3", "-c", PROBE]
    answered = float(subprocess.run(probe, capture_output=True, text=True, timeout=25, check=True).stdout)
    took = answered - boot_time_of_start(alone.pid())
    size = (image.root / "usr/bin/oxkeeper").stat().st_size
    summary(f"production image: {size} bytes of binary; from process start to imok {took * 1000:.0f} ms")
    assert took < 10
    assert alone.exec("oxkeeper", "ready", "2181").returncode == 0
    # Its data went to the volume.
    assert (alone.volume / "data/version-2/snapshot.0").exists(), sorted(alone.volume.rglob("*"))


def test_it_runs_as_user_1000_without_capabilities(alone):
    alone.start().wait_serves()
    with open(f"/proc/{alone.pid()}/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Gid"].split() == ["1000"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_there_is_nothing_to_execute_but_the_server(image, alone):
    executable = []
    for path in image.root.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & 0o111:
            executable.append(str(path.relative_to(image.root)))
        assert not mode & (stat.S_ISUID | stat.S_ISGID), path
    assert executable == ["usr/bin/oxkeeper"]
    alone.start().wait_serves()
    shell = alone.exec("sh", "-c", "true")
    assert shell.returncode != 0 and "executable file not found" in shell.stderr


def test_nothing_but_the_own_places_belongs_to_the_user(image):
    own = {"opt/zookeeper/conf", "opt/zookeeper/conf/zoo.cfg", "var/log/zookeeper"}
    own |= {"var/lib/zookeeper", "var/lib/zookeeper/data", "var/lib/zookeeper/log"}
    found = set()
    for path in image.root.rglob("*"):
        entry = path.lstat()
        if (entry.st_uid, entry.st_gid) != (0, 0):
            assert (entry.st_uid, entry.st_gid) == (1000, 1000), path
            found.add(str(path.relative_to(image.root)))
    assert found == own


@pytest.mark.parametrize("name", ["production", "tutorial"])
def test_the_dockerfile_would_lay_out_the_same_files(name, images, tmp_path):
    """apply.sh, which the Dockerfile runs, against the archive of the chore."""
    image = images[name]
    apply = pods.COMPAT.parent / "deploy/image/apply.sh"
    pods.run("sh", apply, name, image.root / "usr/bin/oxkeeper", tmp_path / "root")
    applied, built = listing(tmp_path / "root"), listing(image.root)
    if name == "tutorial":
        # Debian's packages are around them.
        built = {path: entry for path, entry in built.items() if path in applied}
    assert applied == built


def test_the_image_is_small(image, summary):
    size = len(zlib.compress(image.archive.read_bytes()))
    summary(f"production image: {size / 1e6:.1f} MB compressed")
    assert size < 20_000_000


def listing(root):
    found = {}
    for path in root.rglob("*"):
        entry = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (stat.filemode(entry.st_mode), entry.st_uid, entry.st_gid, content)
    return found


def test_term_ends_a_standalone_container_with_143(alone):
    alone.start().wait_serves()
    begin = time.monotonic()
    alone.signal("TERM")
    assert alone.ended() == 143
    assert time.monotonic() - begin < 5


def test_term_ends_every_member_with_143_within_5_s(ensemble):
    started(ensemble)
    for pod in ensemble:
        begin = time.monotonic()
        pod.signal("TERM")
        assert pod.ended() == 143, pod
        assert time.monotonic() - begin < 5, pod


def test_a_read_only_root_without_a_place_for_the_configuration_is_no_obstacle(node, image):
    with pods.stateful_set(node, image, SERVERS, read_only=True) as three:
        started(three)
        create(three[0], "/hello", "world")
        assert "world" in get(three[2], "/hello")


def test_a_volume_of_another_member_is_fatal_and_the_reason_reaches_the_termination_log(ensemble):
    first = ensemble[0]
    data = first.volume / "data"
    data.mkdir()
    (data / "myid").write_text("3\n")
    for path in (data, data / "myid"):
        os.chown(path, 1000, 1000)
    assert first.start().ended(15) not in (0, 143)
    said = first.termination.read_text()
    assert len(said.strip().splitlines()) == 1, said
    assert re.search(r"\b3\b", said) and re.search(r"\b1\b", said) and "myid" in said, said
    assert (data / "myid").read_text() == "3\n"


def test_a_member_with_a_new_address_is_found_again(ensemble):
    started(ensemble)
    create(ensemble[0], "/hello", "world")
    # As a rolling update does it, the highest first; in the end nobody is where it was.
    for pod in reversed(ensemble):
        before = pod.address
        assert pod.terminate() == 143
        pod.place().start()
        assert pod.address != before
        pod.wait_serves(60)
        assert "world" in get(pod, "/hello")
    assert all(pod.serves() for pod in ensemble)


def test_a_name_that_dns_does_not_know_for_a_while_keeps_nobody_else_from_serving(ensemble):
    first, second, third = ensemble
    first.publish(False)
    for pod in ensemble:
        pod.start()
    second.wait_serves(60)
    third.wait_serves(60)
    assert first.process.poll() is None
    create(third, "/hello", "world")
    first.publish()
    first.wait_serves(60)
    assert "world" in get(first, "/hello")


@pytest.mark.limit(120)
def test_all_killed_at_once_regain_a_quorum_within_60_s_with_all_data(ensemble):
    started(ensemble)
    written = {f"/key-{number}": f"value-{number}" for number in range(5)}
    for number, (path, data) in enumerate(written.items()):
        create(ensemble[number % 3], path, data)
    for pod in ensemble:
        pod.signal("KILL")
    assert [pod.ended() for pod in ensemble] == [137] * 3
    for pod in ensemble:
        pod.start()
    begin = time.monotonic()
    for pod in ensemble:
        pod.wait_serves(60)
    assert time.monotonic() - begin < 60
    for pod in ensemble:
        for path, data in written.items():
            assert data in get(pod, path), pod
