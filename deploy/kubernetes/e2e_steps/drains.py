"""T30 to T40 of docs/spec/kubernetes.md 2.5, and two steps of our own: everything killed, no quorum."""

import re

from . import cluster, kubectl
from .kubectl import Background, typed
from .run import Step, say
from .watch import states, told

DRAIN = ["--ignore-daemonsets", "--force", "--delete-emptydir-data"]
REFUSED = (
    'error when evicting pods/"zk-2" -n "default" (will retry after 5s): '
    "Cannot evict pod as it would violate the pod's disruption budget."
)


class Drains:
    """The steps that move nodes."""

    def __init__(self, tutorial, cleanup, beside):
        self.tutorial = tutorial
        self.ensemble = tutorial.ensemble
        self.run = tutorial.run
        self.watch = tutorial.watch
        self.cleanup = cleanup
        self.beside = beside
        self.nodes = []  # of zk-0, zk-1, zk-2 before the drains

    def is_cordoned(self, node):
        return bool(kubectl.get(["node", node])["spec"].get("unschedulable"))

    def t30(self):
        nodes = []
        for pod in self.ensemble.pods:
            nodes.append(self.run.type("get", "pod", pod, "--template", "{{.spec.nodeName}}").out.strip())
        self.run.check("three different nodes", len(set(nodes)) == 3 and all(nodes), ", ".join(nodes))

    def t31(self):
        self.run.type("get", "nodes")
        used = [self.ensemble.node_of(pod) for pod in self.ensemble.pods]
        others = [node for node in cluster.schedulable() if node not in used]
        for node in others[1:]:
            answer = self.run.type("cordon", node)
            self.run.check(f"node/{node} cordoned", answer.out == f"node/{node} cordoned\n", answer.text())
        left = cluster.schedulable()
        self.run.check("four schedulable nodes", len(left) == 4 and set(used) < set(left), ", ".join(left))

    def budget_allows_one(self):
        def allowed():
            return kubectl.get(["pdb", "zk-pdb"])["status"]["disruptionsAllowed"] == 1

        self.run.wait("the budget allows one disruption", 20, allowed)

    def t32(self):
        self.budget_allows_one()
        answer = self.run.type("get", "pdb", "zk-pdb")
        lines = [re.split(r"\s{2,}", line.strip()) for line in answer.out.splitlines()]
        heads = ["NAME", "MIN AVAILABLE", "MAX UNAVAILABLE", "ALLOWED DISRUPTIONS"]
        self.run.check("columns", bool(lines) and lines[0][:4] == heads, answer.text())
        self.run.check("N/A, 1, 1", lines[1][:4] == ["zk-pdb", "N/A", "1", "1"], answer.text())

    def drain(self, pod, node):
        """Drains the node and checks what kubectl prints."""
        answer = self.run.type("drain", node, *DRAIN, limit=90)
        lines = answer.text().splitlines()
        for wanted in (
            f"node/{node} cordoned",
            f"evicting pod default/{pod}",
            f"pod/{pod} evicted",
            f"node/{node} drained",
        ):
            # On a node that an earlier drain has cordoned the first line says "already cordoned".
            holds = wanted in lines or wanted.replace(" cordoned", " already cordoned") in lines
            self.run.check(wanted, holds, answer.text())
        self.run.check("exit 0", answer.ok, answer.code)

    def claim(self, pod):
        claim = kubectl.get(["pvc", f"datadir-{pod}"])
        return claim["spec"].get("volumeName")

    def t33(self):
        nodes = {pod: self.ensemble.node_of(pod) for pod in self.ensemble.pods}
        self.nodes = list(nodes.values())
        fourth = [node for node in cluster.schedulable() if node not in nodes.values()]
        volume = self.claim("zk-0")
        self.drain("zk-0", self.nodes[0])
        self.ensemble.all_ready(150)
        self.ensemble.show(self.ensemble.events())
        seen = told(self.ensemble.events(), "zk-0")
        self.run.check("zk-0 Ready again", "gone" in states(self.ensemble.events(), "zk-0"), seen)
        self.run.check(
            "on the fourth node",
            [self.ensemble.node_of("zk-0")] == fourth,
            f"{self.ensemble.node_of('zk-0')}, {fourth}",
        )
        self.run.check("with its volume", self.claim("zk-0") == volume, f"{self.claim('zk-0')}, {volume}")

    def t34(self):
        self.drain("zk-1", self.nodes[1])
        self.ensemble.stays_pending("zk-1")

    def t35(self):
        uid = kubectl.get(["pod", "zk-2"])["metadata"]["uid"]
        words = ["drain", self.nodes[2], *DRAIN]
        say(f"  $ {typed(words)}")
        drain = Background(words)
        try:
            self.run.wait("refused twice", 40, lambda: drain.text().count(REFUSED) >= 2, drain.text)
            running = not drain.ended()
        finally:
            code = drain.interrupt()
            self.run.show(drain.text())
        self.run.check(
            f"node/{self.nodes[2]} cordoned", f"node/{self.nodes[2]} cordoned" in drain.text(), drain.text()
        )
        self.run.check(REFUSED, REFUSED in drain.text(), drain.text())
        self.run.check("retried until CTRL-C", running and code != 0, f"exit {code}")
        self.run.check("the node stays cordoned", self.is_cordoned(self.nodes[2]), self.nodes[2])
        same = kubectl.get(["pod", "zk-2"])["metadata"]["uid"] == uid and self.watch.latest["zk-2"].serving
        self.run.check("zk-2 runs on", same, self.ensemble.now())

    def t36(self):
        self.same_hello("zk-0")

    def uncordon(self, node):
        answer = self.run.type("uncordon", node)
        self.run.check(f"node/{node} uncordoned", answer.out == f"node/{node} uncordoned\n", answer.text())

    def t37(self):
        self.uncordon(self.nodes[0])
        self.ensemble.all_ready(120)
        self.ensemble.show(self.ensemble.events())
        self.run.check("zk-1 leaves Pending, becomes Ready", True, told(self.ensemble.events(), "zk-1"))
        self.run.check(
            "on that node", self.ensemble.node_of("zk-1") == self.nodes[0], self.ensemble.node_of("zk-1")
        )

    def t38(self):
        self.budget_allows_one()
        self.drain("zk-2", self.nodes[2])

    def t39(self):
        self.uncordon(self.nodes[1])
        self.ensemble.all_ready(150)
        self.ensemble.show(self.ensemble.events())
        self.run.check("zk-2 rescheduled and Ready", True, told(self.ensemble.events(), "zk-2"))
        self.run.check(
            "on that node", self.ensemble.node_of("zk-2") == self.nodes[1], self.ensemble.node_of("zk-2")
        )

    # Ours.

    def same_hello(self, pod):
        stat = self.tutorial.hello(pod)
        same = stat == self.tutorial.stat
        self.run.check("every line as in T9", same, "the same" if same else stat)

    def x2(self):
        self.ensemble.kill_all()
        self.same_hello("zk-1")

    def x3(self):
        self.ensemble.without_quorum(self.beside.writer, remaining_serves=True)

    def t40(self):
        self.cleanup.uncordon()
        left = [node for node in self.cleanup.workers if node not in cluster.schedulable()]
        self.run.check("all nodes uncordoned", not left, ", ".join(left) or "all")
        volumes = {claim["spec"]["volumeName"] for claim in kubectl.get(["pvc", "-l", "app=zk"])["items"]}
        self.run.type("delete", "-f", self.tutorial.manifest)
        self.ensemble.all_gone()
        answer = self.run.type("delete", "pvc", "-l", "app=zk", limit=60)
        for pod in self.ensemble.pods:
            gone = f'persistentvolumeclaim "datadir-{pod}" deleted' in answer.out
            self.run.check(f"datadir-{pod} deleted", gone, answer.text())

        def released():
            bound = kubectl.get(["pv"]).get("items", [])
            claims = [
                one
                for one in bound
                if one["metadata"]["name"] in volumes and one["status"]["phase"] == "Bound"
            ]
            return not claims and not kubectl.get(["pvc", "-l", "app=zk"]).get("items")

        self.run.wait("no claim and no bound volume", 60, released)
        self.run.check("no claim and no bound volume are left", True, ", ".join(sorted(volumes)))

    def steps(self):
        """Rows T30 to T39, ours, and T40."""
        drain = "kubectl drain $(kubectl get pod {} --template {{{{.spec.nodeName}}}}) " + " ".join(DRAIN)
        get = "kubectl get pod zk-$i --template {{.spec.nodeName}}"
        return [
            Step("T30", f"for i in 0 1 2; do {get}; done", "three different nodes", self.t30),
            Step(
                "T31",
                "kubectl get nodes; kubectl cordon <all but four>",
                "nodes cordoned",
                self.t31,
                vital=True,
            ),
            Step("T32", "kubectl get pdb zk-pdb", "N/A, 1, allowed disruptions 1", self.t32),
            Step(
                "T33",
                drain.format("zk-0"),
                "evicted, Ready on the fourth node with its volume",
                self.t33,
                vital=True,
                writer=True,
            ),
            Step(
                "T34", drain.format("zk-1"), "evicted; zk-1 stays Pending", self.t34, vital=True, writer=True
            ),
            Step(
                "T35",
                drain.format("zk-2"),
                "refused by the budget and retried; node cordoned",
                self.t35,
                writer=True,
            ),
            Step(
                "T36",
                "kubectl exec zk-0 -- zkCli.sh get /hello",
                "world and the stat of T9",
                self.t36,
                writer=True,
            ),
            Step(
                "T37",
                "kubectl uncordon <first node>",
                "zk-1 becomes Ready",
                self.t37,
                vital=True,
                writer=True,
            ),
            Step("T38", drain.format("zk-2"), "now succeeds", self.t38, vital=True, writer=True),
            Step(
                "T39",
                "kubectl uncordon <second node>",
                "zk-2 rescheduled and Ready",
                self.t39,
                vital=True,
                writer=True,
            ),
            Step(
                "X2",
                "kubectl delete pod -l app=zk --grace-period=0 --force",
                "all Ready again, same data",
                self.x2,
                vital=True,
                writer=True,
            ),
            Step(
                "X3",
                "kubectl delete pod zk-1 zk-2, with no node for them",
                "no write without a quorum; then all Ready",
                self.x3,
                writer=True,
            ),
            Step(
                "T40",
                "kubectl uncordon …; kubectl delete -f …; kubectl delete pvc -l app=zk",
                "nothing left",
                self.t40,
            ),
        ]
