"""Fixtures of the container tests: images, a node to run pods on, a limit for every test."""

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pods  # noqa: E402

DEFAULT_LIMIT_S = 90
_summaries = []
_nodes = []
_reason = pods.impossible()


def pytest_configure(config):
    # So that fixtures end what they started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line("markers", "limit(seconds): the test fails when it runs longer (default 90)")


def pytest_collection_modifyitems(items):
    if _reason:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=f"no pods on this machine: {_reason}"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """Bounds every test in time, without a plugin."""
    marker = item.get_closest_marker("limit")
    seconds = marker.args[0] if marker else DEFAULT_LIMIT_S

    def expired(_number, _frame):
        raise AssertionError(f"the test was stopped after its limit of {seconds} s")

    previous = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the end of what every container wrote."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for node in _nodes:
            for pod in node.pods:
                if pod.starts:
                    report.sections.append((f"{pod}, start {pod.starts}", pod.said()))


def pytest_terminal_summary(terminalreporter):
    if _reason:
        terminalreporter.section("container tests SKIPPED")
        terminalreporter.write_line(f"no pods on this machine: {_reason}")
    if _summaries:
        terminalreporter.section("measured")
        for line in _summaries:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def summary():
    """Collects one line of figures for the end of the run."""
    return _summaries.append


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Both images by name, unpacked."""
    found = pods.archives()
    missing = {"tutorial", "production"} - found.keys()
    assert not missing, f"no archive of {missing}; `cargo xtask image NAME` builds one"
    directory = tmp_path_factory.mktemp("images")
    return {name: pods.Image(archive, directory) for name, archive in found.items()}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A network for the pods of a module; ends all of them."""
    with pods.Node(tmp_path_factory.mktemp("node")) as node:
        _nodes.append(node)
        yield node
        _nodes.remove(node)
