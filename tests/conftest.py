"""Fixtures that all tests share: where the labelled captures are, and a small model."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.bundles import random_bundle

ROOT = Path(__file__).resolve().parent.parent

# Whether a test passes must depend on neither the machine's speed nor luck: the everyday suite
# looks at the same examples each time, `--hypothesis-profile=searching` looks for new ones.
settings.register_profile(
    "everyday",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("searching", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("everyday")

# What a script starts in the background ignores SIGINT, and every command under test would inherit
# that.
signal.signal(signal.SIGINT, signal.default_int_handler)


APART = frozenset(
    ("architecture", "classify", "config_file", "ext", "fuzz", "policy", "reference", "train")
)
"""Folders whose tests compute and talk to themselves only."""


@pytest.hookimpl
def pytest_collection_modifyitems(config, items):
    """Let `make test` run what only computes, file by file, beside all that needs the machine.

    Namespaces, interfaces, tables of the kernel and Open vSwitch are one machine's: tests with
    them stay in one process, one after the other.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        alone = folder in APART and item.get_closest_marker("net") is None
        item.add_marker(pytest.mark.xdist_group(str(item.path) if alone else "machine"))


@pytest.fixture(scope="session")
def data_dir():
    """Directory of the labelled captures (labels.json); skips where there is none."""
    path = Path(os.environ.get("IDS_DATA", ROOT.parent / "shared" / "data"))
    if not (path / "labels.json").is_file():
        pytest.skip(f"no labelled captures at {path}: set IDS_DATA")
    return path


@pytest.fixture(scope="session")
def small_bundle():
    """A random model of 10 trees and 12 features."""
    return random_bundle(1)


@pytest.fixture(scope="session")
def other_bundle():
    """Another random model, with other features and cuts than `small_bundle`."""
    return random_bundle(2)
