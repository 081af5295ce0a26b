"""A data directory written by one kind of server is served by another, which shows the same tree."""

import pytest
from clients import differences
from harness import Ensemble, standalone, unavailable
from population import populate, shown

APACHE = ("apache-3.8.0", "apache-3.9.5")
# Rolls the log and takes snapshots every 50 to 100 transactions.
SNAP_COUNT = 100


@pytest.fixture(params=APACHE)
def apache(request, kind):
    if request.param == kind:
        pytest.skip("the same kind")
    if reason := unavailable(request.param):
        pytest.fail(reason)
    return request.param


def serve_with(server, kind):
    server.kind = kind
    return server.start().wait_serving()


def assert_handed_over(server, clients, writer, reader):
    """Writes with one kind, kills it -9, reads with the other."""
    serve_with(server, writer)
    populate(server)
    before = shown(clients, server)
    clients.close()
    server.kill()
    serve_with(server, reader)
    assert not (found := differences(before, shown(clients, server))), found
    assert any("ephemeral" in path for path in before)


def test_a_directory_of_ours_starts_under_apache(kind, apache, clients, tmp_path):
    assert_handed_over(standalone(kind, tmp_path, snapCount=SNAP_COUNT), clients, kind, apache)


def test_a_directory_of_apache_starts_under_ours(kind, apache, clients, tmp_path):
    assert_handed_over(standalone(kind, tmp_path, snapCount=SNAP_COUNT), clients, apache, kind)


def test_a_cleanly_stopped_directory_goes_back_and_forth(kind, apache, clients, tmp_path):
    server = standalone(kind, tmp_path, snapCount=SNAP_COUNT)
    for number, writer in enumerate([kind, apache, kind, apache]):
        serve_with(server, writer)
        if number:
            assert not (found := differences(before, shown(clients, server))), f"under {writer}: {found}"
        populate(server, number, writes=80)
        before = shown(clients, server)
        clients.close()
        server.stop()
    serve_with(server, kind)
    assert not (found := differences(before, shown(clients, server))), found


@pytest.mark.parametrize("direction", ["to apache", "from apache"])
def test_the_directories_of_an_ensemble_start_as_an_ensemble_of_the_other_kind(
    kind, apache, clients, tmp_path, direction
):
    writer, reader = (kind, apache) if direction == "to apache" else (apache, kind)
    group = Ensemble([writer] * 3, tmp_path, {"snapCount": SNAP_COUNT}).start()
    populate(group[0])
    before = shown(clients, group[1])
    clients.close()
    group.kill_all()
    for server in group:
        server.kind = reader
    group.start()
    for server in group:
        assert not (found := differences(before, shown(clients, server))), f"{server}: {found}"
