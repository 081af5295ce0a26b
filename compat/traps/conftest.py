"""Servers and clients for the trap tests.

    python3 -m pytest compat/traps --kinds apache-3.9.5     proves the tests
    python3 -m pytest compat/traps --kinds oxkeeper         tests our server
    python3 -m pytest compat/traps --target 127.0.0.1:2181  tests a running server

A running server must have what VARIANTS["main"] names; tests that need another variant,
a restart or an ensemble are skipped with `--target`.
"""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import harness  # noqa: E402
import rawclient as wire  # noqa: E402

PROPERTIES = {
    "zookeeper.DigestAuthenticationProvider.superDigest": wire.SUPER_DIGEST,
    "znode.container.checkIntervalMs": "300",
}
MAIN = {"tickTime": 200, "maxSessionTimeout": 60000, "initLimit": 50, "syncLimit": 25,
        "4lw.commands.whitelist": None}
#: name -> zoo.cfg lines beside the usual ones of the harness; None leaves a line out
VARIANTS = {
    "main": MAIN,
    "no-ttl": {**MAIN, "extendedTypesEnabled": None},
    "all-words": {**MAIN, "4lw.commands.whitelist": "*"},
    "quota": {**MAIN, "enforceQuota": "true"},
    "dual-stack": {**MAIN, "clientPortAddress": None},
}


def pytest_addoption(parser):
    parser.addoption("--target", help="host:port[,host:port...] of running servers to test")
    try:
        parser.addoption("--kinds", default="oxkeeper", help="comma-separated kinds of server to start")
    except ValueError:
        pass  # the suite next door, run together with this one, has added it


def pytest_generate_tests(metafunc):
    if "kind" in metafunc.fixturenames:
        kinds = metafunc.config.getoption("--kinds", "oxkeeper").split(",")
        metafunc.parametrize("kind", kinds, scope="session")


def configure(server, settings):
    server.settings = {k: v for k, v in {**server.settings, **settings}.items() if v is not None}
    server.jvm_flags = [f"-D{key}={value}" for key, value in PROPERTIES.items()]


def start(kind, directory, name):
    """A standalone server of a variant, serving."""
    server = harness.standalone(kind, directory)
    configure(server, VARIANTS[name])
    server.write_config()
    if name == "dual-stack":
        lines = server.config.read_text().splitlines(keepends=True)
        server.config.write_text("".join(x for x in lines if "clientPortAddress" not in x))
    return server.start(write_config=False).wait_serving()


def address_of(server):
    return ("127.0.0.1", server.client_port)


@pytest.fixture(autouse=True)
def _end_servers():
    """Servers are started on demand and shared, so no test ends what it started."""


@pytest.fixture(scope="session")
def targets(request):
    text = request.config.getoption("--target", None)
    if not text:
        return None
    pairs = [part.rsplit(":", 1) for part in text.split(",")]
    return [(host, int(port)) for host, port in pairs]


@pytest.fixture(scope="session")
def variant(kind, targets, tmp_path_factory):
    """Function: the address of the one server of a named variant."""
    running = {}

    def get(name):
        if targets:
            if name != "main":
                pytest.skip(f"needs a server of variant {name}")
            return targets[0]
        if name not in running or not running[name].alive():
            running[name] = start(kind, tmp_path_factory.mktemp(name), name)
        return address_of(running[name])

    yield get
    for server in running.values():
        if server.process:
            server.kill()


@pytest.fixture
def fresh(kind, targets, tmp_path):
    """A server of its own for one test, new and quiet."""
    if targets:
        pytest.skip("needs a new server")
    server = start(kind, tmp_path, "main")
    yield server
    if server.process:
        server.kill()


@pytest.fixture(scope="session")
def ensemble(kind, targets, tmp_path_factory):
    """Addresses of three servers of one ensemble."""
    if targets:
        if len(targets) < 3:
            pytest.skip("needs three servers")
        yield targets
        return
    group = harness.Ensemble([kind] * 3, tmp_path_factory.mktemp("ensemble"))
    for server in group:
        configure(server, VARIANTS["main"])
    group.start()
    yield [address_of(server) for server in group]
    group.kill_all()


@pytest.fixture
def connect(variant):
    """Function: a new client, on the main server unless told; sessions end with the test."""
    clients = []

    def make(address=None, **fields):
        client = wire.Client.connect(address or variant("main"), **fields)
        clients.append(client)
        return client

    yield make
    for client in clients:
        try:
            client.close()
        except (wire.Closed, TimeoutError, AssertionError, OSError):
            client.drop()


@pytest.fixture
def client(connect):
    return connect()


@pytest.fixture
def root(request, connect):
    """A node named after the test, removed with all below it afterwards."""
    path = "/" + re.sub(r"\W+", "-", request.node.name)[:40]
    keeper = connect()
    keeper.call(*wire.auth("digest", wire.SUPER_PASSWORD))
    remove(keeper, path)
    keeper.call(*wire.create(path)).ok()
    yield path
    remove(keeper, path)


def remove(client, path):
    for name in client.call(*wire.get_children(path)).value or []:
        remove(client, f"{path}/{name}")
    client.call(*wire.delete(path))
