"""What will be created, the cluster the run finds, and the way it leaves it."""

import json

from . import kubectl, writer
from .kubectl import typed
from .run import say


class Refused(Exception):
    """The run must not begin here."""


def _taints(node):
    return [
        taint for taint in node["spec"].get("taints", []) if taint["effect"] in ("NoSchedule", "NoExecute")
    ]


def _ready(node):
    conditions = node["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def schedulable():
    """Names of the nodes that take pods, in the order of `kubectl get nodes`."""
    nodes = kubectl.get(["nodes"])["items"]
    return [
        node["metadata"]["name"]
        for node in nodes
        if not node["spec"].get("unschedulable") and not _taints(node) and _ready(node)
    ]


def host_of(node):
    """What pods select the node by."""
    return kubectl.get(["node", node])["metadata"]["labels"]["kubernetes.io/hostname"]


def node_for_writer(pods):
    """A node for the writer: one without a member if there is one."""
    used = {pod["spec"].get("nodeName") for pod in pods}
    nodes = schedulable()
    return next((node for node in reversed(nodes) if node not in used), nodes[-1])


def facts():
    """What the run stands on, for the report."""
    version = kubectl.call(["version"], 30)
    lines = dict(line.split(": ", 1) for line in version.out.splitlines() if ": " in line)
    nodes = kubectl.get(["nodes"])["items"]
    runtimes = sorted({node["status"]["nodeInfo"]["containerRuntimeVersion"] for node in nodes})
    return {
        "server": lines.get("Server Version", "unknown"),
        "kubectl": lines.get("Client Version", "unknown"),
        "nodes": f"{len(nodes)}, {', '.join(runtimes)}",
    }


# Kinds in which an earlier run, or somebody's own ensemble, would be in the way.
KINDS = "statefulset,poddisruptionbudget,daemonset,pod,pvc,service"


class Plan:
    """What the manifests will create."""

    def __init__(self, objects):
        self.objects = objects
        sets = [one for one in objects if one["kind"] == "StatefulSet"]
        if len(sets) != 1:
            raise Refused(f"the manifests have {len(sets)} StatefulSets, not 1")
        self.set = sets[0]
        for one in objects:
            if one["metadata"].get("namespace", kubectl.NAMESPACE) != kubectl.NAMESPACE:
                raise Refused(
                    f"{one['kind']} {one['metadata']['name']} is for another namespace than default"
                )
        self.name = self.set["metadata"]["name"]
        self.replicas = self.set["spec"].get("replicas", 1)
        labels = self.set["spec"]["selector"]["matchLabels"]
        self.label = ",".join(f"{key}={value}" for key, value in labels.items())
        self.app = labels.get("app")
        self.names = {one["metadata"]["name"] for one in objects}
        self.image = self.set["spec"]["template"]["spec"]["containers"][0]["image"]
        services = [one for one in objects if one["kind"] == "Service" and self.serves_clients(one)]
        if not services:
            raise Refused("the manifests have no Service for clients (port 2181, not headless)")
        self.service = services[0]["metadata"]["name"]

    @staticmethod
    def serves_clients(service):
        ports = [port["port"] for port in service["spec"].get("ports", [])]
        return service["spec"].get("clusterIP") != "None" and 2181 in ports

    @staticmethod
    def read(source):
        """`source` is what kubectl takes: -f FILE or -k DIRECTORY."""
        answer = kubectl.call(["apply", *source, "--dry-run=client", "-o", "json"], 60)
        if not answer.ok:
            raise Refused(f"{source[1]}: {answer.text()}")
        found = json.loads(answer.out)
        return Plan(found["items"] if found["kind"] == "List" else [found])

    def of_kind(self, kind):
        return [one for one in self.objects if one["kind"] == kind]


class Ours:
    """Which objects belong to a run: by name, or by label `app`."""

    def __init__(self, names, app):
        self.names = {*names, writer.NAME}
        self.apps = {writer.NAME, *([app] if app else [])}

    def found(self):
        found = []
        for item in kubectl.get([KINDS]).get("items", []):
            app = (item["metadata"].get("labels") or {}).get("app")
            if item["metadata"]["name"] in self.names or app in self.apps:
                found.append(f"{item['kind']}/{item['metadata']['name']}")
        return found


def refuse_if_occupied(ours):
    """Too few workers, or something in the way."""
    answer = kubectl.call(["version"], 30)
    if not answer.ok:
        raise Refused(f"kubectl reaches no cluster:\n{answer.text()}")
    workers = schedulable()
    if len(workers) < 4:
        raise Refused(f"four schedulable nodes are needed, there are {len(workers)}: {', '.join(workers)}")
    found = ours.found()
    if found:
        raise Refused("these objects exist already; the run would destroy them: " + ", ".join(found))


class Cleanup:
    """Undoes what a run has done, whatever it was."""

    def __init__(self, delete_words, label, ours):
        self.delete_words = delete_words
        self.label = label
        self.ours = ours
        self.workers = schedulable()

    def uncordon(self):
        """Back to the nodes that took pods before the run."""
        for node in self.workers:
            if node not in schedulable():
                self.call("uncordon", node, limit=20)

    def everything(self):
        """True if nothing is left. A cluster that fails here must not hide what the run has found."""
        say("\nCleaning up")
        try:
            self.uncordon()
            self.call("delete", "daemonset", writer.NAME, "--ignore-not-found", "--wait=false")
            self.call(*self.delete_words, "--ignore-not-found", "--wait=false")
            for label in (f"app={writer.NAME}", self.label):
                if not kubectl.call(["wait", "--for=delete", "pods", "-l", label, "--timeout=40s"], 50).ok:
                    self.call("delete", "pods", "-l", label, "--grace-period=0", "--force")
            self.call("delete", "pvc", "-l", self.label, "--ignore-not-found", "--timeout=30s", limit=40)
            left = self.ours.found()
        except (RuntimeError, KeyError) as error:
            left = [str(error)]
        if left:
            say("  left over: " + ", ".join(left))
        return not left

    def call(self, *words, limit=30):
        say(f"  $ {typed(words)}")
        for line in kubectl.call(list(words), limit).text().splitlines():
            say(f"  | {line}")
