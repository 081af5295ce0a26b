"""One trial: damage, start, look.

Outcomes:

    right        all serve, alike, with every acknowledged write
    refused      a damaged server ended by itself with a message; the others serve everything
    waiting      a server neither serves nor ends within the bound; the others serve everything
    unavailable  nobody serves. Right only where fewer than a quorum is undamaged: `needless` tells
    unsafe       an acknowledged write is missing on a server that serves, or members differ
"""

import itertools
import random
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import rawclient
from harness import Ensemble, end_all
from rawclient import ops

from . import damage, history, tree

RIGHT, REFUSED, WAITING, UNAVAILABLE, UNSAFE = OUTCOMES = ("right", "refused", "waiting", "unavailable", "unsafe")
ORDERS = [*itertools.permutations(history.SIDS), None]  # None: all at once
LONGEST_DELAY_S = 3
BOUND_S = {"oxkeeper": 15}
APACHE_BOUND_S = 40
TWO_DAMAGED = 0.25
MEMBER_CHECK, RESTART_CHECK = 0.4, 0.3
#: Looked at again after so long before it counts: a server may still be catching up.
SECOND_LOOK_S = 1


@dataclass
class Plan:
    """What the seed drew."""

    history: int
    faults: list  # (sid, kind of file, fault)
    order: tuple
    delays: list
    member_check: bool
    restart_check: bool


@dataclass
class Result:
    number: int
    plan: Plan
    outcome: str = ""
    stage: str = "start"
    detail: str = ""
    damage: list = field(default_factory=list)
    said: list = field(default_factory=list)
    panicked: bool = False
    seconds: float = 0
    kept: str = ""

    def needless(self):
        """Two undamaged members are a quorum: they must serve."""
        return self.outcome == UNAVAILABLE and len(self.plan.faults) == 1

    def failed(self):
        """What must not be, for a server that is to be trusted."""
        return self.outcome == UNSAFE or self.needless() or self.panicked


