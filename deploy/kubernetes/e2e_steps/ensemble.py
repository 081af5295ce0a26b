"""The ensemble under test: its pods as the watch shows them, and what every profile asks of them."""

import re
import time

from . import cluster, kubectl
from .run import say
from .watch import states, told


class Ensemble:
    """A StatefulSet and its pods. `label` selects them; nothing else in the namespace has it."""

    def __init__(self, run, watch, name, replicas, label):
        self.run = run
        self.watch = watch
        self.name = name
        self.pods = [f"{name}-{ordinal}" for ordinal in range(replicas)]
        self.label = label
        self.mark = 0
        self.uids = set()

    def begin(self, _step):
        """Called before each step: its events begin here."""
        self.mark = self.watch.mark()

    def events(self):
        return self.watch.since(self.mark)

    def show(self, events):
        """The watch as its reader sees it."""
        self.run.show_typed(self.watch.words[:-1])
        self.run.show("\n".join(f"{event.pod:<8}{event.shown}" for event in events), 80)

    def serving(self):
        latest = dict(self.watch.latest)
        return set(latest) == set(self.pods) and all(event.serving for event in latest.values())

    def now(self):
        latest = sorted(self.watch.latest.items())
        return ", ".join(f"{pod} {event.state}" for pod, event in latest) or "no pods"

    def all_ready(self, limit=150):
        self.run.wait(f"{len(self.pods)} pods Running and Ready", limit, self.serving, self.now)
        self.uids |= self.pod_uids()

    def all_gone(self, limit=60):
        self.run.wait("all pods gone", limit, lambda: not self.watch.latest, self.now)

    def items(self):
        return kubectl.get(["pods", "-l", self.label]).get("items", [])

    def pod_uids(self):
        return {pod["metadata"]["uid"] for pod in self.items()}

    def node_of(self, pod):
        return kubectl.get(["pod", pod])["spec"].get("nodeName")

    def spec(self):
        return kubectl.get(["sts", self.name])["spec"]

    def container(self):
        """The server's container, as the StatefulSet has it now."""
        return self.spec()["template"]["spec"]["containers"][0]

    def roles(self):
        """leader, follower or none by pod, asked without a session."""
        roles = {}
        for pod in self.pods:
            answer = kubectl.call(["exec", pod, "--", "zookeeper-metrics", "2181"], self.run.remaining(20))
            found = re.search(r"^zk_server_state\s+(\w+)", answer.out, re.M)
            roles[pod] = found.group(1) if found else "none"
        return roles

    def check_consensus(self, limit=30):
        """A Ready member may still be on its way into the quorum, where readiness does not ask for it."""
        wanted = ["follower"] * (len(self.pods) - 1) + ["leader"]
        begin, roles = time.monotonic(), {}

        def agreed():
            roles.update(self.roles())
            return sorted(roles.values()) == wanted

        def told_roles():
            return ", ".join(f"{pod} {role}" for pod, role in roles.items())

        self.run.wait("one leader, all others followers", limit, agreed, told_roles)
        seen = f"{told_roles()}, after {time.monotonic() - begin:.1f} s"
        self.run.check("one leader, all others followers", True, seen)

    def explain(self):
        """After a failure: why containers ended, and what they said last."""
        for pod in self.items():
            for status in pod["status"].get("containerStatuses", []):
                ended = status.get("lastState", {}).get("terminated") or status["state"].get("terminated")
                if not ended:
                    continue
                name = pod["metadata"]["name"]
                message = (ended.get("message") or "").strip()
                say(f"  {name}, restarts {status['restartCount']}: ended with {ended['exitCode']} {message}")
                words = ["logs", name, "--tail=12", *(["--previous"] if status["restartCount"] else [])]
                self.run.type(*words, limit=20)

    def rolled_out(self, limit=240):
        answer = self.run.type("rollout", "status", f"sts/{self.name}", limit=limit)
        end = (answer.out.splitlines() or [""])[-1]
        count = len(self.pods)
        texts = (
            f"partitioned roll out complete: {count} new pods have been updated...",
            f"statefulset rolling update complete {count} pods at revision ",
        )
        self.run.check("ends with success", answer.ok and end.startswith(texts), answer.text()[-300:])

    def pause(self, seconds):
        end = time.monotonic() + seconds
        self.run.wait(f"{seconds} seconds", seconds + 5, lambda: time.monotonic() >= end)

    def stays_pending(self, pod):
        """The pod is Pending, and stays so, because no node may take it."""

        def waits():
            event = self.watch.latest.get(pod)
            return event and event.status == "Pending"

        def verdict():
            found = kubectl.get(["pod", pod])["status"].get("conditions", [])
            return next((one.get("message") for one in found if one.get("reason") == "Unschedulable"), None)

        self.run.wait(f"{pod} Pending", 60, waits, lambda: told(self.events(), pod))
        mark = self.watch.mark()
        self.run.check(
            f"{pod} cannot be scheduled", True, self.run.wait("a verdict of the scheduler", 20, verdict)
        )
        self.pause(10)
        later = states(self.watch.since(mark), pod)
        holds = all(state == "0/1 Pending 0" for state in later)
        self.run.check(f"{pod} stays Pending", holds, told(self.events(), pod))

    def kill_all(self):
        """Forced deletion of every pod at once; back when all are Ready again."""
        before = self.pod_uids()
        answer = self.run.type("delete", "pod", "-l", self.label, "--grace-period=0", "--force")
        for pod in self.pods:
            deleted = f'pod "{pod}" force deleted' in answer.out
            self.run.check(f"{pod} force deleted", deleted, answer.text())

        def replaced():
            now = self.pod_uids()
            return len(now) == len(self.pods) and not before & now

        self.run.wait("as many new pods", 180, replaced, self.now)
        self.all_ready(150)
        self.show(self.events())
        self.run.check("all Ready again, without help", True, self.now())

    def without_quorum(self, writer, remaining_serves):
        """Only the first pod is left and no node takes the others: nothing may be acknowledged."""
        one, *others = self.pods
        restarts = self.watch.latest[one].restarts
        nodes = cluster.schedulable()
        for node in nodes:
            self.run.type("cordon", node)
        self.run.type("delete", "pod", *others)
        if not remaining_serves:
            left = lambda: one in self.watch.latest and not self.watch.latest[one].serving  # noqa: E731
            self.run.wait(f"{one} not Ready", 40, left, self.now)
        before = after = None
        if writer:
            writer.catch_up()
            before = writer.last()
        words = ["exec", one, "--", "zkCli.sh", "-timeout", "5000", "create", "/no-quorum", "x"]
        answer = self.run.type(*words, limit=60)
        refused = not answer.ok and "Created" not in answer.text()
        self.run.check("a create without a quorum fails", refused, answer.text() or answer.code)
        self.pause(30)
        if writer:
            writer.catch_up()
            after = writer.last()
            # The last replies of the quorum may have been on their way.
            self.run.check("the writer is acknowledged nothing", after <= before + 1, f"{before}, {after}")
        event = self.watch.latest.get(one)
        holds = event is not None and event.status == "Running" and event.restarts == restarts
        self.run.check(f"{one} runs on, not restarted", holds, self.now())
        if event is not None:
            wanted = "Ready" if remaining_serves else "not Ready"
            self.run.check(f"{one} is {wanted}", event.serving == remaining_serves, self.now())
        for node in nodes:
            self.run.type("uncordon", node)
        self.all_ready(150)
        self.show(self.events())
        answer = self.run.type("exec", others[-1], "--", "zkCli.sh", "get", "/no-quorum")
        absent = not answer.ok and "\nx\n" not in answer.out
        self.run.check("the refused create is not there afterwards", absent, answer.text())
