"""Command line and fixtures of the black-box suites."""

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import harness  # noqa: E402
from clients import Clients  # noqa: E402

DEFAULT_LIMIT_S = 120
_summaries = []


def pytest_addoption(parser):
    parser.addoption(
        "--kinds",
        default="oxkeeper",
        help=f"comma-separated kinds of server to test, of {', '.join(harness.KINDS)}",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): the test fails when it runs longer (default 120)")
    for kind in kinds(config):
        if reason := harness.unavailable(kind):
            raise pytest.UsageError(reason)


def kinds(config):
    return config.getoption("--kinds").split(",")


def pytest_generate_tests(metafunc):
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", kinds(metafunc.config), scope="session")


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
    """A failure shows the end of the log of every server that runs."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for server in harness.RUNNING:
            report.sections.append((f"log of {server}: {server.log}", server.log_tail()))


def pytest_terminal_summary(terminalreporter):
    if _summaries:
        terminalreporter.section("measured")
        for line in _summaries:
            terminalreporter.write_line(line)


@pytest.fixture
def summary():
    """Collects one line of figures for the end of the run."""
    return _summaries.append


@pytest.fixture(autouse=True)
def _end_servers():
    """Whatever a test started ends with it, unless a module-wide fixture owns it."""
    before = list(harness.RUNNING)
    yield
    for server in list(harness.RUNNING):
        if server not in before:
            if server.process.poll() is None:
                server.signal(signal.SIGCONT)
                server.kill()
            else:
                server.wait_exit(5)


@pytest.fixture
def clients():
    """Opens kazoo clients that are closed at the end of the test."""
    opened = Clients()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def ensemble(kind, tmp_path_factory):
    """Three servers of one kind, shared by the tests of a module."""
    group = harness.Ensemble([kind] * 3, tmp_path_factory.mktemp("ensemble")).start()
    yield group
    for server in group.running():
        server.kill()
