"""Options of the tests of what is published for Kubernetes."""


def pytest_addoption(parser):
    parser.addoption("--update", action="store_true", help="write the renderings of the chart anew")
    parser.addoption("--server-dry-run", action="store_true", help="ask the API server that KUBECONFIG names")
