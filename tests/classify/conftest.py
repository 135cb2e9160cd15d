"""Fixtures of the link: bundles on disk, node processes, an authority."""

import itertools

import pytest

from ids_appliance.classify.bundle import save_bundle
from tests.classify.nodes import NodeProcess


@pytest.fixture(scope="session")
def bundle_path(small_bundle, tmp_path_factory):
    """The small bundle on disk; not to be changed."""
    path = tmp_path_factory.mktemp("bundle") / "small"
    save_bundle(small_bundle, path)
    return path


@pytest.fixture
def swap_path(small_bundle, tmp_path):
    """A copy of the small bundle that a test may overwrite."""
    save_bundle(small_bundle, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def start_node(bundle_path, tmp_path):
    """Start nodes that end with the test."""
    nodes = []
    number = itertools.count()

    def start(model=bundle_path, **options):
        nodes.append(NodeProcess(model, tmp_path / f"node{next(number)}.log", **options))
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()


@pytest.fixture(scope="session")
def plain_node(bundle_path, tmp_path_factory):
    """One node for all tests that do it no harm."""
    node = NodeProcess(bundle_path, tmp_path_factory.mktemp("node") / "log")
    yield node
    node.close()


@pytest.fixture(scope="session")
def json_node(bundle_path, tmp_path_factory):
    """One node that speaks JSON, for all tests that do it no harm."""
    log = tmp_path_factory.mktemp("node") / "log"
    node = NodeProcess(bundle_path, log, options=("--plaintext", "--transport", "json"))
    yield node
    node.close()
