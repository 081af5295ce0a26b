"""What is published for Kubernetes holds together: names, selectors, ports, flags, pod security, rules, renderings.

    python -m pytest deploy/tests                    `kubectl` and `helm` on PATH, or named by $HELM
    python -m pytest deploy/tests --update           writes the renderings anew
    python -m pytest deploy/tests --server-dry-run   lets the API server that KUBECONFIG names judge every set as well

Source: docs/spec/kubernetes.md 1, 2, 6, 7, 8, 10, 11, docs/spec/operations.md 4.
"""

import http.server
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = (ROOT / "docs/spec/kubernetes.md").read_text()
METRICS = re.search(
    r"### 4\.3.*?### 4\.5", (ROOT / "docs/spec/operations.md").read_text(), re.S
).group(0)
TUTORIAL = ROOT / "deploy/kubernetes/tutorial/zookeeper.yaml"
PRODUCTION = ROOT / "deploy/kubernetes/production"
CHART = ROOT / "deploy/helm/oxkeeper"
SNAPSHOTS = pathlib.Path(__file__).parent / "snapshots"
HELM = os.environ.get("HELM") or shutil.which("helm")
KUBECTL = shutil.which("kubectl")
# Flags of start-zookeeper that the specification names in a sentence, and ours.
OUR_FLAGS = {"--admin_port", "--metrics_port", "--log_format"}
# What Prometheus and kubelet measure of us.
FOREIGN = {"up", "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}

KUSTOMIZATIONS = sorted(
    str(file.parent.relative_to(PRODUCTION))
    for file in PRODUCTION.rglob("kustomization.yaml")
    if "kind: Component" not in file.read_text()
)
VALUES = sorted(file.name.removesuffix("-values.yaml") for file in (CHART / "ci").glob("*-values.yaml"))
SETS = ["tutorial", *(f"kustomize:{name}" for name in KUSTOMIZATIONS), *(f"helm:{name}" for name in VALUES)]
PRODUCTION_SETS = [name for name in SETS if name != "tutorial"]


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def helm(*words):
    if not HELM:
        pytest.skip("helm is not here: `go install helm.sh/helm/v3/cmd/helm@v3.19.0`")
    return subprocess.run([HELM, *words], capture_output=True, text=True, timeout=120)


def rendered(values):
    done = helm("template", "zk", str(CHART), "--kube-version", "1.30.0", "-f", str(CHART / f"ci/{values}-values.yaml"))
    assert done.returncode == 0, done.stderr
    return done.stdout


def text(name):
    if name == "tutorial":
        return TUTORIAL.read_text()
    kind, which = name.split(":")
    if kind == "helm":
        return rendered(which)
    if not KUBECTL:
        pytest.skip("kubectl is not here")
    return run("kubectl", "kustomize", str(PRODUCTION / which))


def objects(name):
    return [one for one in yaml.safe_load_all(text(name)) if one]


def of_kind(name, kind):
    return [one for one in objects(name) if one["kind"] == kind]


def pod(name):
    (stateful,) = of_kind(name, "StatefulSet")
    template = stateful["spec"]["template"]
    return stateful, template["metadata"]["labels"], template["spec"]


def selects(selector, labels):
    return bool(selector) and selector.items() <= labels.items()


def flags(container):
    return dict(word.split("=", 1) for word in container["command"][1:])


def test_the_tutorial_is_the_reference_manifest_of_the_specification():
    reference = re.search(r"## 6\..*?```yaml\n(.*?)```", SPEC, re.S).group(1)
    ours = objects("tutorial")
    for one in ours:
        if one["kind"] == "StatefulSet":
            # An image of a tag that is not `latest` has this policy anyway; it is written out for readers.
            assert one["spec"]["template"]["spec"]["containers"][0].pop("imagePullPolicy") == "IfNotPresent"
    assert ours == list(yaml.safe_load_all(reference))
    assert not re.search(r": [&*]\w", TUTORIAL.read_text()), "anchors are written out"


def test_the_tutorial_creates_its_objects_in_the_order_that_its_reader_sees():
    names = [(one["kind"], one["metadata"]["name"]) for one in objects("tutorial")]
    assert names == [
        ("Service", "zk-hs"),
        ("Service", "zk-cs"),
        ("PodDisruptionBudget", "zk-pdb"),
        ("StatefulSet", "zk"),
    ]
    assert len(flags(pod("tutorial")[2]["containers"][0])) == 17


@pytest.mark.parametrize("name", SETS)
def test_names_are_those_that_users_know(name):
    stateful, _, spec = pod(name)
    set_name = stateful["metadata"]["name"]
    assert set_name == ("coordination" if name == "helm:everything" else "zk")
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(name, "Service")}
    assert stateful["spec"]["serviceName"] == f"{set_name}-hs"
    assert {f"{set_name}-hs", f"{set_name}-cs"} <= set(services)
    assert [one["metadata"]["name"] for one in of_kind(name, "PodDisruptionBudget")] == [f"{set_name}-pdb"]
    assert spec["containers"][0]["name"] == "kubernetes-zookeeper"
    assert stateful["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "datadir"
    assert {port["name"] for port in services[f"{set_name}-hs"]["ports"]} == {"server", "leader-election", "client"}
    assert {port["name"] for port in services[f"{set_name}-cs"]["ports"]} == {"client"}


@pytest.mark.parametrize("name", SETS)
def test_every_selector_finds_the_pods_and_nothing_else_is_selected_by(name):
    stateful, labels, spec = pod(name)
    app = {"app": stateful["metadata"]["name"]}
    selectors = [stateful["spec"]["selector"]["matchLabels"]]
    selectors += [one["spec"]["selector"] for one in of_kind(name, "Service")]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in of_kind(name, "PodDisruptionBudget")]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in of_kind(name, "NetworkPolicy")]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in of_kind(name, "PodMonitor")]
    for monitor in of_kind(name, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        found = [one for one in of_kind(name, "Service") if selects(wanted, one["metadata"]["labels"])]
        assert [one["metadata"]["name"] for one in found] == [f"{app['app']}-metrics"]
        assert found[0]["metadata"]["labels"]["app"] == app["app"], "the job that the alerts look for"
    affinity = spec["affinity"]["podAntiAffinity"]
    for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution", []):
        selectors.append(term["labelSelector"]["matchLabels"])
    for term in affinity.get("preferredDuringSchedulingIgnoredDuringExecution", []):
        selectors.append(term["podAffinityTerm"]["labelSelector"]["matchLabels"])
    selectors += [one["labelSelector"]["matchLabels"] for one in spec.get("topologySpreadConstraints", [])]
    assert all(selector == app for selector in selectors), selectors
    assert selects(app, labels)


@pytest.mark.parametrize("name", SETS)
def test_addresses_of_members_that_are_not_ready_are_published_where_members_and_monitoring_look(name):
    for service in of_kind(name, "Service"):
        spec = service["spec"]
        for_clients = service["metadata"]["name"].endswith("-cs")
        assert spec.get("publishNotReadyAddresses", False) is not for_clients
        assert (spec.get("clusterIP") == "None") is not for_clients


@pytest.mark.parametrize("name", SETS)
def test_ports_of_services_policies_and_probes_are_ports_of_the_container(name):
    container = pod(name)[2]["containers"][0]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    for service in of_kind(name, "Service"):
        for port in service["spec"]["ports"]:
            assert ports[port["name"]] == port["port"]
    for policy in of_kind(name, "NetworkPolicy"):
        admitted = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        assert admitted == set(ports.values())
        own = pod(name)[0]["spec"]["selector"]["matchLabels"]
        for rule in policy["spec"]["ingress"]:
            if {ports["server"], ports["leader-election"]} & {port["port"] for port in rule["ports"]}:
                assert rule["from"] == [{"podSelector": {"matchLabels": own}}], "peers only"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if "httpGet" in container.get(probe, {}):
            assert container[probe]["httpGet"]["port"] in ports


@pytest.mark.parametrize("name", SETS)
def test_flags_exist_and_agree_with_replicas_and_ports(name):
    stateful, _, spec = pod(name)
    container = spec["containers"][0]
    section = re.search(r"### 4\.1.*?### 4\.2", SPEC, re.S).group(0)
    given = flags(container)
    assert container["command"][0] == "start-zookeeper"
    assert set(given) <= set(re.findall(r"`(--[a-z_-]+)`", section)) | OUR_FLAGS
    assert int(given["--servers"]) == stateful["spec"]["replicas"]
    ports = {str(one["containerPort"]) for one in container["ports"]}
    assert {value for flag, value in given.items() if flag.endswith("_port")} - {"0"} == ports


@pytest.mark.parametrize("name", SETS)
def test_the_pod_is_restricted(name):
    _, _, spec = pod(name)
    assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True and context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (1000, 1000, 1000)
    assert context["fsGroupChangePolicy"] == "OnRootMismatch"
    assert not spec.get("initContainers")
    for container in spec["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security.get("readOnlyRootFilesystem", False) is (name != "tutorial")
        assert re.search(r"(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})$", container["image"])


@pytest.mark.parametrize("name", SETS)
def test_every_mount_has_its_volume_and_what_is_written_is_mounted(name):
    stateful, _, spec = pod(name)
    volumes = {one["name"] for one in spec.get("volumes", [])}
    volumes |= {one["metadata"]["name"] for one in stateful["spec"]["volumeClaimTemplates"]}
    mounts = {one["name"]: one["mountPath"] for one in spec["containers"][0]["volumeMounts"]}
    assert set(mounts) == volumes
    given = flags(spec["containers"][0])
    written = [given["--data_dir"], given["--data_log_dir"]]
    if name != "tutorial":
        written += [given["--conf_dir"], "/tmp"]
    for path in written:
        assert any(path == mount or path.startswith(f"{mount}/") for mount in mounts.values()), path


@pytest.mark.parametrize("name", PRODUCTION_SETS)
def test_production_starts_in_parallel_and_is_ready_with_a_quorum_only(name):
    stateful, _, spec = pod(name)
    container = spec["containers"][0]
    assert stateful["spec"]["podManagementPolicy"] == "Parallel"
    assert stateful["spec"]["minReadySeconds"] >= 10
    paths = {probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    patience = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
    assert patience >= 300
    resources = container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    (budget,) = of_kind(name, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "IfHealthyBudget"


def rules(text):
    spec = yaml.safe_load(text)
    return spec["spec"] if "spec" in spec else spec


def names_in(expression):
    """Names of metrics in an expression of Prometheus."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", expression)
    bare = re.sub(r"\b(by|on|unless on|without|ignoring)\s*\([^)]*\)", "", bare)
    functions = set(re.findall(r"\b([a-z_]+)\s*\(", bare))
    words = set(re.findall(r"\b[a-z][a-z_]+\b", bare))
    return words - functions - {"unless", "and", "or", "by", "on", "without", "ignoring", "bool"}


def known(metric):
    base = re.sub(r"_(sum|count)$", "", metric)
    if metric in FOREIGN:
        return True
    if metric in ("jvm_memory_bytes_used", "jvm_memory_bytes_max"):
        return "jvm_memory_bytes_" in METRICS
    return any(re.search(rf"`{one}`", METRICS) for one in (metric, base))


def test_alerts_are_the_same_everywhere_and_name_metrics_that_exist():
    component = rules((PRODUCTION / "overlays/monitoring/prometheusrule.yaml").read_text())
    assert component == rules((CHART / "files/rules.yaml").read_text())
    for rule in itertools.chain.from_iterable(group["rules"] for group in component["groups"]):
        found = names_in(rule["expr"])
        assert found and all(known(one) for one in found), (rule["alert"], found)


def test_the_dashboard_names_metrics_that_exist():
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) > 20
    for expression in expressions:
        found = names_in(expression)
        assert found and all(known(one) for one in found), (expression, found)


def test_rules_and_dashboard_of_a_release_look_for_its_own_pods():
    for one in objects("helm:everything"):
        if one["kind"] == "PrometheusRule":
            assert 'job="coordination"' in str(one) and 'job="zk"' not in str(one)
            assert "-coordination-[0-9]+" in str(one)
        if one["kind"] == "ConfigMap":
            (text,) = one["data"].values()
            variables = {each["name"]: each["query"] for each in json.loads(text)["templating"]["list"]}
            assert variables["job"] == "coordination"


@pytest.mark.parametrize("values", VALUES)
def test_the_chart_is_linted_clean(values):
    done = helm("lint", "--strict", str(CHART), "-f", str(CHART / f"ci/{values}-values.yaml"))
    assert done.returncode == 0 and "[WARNING]" not in done.stdout, done.stdout


@pytest.mark.parametrize("values", VALUES)
def test_the_rendering_is_the_one_on_record(values, request):
    snapshot = SNAPSHOTS / f"{values}.yaml"
    found = rendered(values)
    if request.config.getoption("--update"):
        snapshot.parent.mkdir(exist_ok=True)
        snapshot.write_text(found)
    assert snapshot.read_text() == found, "after a wanted change: python -m pytest deploy/tests --update"


@pytest.mark.parametrize(
    "wrong, named",
    [
        ("replicas=0", "/replicas"),
        ("ports.client=70000", "/ports/client"),
        ("prots.client=2181", "prots"),
        ("image.tag=latest", "/image/tag"),
        ("server.logLevel=LOUD", "/server/logLevel"),
        ("storage.data.size=20", "/storage/data/size"),
        ("server.extraFlags={--servers=5}", "/server/extraFlags/0"),
        ("podLabels.app=other", "/podLabels/app"),
        ("ports.server=2181", "are both 2181"),
        ("server.minSessionTimeout=50000", "server.minSessionTimeout (50000) is more than"),
        ("fullnameOverride=zk.west", "/fullnameOverride"),
        ("podMonitor.enabled=true,serviceMonitor.enabled=true", "enable one"),
        ("prometheusRule.enabled=true", "enable one"),
        ("preStopSleepSeconds=30", "terminationGracePeriodSeconds"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(wrong, named):
    done = helm("template", "zk", str(CHART), "--kube-version", "1.30.0", "--set", wrong)
    assert done.returncode != 0 and named in done.stderr, done.stderr


@pytest.mark.parametrize("release", ["zk.west", "z" * 53])
def test_a_release_that_cannot_name_an_ensemble_is_refused(release):
    done = helm("template", release, str(CHART), "--kube-version", "1.30.0")
    assert done.returncode != 0 and "cannot name an ensemble" in done.stderr, done.stderr


def test_numbers_of_a_million_and_more_are_written_in_digits(tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text("server: {maxSessionTimeout: 1200000, maxClientCnxns: 1000000}")
    done = helm("template", "zk", str(CHART), "--kube-version", "1.30.0", "-f", str(values))
    assert "--max_session_timeout=1200000\n" in done.stdout, done.stderr
    assert "--max_client_cnxns=1000000\n" in done.stdout


class Cluster(http.server.BaseHTTPRequestHandler):
    """As much of an API server as says how many members the ensemble has."""

    members = 3

    def do_GET(self):
        group = {"groupVersion": "apps/v1", "version": "v1"}
        kind = {"name": "statefulsets", "kind": "StatefulSet", "namespaced": True, "verbs": ["get"]}
        one = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "zk"}}
        answers = {
            "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": []},
            "/apis": {
                "kind": "APIGroupList",
                "groups": [{"name": "apps", "versions": [group], "preferredVersion": group}],
            },
            "/apis/apps/v1": {"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": [kind]},
            "/apis/apps/v1/namespaces/west/statefulsets/zk": one | {"spec": {"replicas": self.members}},
        }
        found = answers.get(self.path.split("?")[0])
        body = json.dumps(found or {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("members, wanted, refused", [(3, 3, False), (3, 5, True), (5, 3, True), (0, 5, False)])
def test_the_number_of_members_of_an_ensemble_that_runs_cannot_be_changed(tmp_path, members, wanted, refused):
    handler = type("Cluster", (Cluster,), {"members": members})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = tmp_path / "kubeconfig"
        config.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "here",
                    "clusters": [
                        {"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}
                    ],
                    "contexts": [{"name": "here", "context": {"cluster": "here", "user": ""}}],
                }
            )
        )
        words = ["--dry-run=server", "--kubeconfig", str(config), "-n", "west", "--set", f"replicas={wanted}"]
        done = helm("template", "zk", str(CHART), "--kube-version", "1.30.0", *words)
        server.shutdown()
    if refused:
        assert done.returncode != 0 and f"the ensemble has {members} members" in done.stderr, done.stderr
    else:
        assert done.returncode == 0 and f"--servers={wanted}\n" in done.stdout, done.stderr


def test_the_component_for_monitoring_selects_the_pods_of_the_base():
    if not KUBECTL:
        pytest.skip("kubectl is not here")
    component = yaml.safe_load_all(run("kubectl", "kustomize", str(PRODUCTION / "overlays/monitoring")))
    monitors = [one["spec"] for one in component if one["kind"] == "PodMonitor"]
    _, labels, spec = pod("kustomize:base")
    ports = {one["name"] for one in spec["containers"][0]["ports"]}
    assert len(monitors) == 1 and selects(monitors[0]["selector"]["matchLabels"], labels)
    assert {one["port"] for one in monitors[0]["podMetricsEndpoints"]} <= ports
    assert labels[monitors[0]["jobLabel"]] == "zk", "the job that the alerts look for"


def test_monitoring_without_a_metrics_port_is_refused():
    words = ["--kube-version", "1.30.0", "--set", "podMonitor.enabled=true", "--set", "ports.metrics=0"]
    done = helm("template", "zk", str(CHART), *words)
    assert done.returncode != 0 and "ports.metrics is 0" in done.stderr


@pytest.fixture(scope="module")
def namespace(request):
    """A namespace that admits restricted pods only, on the cluster that KUBECONFIG names."""
    if not request.config.getoption("--server-dry-run"):
        pytest.skip("--server-dry-run is not given")
    name = f"oxkeeper-dry-run-{os.getpid()}"
    run("kubectl", "create", "namespace", name)
    run("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/warn=restricted")
    yield name
    run("kubectl", "delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("name", SETS)
def test_an_api_server_accepts_the_set(name, namespace):
    resources = run("kubectl", "api-resources", "--no-headers", "-o", "name")
    wanted = [
        one
        for one in objects(name)
        if "monitoring.coreos.com" not in one["apiVersion"] or "podmonitors.monitoring" in resources
    ]
    done = subprocess.run(
        ["kubectl", "-n", namespace, "apply", "--dry-run=server", "-f", "-"],
        input=yaml.safe_dump_all(wanted),
        capture_output=True,
        text=True,
        timeout=120,
    )
    # The server warns of a pod that is not restricted.
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    assert done.stdout.count("(server dry run)") == len(wanted), done.stdout
