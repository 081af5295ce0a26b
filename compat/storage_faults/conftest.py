"""Options of the storage-fault trials."""


def pytest_addoption(parser):
    try:
        parser.addoption("--kinds", default="oxkeeper", help="comma-separated kinds of server to start")
    except ValueError:
        pass  # the suite next door, run together with this one, has added it


def pytest_generate_tests(metafunc):
    if "kind" in metafunc.fixturenames:
        kinds = metafunc.config.getoption("--kinds", "oxkeeper").split(",")
        metafunc.parametrize("kind", kinds, scope="session")
