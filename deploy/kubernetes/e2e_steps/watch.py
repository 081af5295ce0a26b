"""`kubectl get pods -w`, recorded from the beginning, and what its order of events says."""

import re
import threading
import time
from dataclasses import dataclass

from .kubectl import Background

LINE = re.compile(r"^(ADDED|MODIFIED|DELETED)\s+(\S+)\s+(\d+/\d+)\s+(\S+)\s+(\d+)(?: \([^)]*\))?\s+\S+")


@dataclass
class Event:
    """One line of the watch: when it came, and the columns that do not age."""

    at: float
    kind: str
    pod: str
    ready: str
    status: str
    restarts: int

    @property
    def state(self):
        return f"{self.ready} {self.status} {self.restarts}"

    @property
    def shown(self):
        """Its columns, as printed."""
        status = self.status if self.kind != "DELETED" else f"{self.status} (deleted)"
        return f"{self.ready:<8}{status:<28}{self.restarts}"

    @property
    def serving(self):
        ready, of = self.ready.split("/")
        return self.kind != "DELETED" and self.status == "Running" and ready == of


class Watch:
    """The watch over a label; started again if the API server ends it."""

    def __init__(self, label):
        self.words = ["get", "pods", "-w", "-l", label, "--output-watch-events"]
        self.events = []
        self.latest = {}
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def _follow(self):
        while not self.closing.is_set():
            watch = Background(self.words)
            taken = 0
            while not (watch.ended() and not watch.reader.is_alive() and taken == len(watch.lines)):
                if self.closing.is_set():
                    watch.interrupt()
                    return
                for at, line in watch.lines[taken:]:
                    taken += 1
                    self._take(at, line)
                time.sleep(0.05)
            self.closing.wait(1)

    def _take(self, at, line):
        match = LINE.match(line)
        if not match:
            return
        kind, pod, ready, status, restarts = match.groups()
        event = Event(at, kind, pod, ready, status, int(restarts))
        before = self.latest.get(pod)
        if before and kind == "ADDED" and before.state == event.state:
            return  # the list at the start of another watch
        if kind == "DELETED":
            self.latest.pop(pod, None)
        else:
            self.latest[pod] = event
        self.events.append(event)

    def mark(self):
        return len(self.events)

    def since(self, mark):
        return self.events[mark:]

    def close(self):
        self.closing.set()
        self.thread.join(10)


def states(events, pod):
    """The different states of one pod, one after another; a deletion is `gone`."""
    seen = []
    for event in events:
        if event.pod == pod:
            state = "gone" if event.kind == "DELETED" else event.state
            if not seen or seen[-1] != state:
                seen.append(state)
    return seen


def told(events, pod):
    return f"{pod}: " + " -> ".join(states(events, pod) or ["nothing"])


def first(events, pod, which, start=0):
    """Position of the first event of the pod that fits, or None."""
    for position in range(start, len(events)):
        if events[position].pod == pod and which(events[position]):
            return position
    return None


def contains_in_order(seen, wanted):
    """Does `seen` contain `wanted` in this order, perhaps with others between?"""
    rest = iter(seen)
    return all(any(one == other for other in rest) for one in wanted)


def ordered_start(events, pods):
    """[(required, holds, seen)] of a start in which each pod is Ready before the next one appears."""
    way = ["0/1 Pending 0", "0/1 ContainerCreating 0", "0/1 Running 0", "1/1 Running 0"]
    checks = []
    for pod in pods:
        seen = states(events, pod)
        checks.append(
            (f"{pod}: Pending, ContainerCreating, Running 0/1, 1/1", seen == way, told(events, pod))
        )
    for before, after in zip(pods, pods[1:]):
        ready = first(events, before, lambda event: event.serving)
        appears = first(events, after, lambda event: event.kind == "ADDED")
        holds = ready is not None and appears is not None and ready < appears
        gap = f"{events[appears].at - events[ready].at:.1f} s between" if holds else "not in this order"
        checks.append((f"{before} is 1/1 before {after} appears", holds, gap))
    waits = []
    for pod in pods:
        running = first(events, pod, lambda event: event.status == "Running")
        ready = first(events, pod, lambda event: event.serving)
        waits.append(None if None in (running, ready) else events[ready].at - events[running].at)
    holds = all(wait is not None and 10 <= wait <= 30 for wait in waits)
    seen = ", ".join("never" if wait is None else f"{wait:.0f} s" for wait in waits)
    checks.append(("about 20 s (10 to 30) from Running to Ready", holds, seen))
    return checks


def rolling(events, pods):
    """[(required, holds, seen)] of a replacement one pod after another, in the order of `pods`."""
    checks, ends = [], []
    for pod in pods:
        leaves = first(events, pod, lambda event: event.status == "Terminating")
        gone = None if leaves is None else first(events, pod, lambda event: event.kind == "DELETED", leaves)
        back = None if gone is None else first(events, pod, lambda event: event.serving, gone)
        checks.append(
            (f"{pod} is replaced: Terminating, gone, 1/1 Running", back is not None, told(events, pod))
        )
        ends.append((leaves, back))
    for (before, after), (one, two) in zip(zip(pods, pods[1:]), zip(ends, ends[1:])):
        holds = one[1] is not None and two[0] is not None and one[1] < two[0]
        checks.append(
            (f"{before} is Ready before {after} goes", holds, "in this order" if holds else "not so")
        )
    missing, most = set(), 0
    for event in events:
        (missing.discard if event.serving else missing.add)(event.pod)
        most = max(most, len(missing))
    checks.append(("never more than one pod not Ready", most <= 1, f"{most} at most"))
    return checks
