"""kazoo and Debian's zkCli.sh against a running ensemble: what an application sees."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from harness import until, zkcli
from kazoo.client import KazooState
from kazoo.exceptions import BadVersionError, NoNodeError, NodeExistsError, RolledBackError
from kazoo.recipe.watchers import ChildrenWatch, DataWatch

EPHEMERAL_OWNER = """
import sys, time
from kazoo.client import KazooClient
client = KazooClient(hosts=sys.argv[1], timeout=float(sys.argv[2]))
client.start(timeout=20)
client.create(sys.argv[3], b"", ephemeral=True)
print(client._session_timeout, flush=True)
time.sleep(600)
"""


def in_threads(count, work):
    """Runs `work(index)` in `count` threads and raises the first failure."""
    failures = []

    def guarded(index):
        try:
            work(index)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread of the recipe hangs"
    if failures:
        raise failures[0]


@pytest.fixture
def three(ensemble, clients):
    """One client on each of the three servers."""
    return [clients.open(server) for server in ensemble]


def test_created_on_one_server_is_read_on_the_others_after_sync(three):
    for writer, client in enumerate(three):
        path = f"/created-on/{writer}"
        client.create(path, b"from %d" % writer, makepath=True)
        for reader in three:
            reader.sync(path)
            data, stat = reader.get(path)
            assert data == b"from %d" % writer and stat.version == 0


def test_every_server_rejects_what_is_wrong_in_the_same_way(three):
    three[0].create("/wrong", b"x")
    for client in three:
        client.sync("/wrong")
        with pytest.raises(NodeExistsError):
            client.create("/wrong")
        with pytest.raises(BadVersionError):
            client.set("/wrong", b"y", version=7)
        with pytest.raises(NoNodeError):
            client.create("/no/parent")
        with pytest.raises(NoNodeError):
            client.get("/missing")


@pytest.mark.parametrize("server", range(3))
def test_an_ephemeral_outlives_its_killed_client_by_the_session_timeout_and_no_more(ensemble, three, server):
    path = f"/ephemeral-of-{server}"
    words = [sys.executable, "-c", EPHEMERAL_OWNER, ensemble[server].address, "4", path]
    owner = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    timeout_s = float(owner.stdout.readline()) / 1000
    tick_s = ensemble[server].settings["tickTime"] / 1000
    for client in three:
        client.sync(path)
        assert client.exists(path)
    owner.send_signal(signal.SIGKILL)
    owner.wait(10)
    killed = time.monotonic()
    # The client may have pinged up to a third of its timeout before it died.
    while time.monotonic() < killed + timeout_s * 0.6:
        for client in three:
            assert client.exists(path), f"gone {time.monotonic() - killed:.1f} s after the kill, timeout {timeout_s} s"
        time.sleep(0.1)
    for client in three:
        until(lambda: not client.exists(path), timeout_s * 0.4 + 2 * tick_s + 1.5, f"{path} is gone")


def move(client, server):
    """Makes kazoo resume its session on this server: it may use no other, and its sockets elsewhere are cut."""
    client.set_hosts(server.address)

    def moved():
        socket = client._connection._socket
        if not client.connected or socket is None:
            return False
        if socket.getpeername()[1] == server.client_port:
            return True
        socket.shutdown(2)
        time.sleep(0.1)
        return False

    until(moved, 20, f"the session resumes on {server}")


def test_a_session_moves_between_servers_with_its_ephemerals(ensemble, clients):
    mover = clients.open(ensemble)
    states = []
    mover.add_listener(states.append)
    session = mover.client_id[0]
    mover.create("/moved", b"", ephemeral=True)
    for server in ensemble:
        move(mover, server)
        assert mover.client_id[0] == session
        assert mover.exists("/moved").ephemeralOwner == session
        mover.set("/moved", server.address.encode())
    assert KazooState.LOST not in states


def test_lock_excludes(three):
    holders = []

    def work(index):
        lock = three[index].Lock("/recipes/lock", f"client {index}")
        for _ in range(5):
            with lock:
                holders.append(index)
                assert len(holders) == 1
                time.sleep(0.005)
                holders.pop()

    in_threads(3, work)


def test_read_locks_share_and_a_write_lock_excludes(three):
    readers = [client.ReadLock("/recipes/rw", f"reader {n}") for n, client in enumerate(three[:2])]
    writer = three[2].WriteLock("/recipes/rw", "writer")
    for lock in readers:
        assert lock.acquire(timeout=10)
    assert not writer.acquire(blocking=False)
    for lock in readers:
        lock.release()
    assert writer.acquire(timeout=10)
    assert not readers[0].acquire(blocking=False)
    writer.release()


def test_semaphore_admits_only_so_many(three):
    inside, most = [], []

    def work(index):
        semaphore = three[index].Semaphore("/recipes/semaphore", f"client {index}", max_leases=2)
        for _ in range(5):
            with semaphore:
                inside.append(index)
                most.append(len(inside))
                time.sleep(0.005)
                inside.remove(index)

    in_threads(3, work)
    assert max(most) <= 2


def test_election_makes_one_leader_after_the_other(three):
    led = []

    def work(index):
        election = three[index].Election("/recipes/election", f"candidate {index}")

        def lead():
            led.append(index)
            assert election.contenders()[0] == f"candidate {index}"

        election.run(lead)

    in_threads(3, work)
    assert sorted(led) == [0, 1, 2]


def test_queue_hands_out_each_entry_once(three):
    for number in range(30):
        three[number % 3].Queue("/recipes/queue").put(b"%d" % number)
    taken = []

    def work(index):
        queue = three[index].Queue("/recipes/queue")
        three[index].sync("/recipes/queue")
        while (entry := queue.get()) is not None:
            taken.append(int(entry))

    in_threads(3, work)
    assert sorted(taken) == list(range(30))


def test_locking_queue_keeps_an_entry_until_it_is_consumed(three):
    queue = three[0].LockingQueue("/recipes/locking-queue")
    queue.put_all([b"a", b"b"])
    assert queue.get(timeout=10) == b"a"
    assert queue.holds_lock()
    other = three[1].LockingQueue("/recipes/locking-queue")
    assert other.get(timeout=10) == b"b"
    assert queue.consume() and other.consume()
    three[2].sync("/recipes/locking-queue")
    assert len(three[2].LockingQueue("/recipes/locking-queue")) == 0


def test_barrier_releases_waiters(three):
    barrier = three[0].Barrier("/recipes/barrier")
    barrier.create()
    for client in three:
        client.sync("/recipes/barrier")
    assert not three[1].Barrier("/recipes/barrier").wait(0.3)
    threading.Timer(0.3, barrier.remove).start()
    in_threads(2, lambda index: _true(three[1 + index].Barrier("/recipes/barrier").wait(10)))


def _true(value):
    assert value


def test_double_barrier_lets_all_in_and_out_together(three):
    entered = []

    def work(index):
        barrier = three[index].DoubleBarrier("/recipes/double-barrier", 3)
        time.sleep(0.1 * index)
        barrier.enter()
        assert barrier.participating
        entered.append(index)
        barrier.leave()

    in_threads(3, work)
    assert sorted(entered) == [0, 1, 2]


def test_counter_counts_under_contention(three):
    def work(index):
        counter = three[index].Counter("/recipes/counter")
        for _ in range(10):
            counter += 1

    in_threads(3, work)
    three[0].sync("/recipes/counter")
    assert three[0].Counter("/recipes/counter").value == 30


def test_party_lists_its_members(three):
    parties = [client.Party("/recipes/party", f"member {n}") for n, client in enumerate(three)]
    for party in parties:
        party.join()
    three[0].sync("/recipes/party")
    assert sorted(parties[0]) == ["member 0", "member 1", "member 2"]
    parties[1].leave()
    three[0].sync("/recipes/party")
    assert len(parties[0]) == 2


def test_lease_has_one_holder(three):
    from datetime import timedelta

    assert three[0].NonBlockingLease("/recipes/lease", timedelta(seconds=30), "first")
    three[1].sync("/recipes/lease")
    assert not three[1].NonBlockingLease("/recipes/lease", timedelta(seconds=30), "second")


def test_data_and_children_watches_see_changes_made_on_another_server(three):
    three[0].create("/watched", b"0")
    three[1].sync("/watched")
    values, children = [], []
    DataWatch(three[1], "/watched", lambda data, stat: values.append(data))
    ChildrenWatch(three[1], "/watched", lambda names: children.append(sorted(names)))
    for number in range(1, 4):
        three[2].set("/watched", b"%d" % number)
        until(lambda: values[-1] == b"%d" % number, 10, f"value {number} is seen")
    three[2].create("/watched/child")
    until(lambda: children[-1] == ["child"], 10, "the child is seen")
    three[0].delete("/watched", recursive=True)
    until(lambda: values[-1] is None, 10, "the deletion is seen")


def test_transaction_happens_whole_or_not_at_all(three):
    three[0].create("/multi", b"")
    good = three[1].transaction()
    good.create("/multi/a", b"1")
    good.check("/multi", 0)
    good.set_data("/multi", b"set")
    results = good.commit()
    assert results[0] == "/multi/a" and results[2].version == 1
    bad = three[2].transaction()
    bad.create("/multi/b", b"2")
    bad.delete("/multi/missing")
    bad.create("/multi/c", b"3")
    results = bad.commit()
    assert isinstance(results[0], RolledBackError) and isinstance(results[1], NoNodeError)
    three[0].sync("/multi")
    assert three[0].get_children("/multi") == ["a"]


def test_sequential_names_are_unique_and_ascending_across_servers(three):
    three[0].create("/sequence", b"")
    names = [three[n % 3].create("/sequence/s-", b"", sequence=True) for n in range(12)]
    assert names == sorted(set(names))


def test_zkcli_one_shot_commands(ensemble, clients):
    address = ensemble[1].address
    made = zkcli(address, "create", "/cli", "hello")
    assert made.returncode == 0 and "Created /cli" in made.stdout + made.stderr
    shown = zkcli(ensemble[2].address, "get", "-s", "/cli")
    assert shown.returncode == 0
    assert "hello" in shown.stdout and "dataVersion = 0" in shown.stdout and "dataLength = 5" in shown.stdout
    missing = zkcli(address, "get", "/cli-missing")
    assert missing.returncode == 1 and "Node does not exist: /cli-missing" in missing.stdout + missing.stderr
    assert clients.open(ensemble[0]).get("/cli")[0] == b"hello"


def test_zkcli_scripted_commands(ensemble):
    script = """
create /script root
create -s /script/s- one
create -e /script/eph two
create -c /script/container
create -t 600000 /script/ttl three
set /script changed
setAcl /script/eph world:anyone:r
getAcl /script/eph
ls -s /script
ls -R /script
getAllChildrenNumber /script
getEphemerals /script
sync /script
stat /script
addWatch -m PERSISTENT /script
whoami
deleteall /script
quit
"""
    done = zkcli(ensemble[0].address, script=script)
    output = done.stdout + done.stderr
    for expected in (
        "Created /script/s-0000000000",
        "'world,'anyone",
        "[container, eph, s-0000000000, ttl]",
        "/script/container",
        "Sync is OK",
        "dataVersion = 1",
        "numChildren = 4",
        "[/script/eph]",
    ):
        assert expected in output, f"{expected!r} is missing in:\n{output}"
    assert "KeeperErrorCode" not in output
