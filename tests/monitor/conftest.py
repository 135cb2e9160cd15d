"""Fixtures for the monitor: a machine's network to itself."""

from collections.abc import Iterator

import pytest

from tests.monitor.enclosure import Enclosure, enclosed


@pytest.fixture
def inside() -> Iterator[Enclosure]:
    """A network of its own with a running Open vSwitch."""
    with enclosed() as one:
        yield one
