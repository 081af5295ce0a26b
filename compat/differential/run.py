"""Runs the same steps on two sides, finds the first difference, makes it small."""

import difflib
import tempfile
import time
from pathlib import Path

import harness
from rawclient import Closed, ops

from . import steps as dsl
from .side import Side

#: zoo.cfg of both sides. No session may end by itself, and no node may be reaped.
SETTINGS = {"tickTime": 500, "minSessionTimeout": 15000, "maxSessionTimeout": 40000,
            "enforceQuota": "true", "forceSync": "no"}
PROPERTIES = {"zookeeper.DigestAuthenticationProvider.superDigest": ops.SUPER_DIGEST,
              "znode.container.checkIntervalMs": "86400000"}
REFERENCE = "apache-3.9.5"
SHRINK_S = 90
CONTEXT = 6
#: Neither side may do this: even when both do, it is shown.
STOPPED = "the run stopped"


class Pair:
    """The reference and the target, each a new standalone server."""

    def __init__(self, target, settings=None, reference=REFERENCE):
        self.kinds = (reference, target)
        self.settings = {**SETTINGS, **(settings or {})}
        self.servers = []

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="traps-")
        for index, kind in enumerate(self.kinds):
            server = harness.standalone(kind, Path(self.directory.name) / str(index),
                                        **self.settings)
            server.jvm_flags = [f"-D{key}={value}" for key, value in PROPERTIES.items()]
            self.servers.append(server.start())
        labels = ("reference", "target")
        self.sides = [Side(label, ("127.0.0.1", server.wait_serving().client_port))
                      for label, server in zip(labels, self.servers)]
        return self

    def __exit__(self, *_):
        for server in self.servers:
            if server.alive():
                server.kill()
            elif server.process:
                server.wait_exit(1)
        self.directory.cleanup()

    def alive(self):
        return all(server.alive() for server in self.servers)

    def compare(self, steps):
        """None, or the Difference that shows first."""
        for side in self.sides:
            side.begin()
        seen = []
        for index, step in enumerate(steps):
            both = [self.guarded(side.run, step) for side in self.sides]
            seen.append(both[0])
            if both[0] != both[1] or both[0][:1] == [STOPPED]:
                return Difference(steps, index, seen, both)
        both = [self.guarded(side.finish) for side in self.sides]
        seen.append(both[0])
        same = both[0] == both[1] and both[0][:1] != [STOPPED]
        return None if same else Difference(steps, len(steps), seen, both)

    @staticmethod
    def guarded(function, *args):
        try:
            return function(*args)
        except (OSError, Closed, AssertionError) as error:
            return [STOPPED, f"{type(error).__name__} {error}"]


class Difference:
    def __init__(self, steps, index, seen, both):
        self.steps, self.index, self.seen, self.both = steps, index, seen, both

    def __str__(self):
        lines = []
        first = max(0, self.index - CONTEXT)
        if first:
            lines.append(f"... {first} steps with equal results ...")
        for step, seen in zip(self.steps[first:self.index], self.seen[first:]):
            lines.append(f"step {step!r}"[:600])
            lines += [f"    {line}"[:300] for line in seen if ": ping zxid" not in line]
        what = self.steps[self.index] if self.index < len(self.steps) else "final tree"
        lines.append(f"step {what!r}"[:2000] + "   <-- differs")
        lines += [f"  {line}"[:600] for line in difflib.unified_diff(
            *self.both, "reference", "target", lineterm="", n=1)]
        return "\n".join(lines)


def fails(target, settings, steps):
    """The difference that these steps make between new servers."""
    with Pair(target, settings) as pair:
        return pair.compare(steps)


def shrink(target, settings, difference, seconds=SHRINK_S):
    """A smaller run that still differs, found by leaving steps and requests out."""
    deadline = time.monotonic() + seconds
    best = fails(target, settings, difference.steps[:difference.index + 1])
    if best is None:
        return None
    size = max(1, best.index // 2)
    while size >= 1 and time.monotonic() < deadline:
        at, smaller = 0, False
        while at < len(best.steps) and time.monotonic() < deadline:
            steps = best.steps[:at] + best.steps[at + size:]
            found = fails(target, settings, steps) if steps else None
            if found:
                best, smaller = trimmed(found), True
            else:
                at += size
        if not smaller or size > 1:
            if size == 1:
                break
            size //= 2
    return single_requests(target, settings, best, deadline)


def trimmed(difference):
    difference.steps = difference.steps[:difference.index + 1]
    return difference


def single_requests(target, settings, best, deadline):
    """Leaves requests out of batches."""
    for index in range(len(best.steps) - 1, -1, -1):
        at = 0
        while (index < len(best.steps) and best.steps[index][0] == "call"
               and at < len(best.steps[index][2]) > 1 and time.monotonic() < deadline):
            kind, name, requests = best.steps[index]
            fewer = (kind, name, requests[:at] + requests[at + 1:])
            steps = best.steps[:index] + [fewer] + best.steps[index + 1:]
            found = fails(target, settings, steps)
            if found:
                best = trimmed(found)
            else:
                at += 1
    return best


def save(steps, name):
    path = Path(tempfile.gettempdir()) / f"differential-{name}.steps"
    path.write_text(dsl.dump(steps))
    return path
