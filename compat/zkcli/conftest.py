"""Servers for the tests of the shell that scripts type.

    python3 -m pytest compat/zkcli             compares with expected.txt; needs no JVM
    python3 -m pytest compat/zkcli --record    writes expected.txt by the shell of Apache ZooKeeper 3.9.5

The server is ours, named by $OXKEEPER_BIN or the release build.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="write what the reference's shell answers")


@pytest.fixture
def server(tmp_path):
    """A new server of ours, serving."""
    running = harness.standalone("oxkeeper", tmp_path)
    running.start().wait_serving()
    yield running
    if running.process:
        running.kill()
