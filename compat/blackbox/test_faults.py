"""Faults under a steady load: nothing acknowledged is lost, and all servers end with the same tree.

$ROUNDS scales all of it: 50 (the full campaign) means 50 rounds of killing the leader and 20 of each other fault.
"""

import os
import statistics
import time

import pytest
from clients import differences, tree_digest, walk
from disk import digests, last_digest
from harness import Ensemble, until
from writers import Writers

ROUNDS = int(os.environ.get("ROUNDS", "3"))
OTHER_ROUNDS = max(1, ROUNDS * 2 // 5)
# Rounds whose nodes stay in the tree until the end; those of the others are deleted once they are checked.
KEPT = 5


@pytest.fixture
def group(kind, tmp_path):
    return Ensemble([kind] * 3, tmp_path).start()


class Campaign:
    """Runs rounds of one fault, each under its own writers, and adds up what they saw."""

    def __init__(self, group, clients, name):
        self.group, self.clients, self.name = group, clients, name
        self.gaps_s, self.acknowledged = [], 0

    def round(self, number, fault):
        """Runs `fault(writers)` under load; afterwards every server serves and has every acknowledged write."""
        root = f"/{self.name}/{number}"
        client = self.clients.open(self.group)
        with Writers(self.group, client, root) as writers:
            fault(writers)
        self.gaps_s.append(writers.longest_gap_s())
        self.acknowledged += writers.acknowledged()
        self.group.wait_serving()
        self.clients.close()
        writers.assert_sound([self.clients.open(server) for server in self.group])
        if number % KEPT:
            self.delete(root)
        self.clients.close()

    def delete(self, root):
        client = self.clients.open(self.group)
        for writer in client.get_children(root):
            names = client.get_children(f"{root}/{writer}")
            for start in range(0, len(names), 200):
                transaction = client.transaction()
                for name in names[start : start + 200]:
                    transaction.delete(f"{root}/{writer}/{name}")
                assert all(result is True for result in transaction.commit())

    def report(self):
        gaps_ms = sorted(gap * 1000 for gap in self.gaps_s)
        return (
            f"{self.group[0].kind}: {self.name}: {len(gaps_ms)} rounds, {self.acknowledged} writes acknowledged, 0 lost; "
            f"longest gap per round: median {statistics.median(gaps_ms):.0f} ms, maximum {gaps_ms[-1]:.0f} ms"
        )

    def assert_all_alike(self):
        """Equal trees on all servers; each server's own digest is the digest of that tree."""
        self.group.wait_serving()
        # Sessions are part of no tree, but opening one is a transaction: open all before comparing.
        views = [self.clients.open(server) for server in self.group]
        trees = [walk(view) for view in views]
        for server, tree in zip(self.group.servers[1:], trees[1:]):
            assert not (found := differences(trees[0], tree)), f"{self.group[0]} and {server} differ: {found}"
        expected = tree_digest(trees[0])
        recorded = []
        for server in self.group:
            until(lambda: last_digest(server.data), 5, f"{server} has a log record with a digest")
            zxid, digest = last_digest(server.data)
            assert digest == expected, f"{server} logged digest {digest:#x} at {zxid:#x}, its tree has {expected:#x}"
            recorded.append(digests(server.data))
        for other in recorded[1:]:
            unequal = [zxid for zxid in recorded[0].keys() & other.keys() if recorded[0][zxid] != other[zxid]]
            assert not unequal, f"digests differ at {[hex(zxid) for zxid in sorted(unequal)[:5]]}"


@pytest.mark.limit(60 + 30 * ROUNDS)
def test_killing_the_leader_loses_nothing(group, clients, summary):
    campaign = Campaign(group, clients, "kill -9 the leader")
    for number in range(ROUNDS):

        def kill_and_restart_leader(writers):
            leader = group.leader()
            leader.kill()
            writers.wait_progress(time.monotonic(), 30)
            assert group.leader() not in (None, leader)
            leader.start()
            leader.wait_serving()
            writers.wait_progress(time.monotonic(), 30)

        campaign.round(number, kill_and_restart_leader)
    campaign.assert_all_alike()
    summary(campaign.report())


@pytest.mark.limit(60 + 30 * OTHER_ROUNDS)
def test_killing_all_servers_at_once_loses_nothing(group, clients, summary):
    campaign = Campaign(group, clients, "kill -9 all three at once")
    for number in range(OTHER_ROUNDS):

        def kill_and_restart_all(writers):
            group.kill_all()
            for server in group:
                server.start()
            group.wait_serving()
            writers.wait_progress(time.monotonic(), 30)

        campaign.round(number, kill_and_restart_all)
    campaign.assert_all_alike()
    summary(campaign.report())


@pytest.mark.limit(60 + 60 * OTHER_ROUNDS)
@pytest.mark.parametrize("role", ["follower", "leader"])
def test_pausing_a_server_past_the_sync_limit_loses_nothing(group, clients, summary, role):
    settings = group[0].settings
    pause_s = 1.5 * settings["syncLimit"] * settings["tickTime"] / 1000
    campaign = Campaign(group, clients, f"SIGSTOP a {role}")
    for number in range(OTHER_ROUNDS):

        def pause_and_resume(writers):
            server = group.leader() if role == "leader" else group.followers()[number % 2]
            server.pause()
            try:
                time.sleep(pause_s)
                writers.wait_progress(time.monotonic(), 30)
            finally:
                server.resume()
            group.wait_serving()
            writers.wait_progress(time.monotonic(), 30)

        campaign.round(number, pause_and_resume)
    campaign.assert_all_alike()
    summary(campaign.report())
