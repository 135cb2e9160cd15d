"""Fixtures for the monitor: a machine's network to itself, a disk that is soon full."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.monitor.enclosure import Enclosure, enclosed
from tests.net.namespaces import require


@pytest.fixture
def inside() -> Iterator[Enclosure]:
    """A network of its own with a running Open vSwitch."""
    with enclosed() as one:
        yield one


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    require()
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