def draw(seed, number, cells, lagging):
    """The plan of this trial. `cells` is what may be damaged; `lagging` the late member of each history."""
    shuffled = list(cells)
    random.Random(f"{seed}:cells").shuffle(shuffled)
    rng = random.Random(f"{seed}:trial:{number}")
    of = (number * 5 + number // len(lagging)) % len(lagging)
    # A damaged member does harm beside a late one, so it is mostly one that has everything.
    sids = rng.sample([sid for sid in history.SIDS if sid != lagging[of] or rng.random() < 0.4], 2)
    kind, fault = shuffled[number % len(shuffled)]
    faults = [(sids[0], kind, fault)]
    if rng.random() < TWO_DAMAGED:
        faults.append((sids[1], *((kind, fault) if rng.random() < 0.5 else rng.choice(shuffled))))
    orders = list(ORDERS)
    random.Random(f"{seed}:orders:{number // len(orders)}").shuffle(orders)
    order = orders[number % len(orders)]
    delays = [LONGEST_DELAY_S * rng.random() ** 2 if order else 0 for _ in range(2)]
    return Plan(of, faults, order or history.SIDS, delays, rng.random() < MEMBER_CHECK, rng.random() < RESTART_CHECK)


def worst(number, lagging):
    """The plan of a trial in which a damaged member and a late one are first, and the complete one comes later."""
    late = [at for at, sid in enumerate(lagging) if sid]
    of = late[number % len(late)]
    complete = [sid for sid in history.SIDS if sid != lagging[of]]
    damaged = complete.pop(number % 2)
    order = (damaged, lagging[of], *complete)
    fault = damage.FAULTS[number % len(damage.FAULTS)]
    return Plan(of, [(damaged, damage.NEWEST_LOG, fault)], order, [0, 1], True, True)


class Trial:
    def __init__(self, kind, seed, number, plan, past, keep):
        self.kind, self.plan, self.past, self.keep = kind, plan, past, Path(keep)
        self.rng = random.Random(f"{seed}:bytes:{number}")
        self.result = Result(number, plan)
        self.bound_s = BOUND_S.get(kind, APACHE_BOUND_S)
        self.damaged = {sid for sid, _, _ in plan.faults}
        self.acked = dict(past.acked)

    def run(self):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="trial-", dir=self.keep) as directory:
            self.group = Ensemble([self.kind] * len(history.SIDS), directory, history.SETTINGS)
            covers = []
            try:
                covers = self.prepare()
                self.start()
                self.look()
            finally:
                end_all()
                for cover in covers:
                    cover.close()
                for server in self.group:
                    server.release_ports()
            self.result.panicked = any("panicked at" in server.log_text() for server in self.group)
            if self.result.failed() or self.result.outcome == WAITING:
                self.keep_directory(directory)
        self.result.seconds = time.monotonic() - began
        return self.result

    def prepare(self):
        covers = []
        for server in self.group:
            shutil.copytree(self.past.data(server.sid), server.data, dirs_exist_ok=True)
            server.config.write_text(server.config_text())
        for sid, kind, fault in self.plan.faults:
            done = damage.damage(self.group[sid - 1].data, kind, fault, self.rng)
            if done is None:
                self.result.damage.append(f"server {sid} has no {kind}")
                continue
            self.result.damage.append(f"server {sid}: {done.text}")
            if done.cover:
                covers.append(done.cover)
        return covers

    def keep_directory(self, directory):
        kept = self.keep / f"kept-{self.result.number}"
        shutil.copytree(directory, kept, dirs_exist_ok=True, symlinks=True)
        self.result.kept = str(kept)

    # Starting and looking.

    def start(self):
        for sid, delay in zip(self.plan.order, [*self.plan.delays, 0]):
            self.group[sid - 1].start(write_config=False)
            time.sleep(delay)
            # Two may have begun without the third: what they serve counts already.
            if delay and (serving := self.serving()):
                self.judge(serving)

    def serving(self):
        return [server for server in self.group if server.alive() and server.serving()]

    def look(self):
        self.settle()
        if self.result.outcome == RIGHT and self.plan.member_check:
            self.check_member()
        if self.result.outcome == RIGHT and self.plan.restart_check:
            self.result.stage = "restart of all"
            self.group.kill_all()
            for server in self.group:
                server.process or server.start(write_config=False)
            self.settle()
        if self.result.outcome != RIGHT:
            damaged = [server for server in self.group if server.sid in self.damaged]
            self.result.said = [line for server in damaged for line in self.said(server)]

    def settle(self):
        """Waits until every server serves or has ended, and says what that is."""
        if self.result.outcome == UNSAFE:
            return
        end = time.monotonic() + self.bound_s
        while True:
            running, serving = self.group.running(), self.serving()
            late = time.monotonic() > end
            if (running and serving == running) or (late and serving) or len(running) < 2:
                if self.judge(serving) or late or len(running) < 2:
                    break
            elif late:
                break
            time.sleep(0.05)
        if self.result.outcome != UNSAFE:
            self.result.outcome = self.outcome(running, serving)

    def outcome(self, running, serving):
        started = [server for server in self.group if server.process is not None]
        if not serving:
            return UNAVAILABLE
        if ended := [server for server in started if server not in running]:
            self.result.detail = "; ".join(f"server {s.sid} ended with {s.process.poll()}" for s in ended)
            return REFUSED
        if quiet := [server for server in running if server not in serving]:
            self.result.detail = f"servers that wait: {[server.sid for server in quiet]}"
            return WAITING
        return RIGHT

    def judge(self, serving):
        """Reads what these serve. False if one of them stopped serving meanwhile. Notes what is wrong."""
        try:
            if self.wrong(serving):
                time.sleep(SECOND_LOOK_S)
                if wrong := self.wrong(serving):
                    self.result.outcome, self.result.detail = UNSAFE, wrong
        except (OSError, rawclient.Closed, AssertionError) as error:
            self.result.detail = f"read again after {type(error).__name__} {error}"
            return False
        return True

    def wrong(self, serving):
        trees = [(server, tree.read(server)) for server in serving]
        for server, shown in trees:
            if missing := tree.lost(shown, self.acked):
                return f"server {server.sid} lost {len(missing)} acknowledged writes: {', '.join(missing[:3])}"
        for server, shown in trees[1:]:
            if paths := tree.differing(trees[0][1], shown):
                example = f"{paths[0]}: {trees[0][1].get(paths[0])} and {shown.get(paths[0])}"
                return f"servers {trees[0][0].sid} and {server.sid} differ in {len(paths)} znodes: {example}"
        return ""

    def check_member(self):
        """A damaged member that is back carries a quorum: with one of the others away the two have everything."""
        self.result.stage = "one healthy member away"
        healthy = [server for server in self.group if server.sid not in self.damaged]
        complete = [server for server in healthy if server.sid != self.past.lagging]
        away = (complete or healthy)[0] if healthy else self.group[0]
        away.kill()
        self.settle()
        if self.result.outcome == RIGHT:
            self.write_one()
            self.settle()

    def write_one(self):
        """One more write, which both must have acknowledged."""
        path, data = f"{tree.ROOT}/more", b"more"
        server = self.serving()[0]
        with rawclient.Client.connect(("127.0.0.1", server.client_port), tree.WAIT_S) as client:
            client.call(*ops.create(path, data)).ok()
            client.close()
        self.acked[path] = (tree.summary(data), 0)

    def said(self, server):
        """The last lines of a server's log that look like a reason."""
        lines = [line for line in server.log_text().splitlines() if " ERROR " in line or "Exception" in line]
        return [line[:300] for line in lines[-2:]] or server.log_tail(2).splitlines()


def run(kind, seed, number, plan, work):
    """The result of a trial. For a process of its own: it may mount."""
    return Trial(kind, seed, number, plan, history.make(kind, work, seed, plan.history), work).run()
