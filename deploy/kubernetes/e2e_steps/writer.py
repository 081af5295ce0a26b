"""The client beside the steps: `oxkeeper journal write` in a pod, 100 writes a second through the client Service.

It is a DaemonSet confined to one node, since drains pass over such pods. What it was told to be written
is in its log; `oxkeeper journal check` looks for all of it.
"""

import json
import threading
import time
from dataclasses import dataclass

from . import kubectl
from .kubectl import Background

NAME = "oxkeeper-e2e-writer"
PATH = "/oxkeeper-e2e"


@dataclass
class Writes:
    """What was written during a step."""

    acknowledged: int
    lost: int
    gap_ms: int


def manifest(image, pull_policy, host, service):
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": NAME, "labels": {"app": NAME}},
        "spec": {
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME, "zookeeper-client": "true"}},
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": host},
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": 2,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 1000,
                        "runAsGroup": 1000,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            "name": "writer",
                            "image": image,
                            "imagePullPolicy": pull_policy,
                            "command": ["oxkeeper", "journal", "write", "--rate", "100"]
                            + ["--connect", f"{service}:2181", "--path", PATH],
                            "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}},
                            "securityContext": {
                                "allowPrivilegeEscalation": False,
                                "capabilities": {"drop": ["ALL"]},
                            },
                        }
                    ],
                },
            },
        },
    }


class Writer:
    """The writing pod, and what it was acknowledged."""

    def __init__(self, service):
        self.service = service
        self.acks = {}  # number -> ms of the writer's own clock
        self.others = []
        self.lock = threading.Lock()
        self.pod = None
        self.closing = threading.Event()
        self.follower = None

    def start(self, image, pull_policy, host, run):
        """Creates the pod and waits for its first acknowledged writes."""
        text = json.dumps(manifest(image, pull_policy, host, self.service))
        run.type("apply", "-f", "-", stdin=text)
        found = run.wait("the writer's pod runs", 60, self._running)
        self.pod = found["metadata"]["name"]
        self.follower = threading.Thread(target=self._follow, daemon=True)
        self.follower.start()
        run.wait("the writer is acknowledged 100 writes", 30, lambda: len(self.acks) > 100, self.last_words)

    def _running(self):
        pods = kubectl.get(["pods", "-l", f"app={NAME}"]).get("items", [])
        return next((pod for pod in pods if pod["status"].get("phase") == "Running"), None)

    def _follow(self):
        while not self.closing.is_set():
            log = Background(["logs", "-f", self.pod])
            taken = 0
            while not (log.ended() and not log.reader.is_alive() and taken == len(log.lines)):
                if self.closing.is_set():
                    log.interrupt()
                    return
                for _, line in log.lines[taken:]:
                    taken += 1
                    self._take(line)
                time.sleep(0.1)
            self.closing.wait(1)

    def _take(self, line):
        words = line.split()
        with self.lock:
            if len(words) == 3 and words[0] == "ack":
                self.acks[int(words[1])] = int(words[2])
            elif line not in self.others:
                self.others.append(line)

    def last_words(self):
        return " / ".join(self.others[-3:])

    def last(self):
        """The largest number acknowledged so far."""
        with self.lock:
            return max(self.acks, default=-1)

    def goes_on(self, run, limit=60):
        """Waits until a write is acknowledged that was begun from now on."""
        then = self.last()
        run.wait("a write is acknowledged again", limit, lambda: self.last() > then + 1, self.last_words)

    def catch_up(self):
        """The whole log at once, in case the follower is behind or missed some."""
        answer = kubectl.call(["logs", self.pod], 60)
        for line in answer.out.splitlines():
            self._take(line)

    def written_since(self, before, run, check_all=True):
        """Writes of a step that began after number `before`; looks for all writes of the run so far."""
        self.catch_up()
        with self.lock:
            acks = dict(self.acks)
        window = [number for number in sorted(acks) if number > before]
        times = [acks[before]] if before in acks else []
        times += [acks[number] for number in window]
        gap = max((two - one for one, two in zip(times, times[1:])), default=0)
        lost = self.look_for(acks, run) if check_all else 0
        return Writes(len(window), lost, gap)

    def look_for(self, acks, run):
        """Number of lost writes; asks the ensemble through the Service."""
        lines = "".join(f"ack {number} 0\n" for number in acks)
        words = ["exec", "-i", self.pod, "--", "oxkeeper", "journal", "check"]
        words += ["--connect", f"{self.service}:2181", "--path", PATH]
        answer = kubectl.call(words, run.remaining(60), lines)
        answer_words = answer.out.split()
        if answer_words[1:2] != ["acknowledged,"] or answer_words[3:4] != ["lost"]:
            raise RuntimeError(f"oxkeeper journal check: {answer.text() or answer.code}")
        return int(answer_words[2])

    def restarts(self):
        found = kubectl.get(["pod", self.pod])
        return sum(one["restartCount"] for one in found.get("status", {}).get("containerStatuses", []))

    def close(self):
        self.closing.set()
        if self.follower:
            self.follower.join(10)
