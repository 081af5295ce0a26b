"""The production profile: kubernetes.md 6 (changes for production), 7, 8 on a cluster, with a writer beside."""

import json
import re

from . import kubectl, writer
from .run import Step
from .watch import first, rolling, states, told


class Production:
    """What the steps share."""

    def __init__(self, ensemble, plan, directory, cleanup, beside):
        self.ensemble = ensemble
        self.run = ensemble.run
        self.plan = plan
        self.directory = directory
        self.cleanup = cleanup
        self.beside = beside
        self.began = 0  # the watch's mark before the objects were created

    def p1(self):
        answer = self.run.type("apply", "-k", self.directory)
        self.run.check("exit 0", answer.ok, answer.text())
        created = [line for line in answer.out.splitlines() if line.endswith(" created")]
        self.run.check("every object created", len(created) == len(self.plan.objects), answer.text())
        self.began = self.ensemble.mark

    def p2(self):
        pods, watch = self.ensemble.pods, self.ensemble.watch
        self.ensemble.all_ready(180)
        events = watch.since(self.began)
        self.ensemble.show(events)
        appear = [first(events, pod, lambda event: event.kind == "ADDED") for pod in pods]
        ready = [first(events, pod, lambda event: event.serving) for pod in pods]
        holds = None not in appear and None not in ready and max(appear) < min(ready)
        self.run.check("all pods appear before any is Ready", holds, self.ensemble.now())
        seen = [
            told(events, pod) for pod in pods if any(state.endswith(" 1") for state in states(events, pod))
        ]
        self.run.check("none is restarted", not seen, "; ".join(seen))
        self.ensemble.check_consensus()

    def p3(self):
        spec = self.ensemble.spec()
        pod = spec["template"]["spec"]
        container = pod["containers"][0]
        own = container.get("securityContext", {})
        budget = (self.plan.of_kind("PodDisruptionBudget") or [{"spec": {}}])[0]["spec"]
        headless = [
            one for one in self.plan.of_kind("Service") if one["metadata"]["name"] == spec["serviceName"]
        ]
        clients = [
            one for one in self.plan.of_kind("Service") if one["metadata"]["name"] == self.plan.service
        ]
        liveness, readiness = (
            json.dumps(container.get(f"{kind}Probe")) for kind in ("liveness", "readiness")
        )
        capabilities = own.get("capabilities", {}).get("drop")
        for required, seen, wanted in (
            ("podManagementPolicy Parallel", spec.get("podManagementPolicy"), "Parallel"),
            ("minReadySeconds 10", spec.get("minReadySeconds"), 10),
            ("a startup probe", "startupProbe" in container, True),
            ("readiness asks for the quorum", bool(re.search("quorum|readyz|ready", readiness)), True),
            ("liveness does not", bool(re.search("quorum|readyz", liveness)), False),
            ("budget: maxUnavailable 1", budget.get("maxUnavailable"), 1),
            ("budget: IfHealthyBudget", budget.get("unhealthyPodEvictionPolicy"), "IfHealthyBudget"),
            (
                "publishNotReadyAddresses on the headless Service",
                headless[0]["spec"].get("publishNotReadyAddresses"),
                True,
            ),
            (
                "and not on that of the clients",
                clients[0]["spec"].get("publishNotReadyAddresses", False),
                False,
            ),
            ("read-only root file system", own.get("readOnlyRootFilesystem"), True),
            ("no privilege escalation", own.get("allowPrivilegeEscalation"), False),
            ("all capabilities dropped", capabilities, ["ALL"]),
            ("no service account token", pod.get("automountServiceAccountToken"), False),
        ):
            self.run.check(required, seen == wanted, seen)
        nodes = {self.ensemble.node_of(one) for one in self.ensemble.pods}
        self.run.check("every pod on a node of its own", len(nodes) == len(self.ensemble.pods), nodes)

    def p4(self):
        """Health and metrics, as a probe and Prometheus would read them, through the API server."""
        pod = self.ensemble.pods[0]
        ports = {port["containerPort"] for port in self.ensemble.container().get("ports", [])}
        base = f"/api/v1/namespaces/{kubectl.NAMESPACE}/pods/{pod}"
        for port, path, wanted in (
            (8080, "readyz", ""),
            (8080, "livez", ""),
            (7000, "metrics", "znode_count"),
        ):
            if port not in ports:
                self.run.check(f"port {port} is declared", False, sorted(ports))
                continue
            answer = self.run.type("get", "--raw", f"{base}:{port}/proxy/{path}", limit=30, show=5)
            self.run.check(
                f"port {port} answers /{path}", answer.ok and wanted in answer.out, answer.text()[:200]
            )

    def p5(self):
        answer = self.run.type("rollout", "restart", f"sts/{self.ensemble.name}")
        wanted = f"statefulset.apps/{self.ensemble.name} restarted\n"
        self.run.check("restarted", answer.out == wanted, answer.text())
        self.ensemble.rolled_out()
        self.ensemble.all_ready(60)
        self.ensemble.show(self.ensemble.events())
        self.run.checks(rolling(self.ensemble.events(), self.ensemble.pods[::-1]))
        self.ensemble.check_consensus()

    def p6(self):
        roles = self.ensemble.roles()
        leader = next((pod for pod, role in roles.items() if role == "leader"), None)
        self.run.check("there is a leader", leader is not None, roles)
        before = self.ensemble.pod_uids()
        self.run.type("delete", "pod", leader, "--grace-period=0", "--force")
        self.run.wait("a new pod", 60, lambda: len(self.ensemble.pod_uids() - before) == 1)
        self.ensemble.all_ready(120)
        self.ensemble.show(self.ensemble.events())
        others = [pod for pod in self.ensemble.pods if pod != leader]
        restarted = [
            told(self.ensemble.events(), pod) for pod in others if self.ensemble.watch.latest[pod].restarts
        ]
        self.run.check("the others are not restarted", not restarted, "; ".join(restarted))
        self.ensemble.check_consensus()

    def p7(self):
        self.ensemble.kill_all()
        self.ensemble.check_consensus()

    def p8(self):
        self.ensemble.without_quorum(self.beside.writer, remaining_serves=False)
        self.ensemble.check_consensus()

    def w1(self):
        self.beside.start(self.ensemble)

    def p9(self):
        answer = self.run.type("delete", "-k", self.directory)
        self.run.check("exit 0", answer.ok, answer.text())
        self.ensemble.all_gone()
        answer = self.run.type("delete", "pvc", "-l", self.ensemble.label)
        gone = re.findall(r'persistentvolumeclaim "\S+" deleted', answer.out)
        self.run.check("the claims are deleted", len(gone) >= len(self.ensemble.pods), answer.text())
        left = [one for one in self.cleanup.ours.found() if writer.NAME not in one]
        self.run.check("nothing is left but the writer", not left, ", ".join(left) or "nothing")

    def steps(self, with_writer):
        delete = "kubectl delete pod {} --grace-period=0 --force"
        of = f"sts/{self.ensemble.name}"
        rows = [
            Step("P1", f"kubectl apply -k {self.directory}", "every object created", self.p1, vital=True),
            Step(
                "P2",
                f"kubectl get pods -w -l {self.ensemble.label}",
                "started in parallel, a quorum, all Ready",
                self.p2,
                vital=True,
            ),
            Step("P3", f"kubectl get {of} -o yaml", "the settings of kubernetes.md 6, production", self.p3),
            Step(
                "P4",
                "kubectl get --raw …:8080/proxy/readyz, …:7000/proxy/metrics",
                "health and metrics answer",
                self.p4,
            ),
            Step(
                "P5",
                f"kubectl rollout restart {of}",
                "one at a time, highest first; nothing lost",
                self.p5,
                vital=True,
                writer=True,
            ),
            Step(
                "P6",
                delete.format("<leader>"),
                "a new leader; nothing lost",
                self.p6,
                vital=True,
                writer=True,
            ),
            Step(
                "P7",
                delete.format(f"-l {self.ensemble.label}"),
                "all Ready again; nothing lost",
                self.p7,
                vital=True,
                writer=True,
            ),
            Step(
                "P8",
                "kubectl delete pod <all but one>, with no node for them",
                "not Ready, not restarted, no write; then all Ready",
                self.p8,
                writer=True,
            ),
            Step("P9", f"kubectl delete -k {self.directory}; kubectl delete pvc …", "nothing left", self.p9),
        ]
        if with_writer:
            write = f"oxkeeper journal write --connect {self.plan.service}:2181 --rate 100, in a pod"
            check = f"oxkeeper journal check --connect {self.plan.service}:2181"
            rows.insert(4, Step("W1", write, "a client writes from here on", self.w1))
            rows.insert(-1, Step("W2", check, "no acknowledged write is lost", self.beside.final))
        return rows
